"""Exported learners: a program without metakit computes what the learner does."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors
from jax import export as jax_export

import metakit
from metakit.densities import gaussian
from metakit.trained import Inputs, Trained
from tests.learners import choice, rows
from tests.learners.judged import episode_of
from tests.learners.judged import made as made_of_row
from tests.trained.test_trained import examples, made

SCRIPT = Path(__file__).parents[2] / 'docs' / 'serve_exported.py'


def read(path):
  """What the script reads of a file: the header, the parameters, and the programs."""
  with safetensors.safe_open(path, 'numpy') as file:
    about = json.loads(file.metadata()['metakit_export'])
    arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
  programs = [jax_export.deserialize(bytearray(arrays.pop(name))) for name in ('adapt', 'predict')]
  return about, arrays, *programs


def outputs_of(path, x, y, queries):
  about, arrays, adapt, predict = read(path)
  state = adapt.call(arrays, x, y.astype(about['y_dtype']), np.ones(len(x), np.float32))
  return np.asarray(predict.call(state, queries))


@pytest.mark.parametrize('name', ['prototypical', 'maml', 'regression'])
def test_any_number_of_examples_is_computed_as_the_learner_does(name, tmp_path):
  """One file for all numbers, and for three platforms."""
  trained, path = made(name), tmp_path / 'it.safetensors'
  about = metakit.export(path, trained, ways=2 if trained.classifies else None)
  assert about.platforms == ('cpu', 'cuda', 'tpu') == read(path)[2].platforms
  assert (about.support, about.queries, about.outputs) == ('any number', 'any number', 2)
  assert json.loads(json.dumps(about)) == list(read(path)[0].values())
  for support, queries in ((2, 1), (5, 9)):
    x, y = examples(trained.inputs, support), np.arange(support) % 2
    y = y if trained.classifies else examples(trained.inputs, support)[:, :2]
    asked = examples(trained.inputs, queries, seed=1)
    expected = trained.adapt(x, y).outputs(asked)
    np.testing.assert_allclose(outputs_of(path, x, y, asked), expected, 1e-6, 1e-6)


def test_a_script_without_metakit_serves_it(tmp_path):
  trained, path = made('prototypical'), tmp_path / 'it.safetensors'
  metakit.export(path, trained, ways=2, platforms=['cpu'])
  x, y, queries = examples(trained.inputs, 4), [0, 1, 0, 1], examples(trained.inputs, 3, seed=1)
  np.savez(tmp_path / 'data.npz', x=x, y=y, queries=queries)
  program = "import runpy, sys; sys.modules['metakit'] = None; runpy.run_path(sys.argv.pop(1))"
  arguments = [SCRIPT, path, tmp_path / 'data.npz', tmp_path / 'outputs.npy']
  done = subprocess.run([sys.executable, '-c', program, *arguments], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  expected = trained.adapt(x, y).outputs(queries)
  np.testing.assert_allclose(np.load(tmp_path / 'outputs.npy'), expected, 1e-6, 1e-6)


def test_types_and_shapes_are_checked(tmp_path):
  path = tmp_path / 'it.safetensors'
  metakit.export(path, made('maml'), support=8, queries=4, platforms=['cpu'])
  about, arrays, adapt, predict = read(path)
  assert (about['support'], about['queries'], about['format']) == (8, 4, 1)
  x, y, weight = examples(made('maml').inputs, 8), np.arange(8, dtype=np.int32) % 4, np.ones(8)
  state = adapt.call(arrays, x, y, weight.astype(np.float32))
  assert predict.call(state, x[:4]).shape == (4, 4)
  for wrong in (x[:7], x[:, :2], x.astype(np.float16)):
    with pytest.raises((ValueError, TypeError), match=r'[Ss]hape|dtype|float16'):
      adapt.call(arrays, wrong, y, weight.astype(np.float32))
  with pytest.raises(ValueError, match=r'[Ss]hape'):
    predict.call(state, x)


def test_fewer_classes_than_outputs_are_the_first_outputs(tmp_path):
  path, trained = tmp_path / 'it.safetensors', made('maml')
  assert metakit.export(path, trained, ways=3, platforms=['cpu']).outputs == 3
  x, y = examples(trained.inputs, 6), np.arange(6) % 3
  expected = trained.adapt(x, y).outputs(x)
  np.testing.assert_allclose(outputs_of(path, x, y, x), expected, 1e-6, 1e-6)


MISTAKES = {
  'it.npz does not end in .safetensors': ('maml', 'it.npz', {}),
  'ways=3, and this learner predicts numbers': ('regression', 'it.safetensors', {'ways': 3}),
  '5 classes are more than the 4 outputs': ('maml', 'it.safetensors', {'ways': 5}),
  'platforms=gpu is unknown; use cpu, cuda': (
    'maml',
    'it.safetensors',
    {'platforms': ['gpu']},
  ),
}


@pytest.mark.parametrize('said', MISTAKES)
def test_a_mistake_is_named_in_one_line(said, tmp_path):
  name, file, options = MISTAKES[said]
  with pytest.raises(ValueError, match=said) as error:
    metakit.export(tmp_path / file, made(name), **options)
  assert '\n' not in str(error.value) and not list(tmp_path.iterdir())


# Rows of which a number of examples has to be given, and which (metakit.trained.exported).
FIXED = {name: {'support': 6} for name in ('maml:minibatches', 'baseline:cosine')}
# What may fail is an operation on a number of rows that is left open. Those that a learner adapts
# and predicts with are the same in these rows as in others of their learner: they differ in the
# derivative of training, the optimizer, the normalisation, or the number of steps.
ALIKE = (
  *(f'maml:{name}' for name in ('3_steps', 'adam', 'first_order', 'inductive', 'mixed', 'remat')),
  *('anil:transductive', 'imaml:unroll', 'maml_plus_plus', 'prototypical:group'),
)


def of_row(name):
  """A row as it would be loaded; with random parameters, as initial ones may hide what is lost."""
  learner, params = made_of_row(name)
  data = rows.LEARNERS[name].data
  regression = data in rows.REGRESSIONS
  outputs = 1 if regression else rows.WAYS
  inputs = Inputs(rows.SHAPES[data], 'float32', 0.0, 1.0)
  part = episode_of(name).support
  fitted = jax.eval_shape(learner.adapt, jax.random.key(0), params, part)
  sizes = jax.eval_shape(learner.predict, fitted, part.x).shape[1] // outputs
  family = gaussian if sizes == gaussian().size else None
  return Trained(lambda _: learner, params, inputs, outputs, not regression, family=family)


@pytest.mark.slow
@choice.rows(slow=(), names=set(rows.LEARNERS) - set(ALIKE))
def test_every_learner_can_be_exported(name, tmp_path):
  """For CPUs; three learners are lowered for all platforms above."""
  trained, path = of_row(name), tmp_path / 'it.safetensors'
  fixed = FIXED.get(name, {})
  if fixed:
    with pytest.raises(ValueError, match=r'any number of examples .*; give support='):
      metakit.export(path, trained, platforms=['cpu'])
  metakit.export(path, trained, platforms=['cpu'], **fixed)
  support, queries = fixed.get('support', 9), 12
  x, asked = examples(trained.inputs, support), examples(trained.inputs, queries, seed=1)
  y = np.arange(support, dtype=np.int32) % 3 if trained.classifies else x[:, :1]
  seen = metakit.Examples(x, y, np.ones(support, np.float32))
  key = metakit.keys.learner_key(metakit.keys.fixed_key(0), 0)
  learner = trained.learner
  both = jax.jit(lambda params, seen: learner.predict(learner.adapt(key, params, seen), asked))
  expected = both(trained.params, seen)
  if trained.density:  # whose mean is exported
    expected = expected[:, :1]
  np.testing.assert_allclose(outputs_of(path, x, y, asked), expected, 1e-5, 1e-5)
