"""What flags mean: presets, kept results, workdirs and optimizers."""

import shlex

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from experiments.command_line.flags import (
  define_common,
  define_comparison,
  define_heads,
  define_sweep,
  define_training,
)
from experiments.command_line.runtime import define_processes
from experiments.output.results import read_results
from experiments.runs.compare_learners import folders
from experiments.runs.families import family
from experiments.runs.setup import DEFINING, check_fits, make_optimizer, make_setup, with_defaults
from experiments.runs.workdir import checksums_of, claim_workdir, default_workdir, read_specs
from metakit import cross_entropy
from metakit.components.head_learners import HEAD_SUPPLIED, HEADS
from metakit.components.optimizers import OPTIMIZERS
from metakit.components.specs import build, parse
from tests.experiments.commands import REPOSITORY, images_file, task


def check_training(given):
  make_optimizer(given)
  network = make_setup(given, data_dir='', budget_gib=1).specs['network']
  assert network.startswith(('conv4', 'mlp', 'transformer', 'recurrent', 'none'))


def check_sweep(given):
  assert family(given['task'], '', 2**10).measures


def check_learners(given):
  assert len(folders(given['learner'])) == len(given['learner'])
  assert (REPOSITORY / given['training']).exists()


def check_heads(given):
  made = {spec: build_head(spec) for spec in given['head']}
  assert len(made) == len(given['head'])
  protocols = [head.protocol for head in made.values()]
  assert {*protocols} == {'inductive', 'transductive'}


def build_head(spec):
  component = parse('head', HEADS, spec, supplied=HEAD_SUPPLIED)
  return build(component, num_outputs=5, objective=cross_entropy)


# What defines the flags of a binary, and what must be true of those that a preset gives.
BINARIES = {
  'train': (define_training, check_training),
  'sweep': (define_sweep, check_sweep),
  'compare_learners': (define_comparison, check_learners),
  'compare_heads': (define_heads, check_heads),
}


def test_presets_hold_flags_and_components_that_exist():
  presets = sorted((REPOSITORY / 'experiments' / 'presets').glob('*.flags'))
  assert presets
  for preset in presets:
    (command,) = (
      line for line in preset.read_text().splitlines() if line.startswith('# Command: ')
    )
    assert preset.name in command
    define, check = BINARIES[command.split()[4].removeprefix('experiments.')]
    given = parsed([f'--flagfile={preset}'], define)
    assert given['workdir'] in (None, f'runs/{preset.stem}')
    check(given)


def test_kept_results_were_trained_as_their_commands_say():
  kept = [read_results(p) for p in (REPOSITORY / 'experiments' / 'results').glob('*.json')]
  measured = [r for r in kept if r.get('status', 'measured') == 'measured']
  assert measured
  for record in measured:
    command = shlex.split(record.get('training_command', record['command']))
    assert command[:3] == ['python', '-m', 'experiments.train']
    given = parsed([a.replace('--flagfile=', f'--flagfile={REPOSITORY}/') for a in command[3:]])
    specs = make_setup(given, data_dir='', budget_gib=1).specs
    trained = {'task': record.get('training_task', record['task']), 'steps': record['steps']}
    trained |= {n: record[n] for n in ('network', 'optimizer', 'schedule', 'tasks_per_step')}
    assert {name: specs[name] for name in trained} == with_defaults(trained), command


def test_a_learner_with_networks_of_its_own_takes_none_and_is_judged_by_its_density():
  make = lambda *given: make_setup(parsed(['--task=sinusoid', *given]), data_dir='', budget_gib=1)
  setup = make('--learner=cnp:width=8')
  assert setup.specs['network'] == 'none' and setup.network(setup.task) is None
  assert setup.task.objective.kind == setup.test_task.objective.kind == 'density'
  assert make('--learner=maml', '--network=mlp').task.objective.kind == 'regression'
  with pytest.raises(ValueError, match='cnp has networks of its own; leave --network out'):
    make('--learner=cnp', '--network=mlp')
  with pytest.raises(ValueError, match='maml cannot use network none'):
    make('--learner=maml', '--network=none')


