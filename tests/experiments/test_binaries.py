import json
import time

import jax
import numpy as np
import pytest

from experiments.results import read_results
from tests.experiments.commands import REPOSITORY, TINY, finish, images_file, run, start, task

# Not Adam, which divides by the root of a small number: rounding would grow in the first steps.
SGD = '--optimizer=sgd:learning_rate=0.05,momentum=0.9'
STEPS = ['--steps=8', '--save_every=4', '--validate_every=4', SGD]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A finished run: (workdir, command line, what it printed)."""
  folder = tmp_path_factory.mktemp('run')
  command = [task(images_file(folder)), *TINY, *STEPS, f'--workdir={folder / "work"}']
  status, out, error = run('train', *command)
  assert status == 0, error
  return folder / 'work', command, out


def parameters(workdir):
  """All arrays of the newest checkpoint, read without the library."""
  import orbax.checkpoint as ocp

  with ocp.CheckpointManager(workdir / 'checkpoints') as manager:
    step = manager.latest_step()
  with ocp.StandardCheckpointer() as reader:
    return step, reader.restore(workdir / 'checkpoints' / str(step) / 'default')


def assert_same_bits(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_run_leaves_everything_that_was_promised(trained):
  workdir, _, out = trained
  record = read_results(workdir / 'results.json')
  assert record['metric'] == 'accuracy'
  assert (record['episodes'], record['steps'], record['seed']) == (12, 8, 0)
  assert record['protocol'] == 'inductive'
  assert record['network'] == 'conv4:width=4,depth=2,downsample=pool,norm=batch'
  assert record['learner'] == 'prototypical:distance=euclidean,protocol=inductive'
  assert record['train_seconds'] > 0
  assert record['command'].startswith('python -m experiments.train --task=arrays')
  episodes = np.load(workdir / 'episodes.npz')['accuracy']
  assert record['mean'] == pytest.approx(episodes.mean())
  assert f'report: {workdir / "report.html"}' in out
  assert '<svg' in (workdir / 'report.html').read_text()
  steps = [
    json.loads(line)['step'] for line in (workdir / 'metrics.jsonl').read_text().splitlines()
  ]
  assert steps == [2, 4, 4, 6, 8, 8]  # training every dispatch, validation at 4 and 8
  assert any((workdir / 'tensorboard').iterdir())


def test_the_same_command_again_trains_no_more_and_agrees(trained):
  workdir, command, out = trained
  before = parameters(workdir)
  status, again, error = run('train', *command)
  assert status == 0
  assert 'continuing' in error
  assert again == out
  assert_same_bits(parameters(workdir), before)


def test_kill_9_and_the_same_command_give_the_same_bits(trained, tmp_path):
  workdir, command, _ = trained
  command = [*command[:-1], f'--workdir={tmp_path / "killed"}']
  process = start('train', *command, JAX_ENABLE_COMPILATION_CACHE='false')
  while not (tmp_path / 'killed' / 'checkpoints' / '4').is_dir():
    assert process.poll() is None, finish(process)
    time.sleep(0.01)
  process.kill()
  process.wait()
  process.communicate()
  status, _, error = run('train', *command)
  assert status == 0, error
  assert_same_bits(parameters(tmp_path / 'killed'), parameters(workdir))
  lines = (tmp_path / 'killed' / 'metrics.jsonl').read_text()
  assert [json.loads(line)['step'] for line in lines.splitlines()] == [2, 4, 4, 6, 8, 8]


def test_other_flags_are_refused_by_name_and_touch_nothing(trained):
  workdir, command, _ = trained
  before = {p: p.stat().st_mtime_ns for p in workdir.rglob('*')}
  status, _, error = run('train', *command, '--optimizer=adam', '--seed=3')
  assert status == 1
  assert '--optimizer' in error and '--seed is 0 there and 3 here' in error
  assert len(error.strip().splitlines()) == 1
  assert {p: p.stat().st_mtime_ns for p in workdir.rglob('*')} == before


def test_evaluate_repeats_the_test_and_other_protocols_see_the_same_episodes(trained):
  workdir, _, _ = trained
  transductive = '--learner=prototypical:protocol=transductive'
  runs = [
    start('evaluate', f'--workdir={workdir}', '--episodes=12'),
    start('evaluate', f'--workdir={workdir}', '--episodes=12', transductive, '--name=transductive'),
  ]
  for process in runs:
    status, _, error = finish(process)
    assert status == 0, error
  first, again = (
    np.load(workdir / f'episodes{name}.npz')['accuracy'] for name in ('', '-evaluation')
  )
  np.testing.assert_array_equal(first, again)
  assert read_results(workdir / 'results-transductive.json')['protocol'] == 'transductive'


@pytest.mark.slow
def test_all_ways_to_map_tasks_end_in_the_same_parameters(trained, tmp_path):
  workdir, command, _ = trained
  two = {'XLA_FLAGS': '--xla_force_host_platform_device_count=2'}
  spread = lambda how: [*command[:-1], f'--parallel={how}', f'--workdir={tmp_path / how}']
  runs = {how: start('train', *spread(how), **two) for how in ('pmap', 'shard_map')}
  _, expected = parameters(workdir)
  for how, process in runs.items():
    status, _, error = finish(process)
    assert status == 0, error
    _, found = parameters(tmp_path / how)
    for name, leaf in expected['params']['params'].items():
      assert_close(found['params']['params'][name], leaf)


def assert_close(a, b):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-6), a, b)


def test_a_loss_that_is_not_finite_stops_and_the_last_good_checkpoint_is_kept(tmp_path):
  # The learning rate is 0 in the first step, so the first state is good and the second is not.
  huge = ['--optimizer=sgd:learning_rate=1e30', '--schedule=cosine:warmup=2']
  workdir = tmp_path / 'work'
  status, out, error = run(
    'train',
    task(images_file(tmp_path)),
    *TINY,
    *STEPS,
    *huge,
    '--save_every=1',
    f'--workdir={workdir}',
  )
  assert (status, out) == (1, '')
  assert 'error: the loss or its gradient is not finite at step' in error.splitlines()[-1]
  step, state = parameters(workdir)
  assert step < 8
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@pytest.mark.slow
def test_no_flag_at_all_reaches_ninety_percent_on_unseen_glyphs(tmp_path):
  begun = time.monotonic()
  status, out, error = run('train', f'--workdir={tmp_path / "run"}')
  assert status == 0, error
  assert read_results(tmp_path / 'run' / 'results.json')['mean'] >= 0.9
  assert 'report: ' in out
  assert time.monotonic() - begun < 600  # two minutes on two idle cores


def test_presets_name_components_that_exist():
  from experiments import components
  from experiments.setup import DEFINING
  from experiments.specs import parse

  tables = {
    'learner': (components.LEARNERS, components.LEARNER_SUPPLIED),
    'network': (components.NETWORKS, components.NETWORK_SUPPLIED),
    'optimizer': (components.OPTIMIZERS, ()),
    'schedule': (components.SCHEDULES, components.SCHEDULE_SUPPLIED),
    'task': (components.TASKS, components.TASK_SUPPLIED),
    'test_task': (components.TASKS, components.TASK_SUPPLIED),
  }
  presets = sorted((REPOSITORY / 'experiments' / 'presets').glob('*.flags'))
  assert presets
  for preset in presets:
    lines = preset.read_text().splitlines()
    assert preset.name in lines[0]
    for line in (each for each in lines if not each.startswith('#')):
      name, _, value = line.removeprefix('--').partition('=')
      if name in tables:
        parse(name, tables[name][0], value, tables[name][1])
      assert name in DEFINING or not name.startswith(('task', 'learner'))
