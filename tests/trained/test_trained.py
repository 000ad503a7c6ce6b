"""Trained learners: what is saved comes back, labels are anyone's, few programs are compiled."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

import metakit
from metakit.data.encodings import text_encoding
from metakit.trained import Inputs, MadeOf, Trained

PICTURES = Inputs((8, 8, 1), 'uint8', 20.0, 50.0)
NUMBERS = Inputs((3,), 'float32', 0.0, 1.0)
MADE = {
  'prototypical': (MadeOf('prototypical', 'conv4:width=4,depth=2', 5, num_classes=9), PICTURES),
  'maml': (MadeOf('maml:inner_steps=2', 'mlp:width=8,depth=1', 4, num_classes=9), NUMBERS),
  'regression': (MadeOf('maml', 'mlp:width=8,depth=1', 2, 'squared_error'), NUMBERS),
}


@functools.cache
def made(name):
  parts, inputs = MADE[name]
  classifies = parts.objective == 'cross_entropy'
  x = np.zeros((parts.num_outputs, *inputs.shape), inputs.dtype)
  y = np.arange(parts.num_outputs, dtype=np.int32)
  if not classifies:
    y = np.zeros((len(x), len(x)), np.float32)
  episode = metakit.Episode(metakit.Examples(x, y), metakit.Examples(x, y))
  params = jax.device_get(jax.jit(parts.make().init)(jax.random.key(1), episode))
  return Trained(parts.make, params, inputs, parts.num_outputs, classifies, parts, {'seed': 3})


def examples(inputs, number, seed=0):
  draw = np.random.default_rng(seed)
  if inputs.dtype == 'uint8':
    x = np.zeros((number, *inputs.shape), np.uint8)
    x[:, 2:6, 2:6] = draw.integers(0, 256, (number, 4, 4, 1))
    return x
  return draw.normal(size=(number, *inputs.shape)).astype(np.float32)


@pytest.mark.parametrize('name', MADE)
def test_what_is_saved_predicts_as_the_learner_does(name, tmp_path):
  """Padding, labels and the way through a file change nothing."""
  trained = made(name)
  metakit.save(tmp_path / 'it.safetensors', trained)
  loaded = metakit.load(tmp_path / 'it.safetensors')
  assert dataclasses.replace(loaded, params=0) != trained and loaded.card == {'seed': 3}
  assert (loaded.made_of, loaded.inputs) == (trained.made_of, trained.inputs)
  jax.tree.map(np.testing.assert_array_equal, loaded.params, trained.params)
  x, queries = examples(trained.inputs, 6), examples(trained.inputs, 11, seed=1)
  numbers = np.array([0, 1, 2, 1, 0, 2], np.int32)
  y = np.array(['ant', 'bee', 'cow'])[numbers]
  if not trained.classifies:
    numbers = y = np.random.default_rng(2).normal(size=(6, 2)).astype(np.float32)
  learner = trained.make(3) if name == 'prototypical' else trained.learner
  fitted = jax.jit(learner.adapt)(jax.random.key(0), trained.params, metakit.Examples(x, numbers))
  expected = np.asarray(jax.jit(learner.predict)(fitted, queries))
  mine = loaded.adapt(x, y)
  if not trained.classifies:
    np.testing.assert_allclose(mine.predict(queries), expected, atol=1e-5)
    with pytest.raises(ValueError, match='no classes'):
      mine.predict_proba(queries)
    return
  expected = expected[:, :3]
  np.testing.assert_allclose(mine.outputs(queries), expected, atol=1e-5, rtol=1e-5)
  assert (
    mine.predict(queries).tolist() == np.array(['ant', 'bee', 'cow'])[expected.argmax(1)].tolist()
  )
  likely = np.exp(expected) / np.exp(expected).sum(1, keepdims=True)
  np.testing.assert_allclose(mine.predict_proba(queries), likely, atol=1e-5)


def test_any_number_of_examples_takes_few_programs():
  trained = dataclasses.replace(made('prototypical'), _programs={})
  x = examples(PICTURES, 40)
  for number in (2, 5, 8, 9, 16, 30):
    fitted = trained.adapt(x[:number], np.arange(number) % 2)
    for queries in (1, 3, 8, 10, 33):
      assert len(fitted.predict(x[:1].repeat(queries, 0))) == queries
  (programs,) = trained._programs.values()
  assert programs.adapt._cache_size() == 3  # 8, 16, 32
  assert programs.predict._cache_size() == 3  # 8, 16, 64
  many = fitted.predict(x[np.arange(1200) % 40])  # in parts
  assert many.tolist() == np.tile(fitted.predict(x), 30).tolist()


@pytest.mark.parametrize('name', MADE)
def test_extended_equals_adapted_to_all(name):
  trained = made(name)
  x = examples(trained.inputs, 7)
  y = np.array([7, 8, 7, 8, 8, 8, 8]) if trained.classifies else examples(NUMBERS, 7)[:, :2]
  both = trained.adapt(x[:4], y[:4]).extend(x[4:], y[4:])
  expected = trained.adapt(x, y).outputs(x)
  np.testing.assert_allclose(both.outputs(x), expected, atol=1e-5)
  if trained.classifies:
    newer = both.extend(x[:1], [3])
    assert newer.classes.tolist() == [3, 7, 8]
    again = trained.adapt(x[[*range(7), 0]], [*y, 3])
    np.testing.assert_array_equal(newer.outputs(x), again.outputs(x))


def test_the_extend_of_a_learner_is_used():
  parts = MadeOf('class_mean_stream', 'mlp:width=8,depth=1', 3, num_classes=9)
  x, y = examples(NUMBERS, 5), [4, 5, 4, 4, 5]
  x[4] += 3
  trained = dataclasses.replace(made('prototypical'), make=parts.make, inputs=NUMBERS, _programs={})
  episode = metakit.Episode(*[metakit.Examples(x[:3], np.arange(3))] * 2)
  params = parts.make().init(jax.random.key(0), episode)
  trained = dataclasses.replace(trained, params=params, outputs=3)
  fitted = trained.adapt(x[:2], y[:2]).extend(x[2:], y[2:])
  np.testing.assert_allclose(fitted.outputs(x), trained.adapt(x, y).outputs(x), atol=1e-4)
  (programs,) = trained._programs.values()
  assert programs.extend._cache_size() == 1 and programs.adapt._cache_size() == 1


def test_a_learner_of_ones_own_is_given_where_it_is_loaded(tmp_path):
  trained = dataclasses.replace(made('prototypical'), made_of=None)
  path = tmp_path / 'own.safetensors'
  metakit.save(path, trained)
  with pytest.raises(ValueError, match="holds a learner of one's own; give it: load"):
    metakit.load(path)
  loaded = metakit.load(path, learner=trained.make)
  x = examples(PICTURES, 4)
  answers = [each.adapt(x, [0, 1, 0, 1]).outputs(x) for each in (loaded, trained)]
  np.testing.assert_array_equal(*answers)


def test_labels_are_anyones():
  trained, x = made('prototypical'), examples(PICTURES, 4)
  for y in (['b', 'a', 'b', 'a'], [5, -1, 5, -1], [True, False] * 2, np.array([2.0, 1.0] * 2)):
    fitted = trained.adapt(x, y)
    assert fitted.predict(x).tolist() == list(y)
    assert fitted.classes.tolist() == sorted(set(y))
    assert fitted.predict(x[:0]).shape == (0,) and fitted.predict_proba(x[:0]).shape == (0, 2)


def test_texts_are_encoded_as_in_training():
  encoding = text_encoding(features=64, units='words', shortest=1, longest=1)
  inputs = Inputs((64,), 'float32', 0.01, 0.1, encoding)
  parts = MadeOf('prototypical', 'mlp:width=8,depth=1', 2, num_classes=9)
  x = np.zeros((2, 64), np.float32)
  episode = metakit.Episode(*[metakit.Examples(x, np.arange(2))] * 2)
  params = parts.make().init(jax.random.key(0), episode)
  trained = Trained(parts.make, params, inputs, 2, True, parts)
  texts = ['where is it', 'how much is it']
  fitted = trained.adapt(texts, ['place', 'price'])
  assert fitted.predict(texts).tolist() == ['place', 'price']
  vectors = metakit.trained.inputs.ready(inputs, texts).x
  np.testing.assert_array_equal(fitted.outputs(vectors), fitted.outputs(texts))
  with pytest.raises(ValueError, match='example 1 of x is int, and this learner was trained on'):
    trained.adapt(['one', 2], [0, 1])
  with pytest.raises(ValueError, match='x is one text; give a list of texts'):
    fitted.predict('where')


SAME = lambda x: x
Y = [0, 1, 0, 1]
# What is said of 4 examples that were changed, and their labels.
MISTAKES = {
  '4 examples but labels of shape': ('prototypical', SAME, [0, 1, 0]),
  'y is NoneType; give one label for each': ('prototypical', SAME, None),
  'labels are float64 with fractions': ('prototypical', SAME, [0.5, 1, 2, 3]),
  'labels are of several types .int, str.': ('prototypical', SAME, ['a', 1, 'a', 1]),
  'labels are objects of NoneType, int': ('prototypical', SAME, [None, 1, 1, 1]),
  'labels have shape .4, 4.; give one for': ('prototypical', SAME, np.eye(4, dtype=int)),
  'there are no examples; give one at least': ('prototypical', lambda x: x[:0], []),
  '8 classes are more than the 4 outputs': ('maml', lambda x: np.tile(x, (2, 1)), range(8)),
  'picture 0 holds floats of 0 to': ('prototypical', lambda x: x / 2, Y),
  'pictures are an array of shape': ('prototypical', lambda x: x[0, ..., 0], [0]),
  'picture 0 has shape .8, 8, 5.; give': ('prototypical', lambda x: x.repeat(5, 3), Y),
  'which are no pixels; give uint8': ('prototypical', lambda x: x.astype(int) - 9, Y),
  'cannot read no.jpg: No such file': ('prototypical', lambda x: ['no.jpg'], [0]),
  'x has shape .4, 2., and this learner': ('maml', lambda x: x[:, :2], Y),
  'example 0 of x holds NaN or infinity': ('maml', lambda x: x * np.nan, Y),
  'x is no array of one shape': ('maml', lambda x: [[1.0], [1, 2]], [0, 1]),
  'x is <U1; give numbers': ('maml', lambda x: [['a'] * 3] * 2, [0, 1]),
  'x are pictures, and this learner was': ('maml', lambda x: ['a.jpg'], [0]),
  'targets have 3 numbers for each': ('regression', SAME, np.ones((4, 3))),
  'targets are <U1, and this learner': ('regression', SAME, list('abcd')),
  'target of example 1 is NaN or infinity': ('regression', SAME, [[0, 0], [0, np.inf]] * 2),
}


@pytest.mark.parametrize('said', MISTAKES)
def test_a_mistake_is_named_in_one_line(said):
  name, change, y = MISTAKES[said]
  with pytest.raises((ValueError, OSError), match=said) as error:
    made(name).adapt(change(examples(MADE[name][1], 4)), y)
  assert '\n' not in str(error.value)


def test_parameters_take_half_of_the_space_and_are_loaded_as_they_were_trained(tmp_path):
  trained, path = made('maml'), tmp_path / 'it.safetensors'
  metakit.save(path, trained, half=True)
  rounded = jax.tree.map(lambda leaf: leaf.astype(np.float16).astype(np.float32), trained.params)
  loaded = metakit.load(path).params
  jax.tree.map(np.testing.assert_array_equal, loaded, rounded)
  assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {np.dtype(np.float32)}
  numbers = sum(leaf.size for leaf in jax.tree.leaves(trained.params))
  assert numbers * 2 < path.stat().st_size
  metakit.save(tmp_path / 'whole.safetensors', trained)
  saved = (tmp_path / 'whole.safetensors').stat().st_size - path.stat().st_size
  assert abs(saved - numbers * 2) < 64  # of the header
  large = jax.tree.map(lambda leaf: leaf + 1e5, trained.params)
  with pytest.raises(ValueError, match='too large for float16; use half=False'):
    metakit.save(path, dataclasses.replace(trained, params=large), half=True)


def test_what_is_no_file_of_ours_is_refused(tmp_path):
  path = tmp_path / 'it.safetensors'
  metakit.save(path, made('maml'))
  whole = path.read_bytes()
  for broken, said in {
    whole[:-4]: 'is damaged',
    b'': 'is damaged',
    whole.replace(b'\\"format\\": 1', b'\\"format\\": 7'): 'format 7',
    whole.replace(b'width=8', b'width=9'): 'and the learner needs float32',
    whole.replace(b'"metakit"', b'"metaKit"'): 'not written by metakit',
  }.items():
    path.write_bytes(broken)
    with pytest.raises(ValueError, match=said):
      metakit.load(path)
  with pytest.raises(ValueError, match='does not end in'):
    metakit.save(tmp_path / 'it.npz', made('maml'))
  for nothing in (tmp_path, tmp_path / 'none', 'runs/none'):
    with pytest.raises(ValueError, match='is no workdir of a training, checkpoint or'):
      metakit.load(nothing)