def test_a_run_goes_on_when_components_have_gained_arguments(tmp_path):
  given = parsed(['--learner=in_context', '--task=dense', '--network=recurrent'])
  specs = make_setup(given, data_dir='', budget_gib=1).specs
  earlier = {**specs, 'network': 'recurrent:width=128,depth=1,cell=lstm'}
  claim_workdir(tmp_path / 'run', earlier)
  claim_workdir(tmp_path / 'run', specs)
  other = {**specs, 'network': specs['network'].replace('dtype=none', 'dtype=bfloat16')}
  with pytest.raises(ValueError, match=r'--network is recurrent.*dtype=none there .* here'):
    claim_workdir(tmp_path / 'run', other)
  assert default_workdir(earlier) == default_workdir(specs) != default_workdir(other)
  sweep = {'task': None, 'learner': 'in_context', 'pools': '0,8'}
  claim_workdir(tmp_path / 'sweep', sweep)
  claim_workdir(tmp_path / 'sweep', sweep)


def test_a_run_does_not_go_on_with_other_data(tmp_path):
  """The same file name with rows in another order; a run of before has no checksums to compare."""
  x, y = np.arange(120, dtype=np.float32)[:, None], np.arange(120) // 6

  def run_on(labels):
    np.savez(tmp_path / 'data.npz', x=x, y=labels)
    task = f'--task=arrays:path={tmp_path}/data.npz,ways=2,shots=1,queries=2'
    setup = make_setup(parsed([task, '--network=mlp']), data_dir='', budget_gib=1)
    return {**setup.specs, 'data': checksums_of(setup)}

  first, other = run_on(y), run_on(np.random.default_rng(0).permutation(y))
  claim_workdir(tmp_path / 'run', first)
  claim_workdir(tmp_path / 'run', first)
  before = (tmp_path / 'run' / 'flags.json').read_bytes()
  with pytest.raises(ValueError, match=r'run belongs to other data: the checksum of train is .* h'):
    claim_workdir(tmp_path / 'run', other)
  assert (tmp_path / 'run' / 'flags.json').read_bytes() == before
  claim_workdir(tmp_path / 'old', {name: v for name, v in first.items() if name != 'data'})
  claim_workdir(tmp_path / 'old', other)


@pytest.mark.parametrize('text', ['{"task": "gly', '', '[1]', 'null'])
@pytest.mark.parametrize('read', [read_specs, lambda folder: claim_workdir(folder, {'seed': 0})])
def test_damaged_flags_are_said_to_be_damaged(text, read, tmp_path):
  """And not to be another run's."""
  (tmp_path / 'flags.json').write_text(text)
  with pytest.raises(ValueError, match=r'flags.json is damaged .*; restore it from a copy') as said:
    read(tmp_path)
  assert len(str(said.value).splitlines()) == 1
  assert (tmp_path / 'flags.json').read_text() == text


def parsed(arguments, define=define_training):
  """The values of a command line, of experiments.train for instance, by flag."""
  before = set(flags.FLAGS)
  define_common()
  define_processes()
  define()
  ours = set(flags.FLAGS) - before
  try:
    flags.FLAGS(['train', *arguments])
    return {name: flags.FLAGS[name].value for name in ours}
  finally:
    for name in ours:
      delattr(flags.FLAGS, name)


def test_training_may_have_more_ways_than_the_test_split_has_classes(tmp_path):
  path = images_file(tmp_path)
  given = parsed(['--network=mlp', task(path, ways=9), task(path).replace('--task', '--test_task')])
  check_fits(make_setup(given, data_dir='', budget_gib=float('inf')))
  too_many = parsed(['--network=mlp', task(path, ways=9)])
  with pytest.raises(ValueError, match='ways=9 exceeds the 4 classes'):
    check_fits(make_setup(too_many, data_dir='', budget_gib=0))


def test_gradients_are_clipped_before_the_optimizer_sees_them():
  given = {'optimizer': 'sgd:learning_rate=0.5', 'schedule': 'constant', 'steps': 2}
  optimizer, params = make_optimizer(given | {'clip_norm': 1.0}), jnp.zeros(2)
  updates, _ = optimizer.update(jnp.array([6.0, 8.0]), optimizer.init(params), params)
  np.testing.assert_allclose(updates, [-0.3, -0.4], rtol=1e-6)


# Flags of a training that change nothing of the parameters that it ends with, up to rounding.
FREE = {
  *('workdir', 'data_dir', 'table_budget_gib', 'parallel', 'tasks_at_once', 'steps_per_dispatch'),
  *('episodes', 'save_every', 'save_minutes', 'validate_every', 'validation_episodes', 'test'),
}


def test_every_flag_of_a_training_defines_it_or_changes_no_parameter():
  """A workdir belongs to the flags that define it: one left out would be continued by another."""
  others = 'coordinator', 'num_processes', 'process_id', 'meeting_seconds', 'cpu_devices'
  assert set(parsed([])) - FREE - {*others} == set(DEFINING)


def test_sgdw_decays_weights_apart_from_the_momentum():
  given = {'optimizer': 'sgdw:learning_rate=0.5,momentum=0.9,weight_decay=0.1', 'steps': 2}
  optimizer = make_optimizer(given | {'schedule': 'constant', 'clip_norm': 0.0})
  w, trace, state = 2.0, 0.0, optimizer.init(jnp.asarray(2.0))
  params = jnp.asarray(w)
  for gradient in (1.0, -3.0):
    updates, state = optimizer.update(jnp.asarray(gradient), state, params)
    params = params + updates
    trace = 0.9 * trace + gradient
    w = w - 0.5 * (trace + 0.1 * w)
  np.testing.assert_allclose(params, w, rtol=1e-6)


def test_muon_makes_matrices_orthogonal_and_leaves_the_rest_to_adamw():
  given = {'schedule': 'constant', 'clip_norm': 0.0, 'steps': 2}
  rates = 'learning_rate=0.5,weight_decay=0.25'
  rules = f'muon:{rates}', f'adamw:nesterov=true,{rates}'
  muon, adamw = (make_optimizer(given | {'optimizer': o}) for o in rules)
  values = np.random.default_rng(0).normal(size=(2, 2, 4, 2, 3)).astype(np.float32)
  params, gradient = ({'kernel': v, 'bias': v[0, 0], 'scale': v[0, 0, 0]} for v in values)
  (ours, _), (adams, _) = (o.update(gradient, o.init(params), params) for o in (muon, adamw))
  for name in ('bias', 'scale'):  # the bias of two heads, which is no matrix
    np.testing.assert_allclose(ours[name], adams[name], rtol=1e-6)
  # [2, 4, 2, 3] is the matrix [8, 6], nearer to a square than [2, 24] and [16, 3]. Five iterations
  # of Newton and Schulz leave singular values of 0.7 to 1.2, times 0.2 and the root of the longer
  # side.
  step = (ours['kernel'] / -0.5 - 0.25 * params['kernel']).reshape(8, 6)
  left, sizes, right = np.linalg.svd(step, full_matrices=False)
  np.testing.assert_allclose(sizes / (0.2 * 8**0.5), 0.95, atol=0.3)
  towards, _, back = np.linalg.svd(gradient['kernel'].reshape(8, 6), full_matrices=False)
  np.testing.assert_allclose(left @ right, towards @ back, atol=1e-4)


@pytest.mark.filterwarnings('ignore:`optimistic_adam` is deprecated', 'ignore:Specifying a key')
@pytest.mark.parametrize('name', OPTIMIZERS)
def test_every_optimizer_works_or_says_in_one_line_with_which_schedule(name):
  given = {'optimizer': name, 'steps': 10, 'clip_norm': 1.0}
  try:
    optimizer = make_optimizer(given | {'schedule': 'cosine'})
  except ValueError as error:
    assert f'--optimizer={name}:' in str(error) and '--schedule=constant' in str(error)
    optimizer = make_optimizer(given | {'schedule': 'constant'})
  params = {'kernel': jnp.ones((2, 3)), 'bias': jnp.zeros(3)}
  state = optimizer.init(params)
  for _ in range(2):  # rprop rests in its first step
    updates, state = jax.jit(optimizer.update)(params, state, params)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(updates))
  assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(updates))
