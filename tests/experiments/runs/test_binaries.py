import fcntl
import json
import os
import re
import shutil
import time

import jax
import numpy as np
import pytest

import metakit
from experiments.output.metrics_log import read_metrics
from experiments.output.results import read_results
from metakit.checkpoint import checkpoints
from metakit.data import arrays, save_table, split_classes
from metakit.data.splits import PARTS
from tests.conftest import FAST
from tests.experiments.commands import (
  TINY,
  done,
  finish,
  images_file,
  refused,
  run,
  run_all,
  run_whole,
  start,
  task,
)

# Not Adam, which divides by the root of a small number: rounding would grow in the first steps.
SGD = '--optimizer=sgd:learning_rate=0.05,momentum=0.9'
STEPS = ['--steps=8', '--save_every=6', '--validate_every=4', '--seed=1', SGD]
NO_CURVE = '--curve=none'  # in a report that nobody looks at


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A finished run: (workdir, command line, what it printed)."""
  folder = tmp_path_factory.mktemp('run')
  command = [task(images_file(folder)), *TINY, *STEPS, f'--workdir={folder / "work"}']
  out = done('train', *command)
  return folder / 'work', command, out


def parameters(workdir):
  """All arrays of the newest checkpoint, read without the library."""
  import orbax.checkpoint as ocp

  step = max(int(path.stem) for path in (workdir / 'checkpoints').glob('*.json'))
  with ocp.StandardCheckpointer() as reader:
    return step, reader.restore(workdir / 'checkpoints' / str(step))


def assert_same_bits(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_run_leaves_everything_that_was_promised(trained):
  workdir, _, out = trained
  record = read_results(workdir / 'results.json')
  assert record['metric'] == 'accuracy'
  assert (record['episodes'], record['steps'], record['seed']) == (12, 8, 1)
  assert record['protocol'] == 'inductive'
  assert record['network'] == 'conv4:width=4,depth=1,downsample=pool,norm=batch'
  usual = 'protocol=inductive,how=un,losses=none,distance=euclidean,temperature=0.0'
  assert record['learner'] == f'prototypical:{usual}'
  assert record['train_seconds'] > 0
  assert record['command'].startswith('python -m experiments.train --task=arrays')
  episodes = np.load(workdir / 'episodes.npz')['accuracy']
  assert record['mean'] == pytest.approx(episodes.mean())
  assert f'report: {workdir / "report.html"}' in out
  page = (workdir / 'report.html').read_text()
  assert '<svg' in page
  assert f'{round(6 * episodes[0])} of 6 queries right' in page
  curve = record['adaptation']['support examples a class']
  assert [point['amount'] for point in curve] == [1, 2, 3]  # of six drawings two are queries
  assert all(0 <= point['mean'] <= 1 for point in curve)
  assert record['task'].endswith(
    'images.npz,ways=3,shots=1,queries=2,sampler=few_shot,levels=0.0,split=auto,skip=false'
  )
  steps = [
    json.loads(line)['step'] for line in (workdir / 'metrics.jsonl').read_text().splitlines()
  ]
  assert steps == [2, 4, 4, 6, 8, 8]  # training every dispatch, validation at 4 and 8
  assert any((workdir / 'tensorboard').iterdir())


def test_a_run_leaves_its_learner(trained):
  """A checkpoint of the last step gives the same, once it is calibrated on the same episodes."""
  workdir, _, _ = trained
  loaded, record = metakit.load(workdir), read_results(workdir / 'results.json')
  assert loaded.card['mean'] == record['mean'] and loaded.made_of.learner == record['learner']
  assert loaded.inputs.shape == (8, 8, 1) and loaded.outputs == 3
  with pytest.raises(ValueError, match='is not calibrated on training episodes'):
    metakit.load(workdir / 'checkpoints' / '8')
  table = split_classes(arrays(workdir.parent / 'images.npz'), 'train')
  source = metakit.episodes.few_shot(table, 3, 1, queries=2)
  again = metakit.load(workdir / 'checkpoints' / '8', source=source)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), loaded.params, again.params
  )
  shown = table.x[table.starts[:3]]
  assert loaded.adapt(shown, ['a', 'b', 'c']).predict(shown).tolist() == ['a', 'b', 'c']


@pytest.mark.slow  # test_bad_input.py starts one in the quick tier
@pytest.mark.parametrize('flags', [FAST, []], ids=['plain', 'optimised'])
def test_a_process_of_its_own_leaves_the_same(trained, tmp_path, flags):
  """As users run it (with optimised programs); the other tests fork a process without."""
  workdir, command, out = trained
  small = ['--network=mlp:width=4,depth=1', NO_CURVE, f'--workdir={tmp_path / "run"}']
  status, said, error = run_whole('train', *command[:-1], *small, XLA_FLAGS=' '.join(flags))
  assert status == 0, error
  assert len(said.splitlines()) == len(out.splitlines()) > 0
  names = lambda folder: {path.name for path in folder.iterdir() if '-' not in path.name}
  assert names(tmp_path / 'run') == names(workdir)
  record, expected = (read_results(each / 'results.json') for each in (tmp_path / 'run', workdir))
  assert record['command'].startswith('python -m experiments.train --task=arrays')
  assert record.keys() == expected.keys() - {'adaptation', 'curve_episodes'}
  assert np.isfinite(record['mean'])


@pytest.mark.slow  # one that was killed goes on, below
def test_the_same_command_again_trains_no_more_and_agrees(trained):
  workdir, command, out = trained
  before = parameters(workdir)
  status, again, error = run('train', *command)
  assert status == 0
  assert 'continuing' in error
  assert again == out
  assert_same_bits(parameters(workdir), before)


@pytest.mark.slow  # tests/test_train.py asks it of the dispatch, tests/data of the table
def test_a_table_left_on_disk_trains_to_the_same_parameters(trained, tmp_path):
  """The task `table`, memory-mapped and larger than the budget, against arrays on the device."""
  workdir, command, _ = trained
  whole, tables = arrays(workdir.parent / 'images.npz'), tmp_path / 'tables'
  for split in PARTS:
    save_table(split_classes(whole, split), tables / split)
  there = [f'--workdir={tmp_path / "run"}', '--table_budget_gib=0', NO_CURVE]
  spec = f'--task=table:path={tables},ways=3,shots=1,queries=2'
  done('train', spec, *command[1:-1], *there)
  (_, found), (_, expected) = parameters(tmp_path / 'run'), parameters(workdir)
  assert_close(found['params']['body'], expected['params']['body'])
  done('evaluate', '--episodes=12', *there)
  ours, theirs = (
    np.load(folder / name)['loss']
    for folder, name in ((tmp_path / 'run', 'episodes-evaluation.npz'), (workdir, 'episodes.npz'))
  )
  np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_kill_9_and_the_same_command_give_the_same_bits(trained, tmp_path):
  workdir, command, _ = trained
  command = [*command[:-1], '--save_every=2', f'--workdir={tmp_path / "killed"}']
  process = start('train', *command)
  while not (tmp_path / 'killed' / 'checkpoints' / '4.json').exists():
    assert process.poll() is None, finish(process)
    time.sleep(0.01)
  process.kill()
  process.wait()
  process.communicate()
  status, _, error = run('train', *command, NO_CURVE)
  assert status == 0, error
  assert 'at step 4' in error or 'at step 6' in error
  assert_same_bits(parameters(tmp_path / 'killed'), parameters(workdir))
  lines = (tmp_path / 'killed' / 'metrics.jsonl').read_text()
  assert [json.loads(line)['step'] for line in lines.splitlines()] == [2, 4, 4, 6, 8, 8]


@pytest.mark.slow
def test_a_run_that_is_told_to_end_saves_where_it_is_and_continues(trained, tmp_path):
  """Between the multiples at which it would save or validate."""
  _, command, _ = trained
  ended = tmp_path / 'ended'
  command = [*command[:-1], '--steps=800', '--schedule=constant', '--save_every=400']
  command = [*command, '--validate_every=400', f'--workdir={ended}']
  process = start('train', *command)
  while not (ended / 'metrics.jsonl').exists() or len(read_metrics(ended)) < 5:
    assert process.poll() is None, finish(process)
    time.sleep(0.01)
  process.terminate()
  status, _, error = finish(process)
  assert status == 75, error
  said = re.search(r'told to end: step (\d+) of 800 is saved; the same command continues$', error)
  assert said and (ended / 'checkpoints' / f'{said[1]}.json').exists()
  assert int(said[1]) % 400
  status, _, error = run('train', *command)
  assert status == 0, error
  assert f'continuing {ended} at step {said[1]}' in error
  straight = tmp_path / 'straight'
  done('train', *command[:-1], f'--workdir={straight}')
  assert_same_bits(parameters(ended), parameters(straight))
  assert read_metrics(ended) == read_metrics(straight)


def test_a_run_that_is_told_to_end_while_it_starts_says_so(trained, tmp_path):
  _, command, _ = trained
  process = start('train', *command[:-1], f'--workdir={tmp_path / "new"}')
  while not (tmp_path / 'new').exists():
    assert process.poll() is None, finish(process)
    time.sleep(0.01)
  process.terminate()
  status, _, error = finish(process)
  assert status == 75
  assert error.endswith('the same command continues\n')


def test_other_flags_are_refused_by_name_and_touch_nothing(trained, tmp_path):
  """And so is a second process of the same flags."""
  workdir, command, _ = trained
  before = {p: p.stat().st_mtime_ns for p in workdir.rglob('*')}
  commands = [['train', *command, *more] for more in (['--optimizer=adam', '--seed=3'], [])]
  locked = os.open(workdir / '.metakit.lock', os.O_RDWR)
  fcntl.flock(locked, fcntl.LOCK_EX)
  (status, _, error), (second, _, said) = run_all(commands)
  os.close(locked)
  assert (status, second) == (1, 1)
  assert '--optimizer' in error and '--seed is 1 there and 3 here' in error
  assert f'{workdir} is in use by process ' in said
  assert [len(each.strip().splitlines()) for each in (error, said)] == [1, 1]
  assert {p: p.stat().st_mtime_ns for p in workdir.rglob('*')} == before


def with_a_worse_step_at_the_end(workdir, copy):
  shutil.copytree(workdir, copy)
  step, state = parameters(copy)
  with checkpoints(copy / 'checkpoints') as saved:
    saved.save(step + 1, state, score=-1.0)
  return copy


def test_evaluate_repeats_the_test_and_tests_other_protocols_and_tasks(trained, tmp_path):
  workdir, _, _ = trained
  transductive = '--learner=prototypical:protocol=transductive'
  other = [task(workdir.parent / 'images.npz', ways=2), '--name=2way', '--seed=2']
  other.append('--split=validation')
  usual = ['evaluate', f'--workdir={workdir}', '--episodes=12', NO_CURVE]
  worse = with_a_worse_step_at_the_end(workdir, tmp_path / 'worse')
  best = ['evaluate', f'--workdir={worse}', '--episodes=12', '--best', NO_CURVE]
  foreign = [task(images_file(tmp_path)), '--name=foreign']
  runs = [start(*usual), start(*usual, transductive, *other), start(*best, *foreign)]
  for status, _, error in map(finish, runs):
    assert status == 0, error
  assert 'classes drawn at random; tests are on all' in error
  record = read_results(workdir / 'results-2way.json')
  assert record['protocol'] == 'transductive' and 'ways=2' in record['task']
  names = {part: [*split_classes(arrays(tmp_path / 'images.npz'), part).names] for part in PARTS}
  assert read_results(workdir / 'results.json')['classes'] == names
  assert record['split'] == 'validation'
  assert record['classes'] == {'train': names['train'], 'test': names['validation']}
  # Of another file every class is tested on.
  record = read_results(worse / 'results-foreign.json')
  assert record['steps'] == 8
  assert record['split'] == 'all' and sorted(record['classes']['test'], key=int) == [
    str(number) for number in range(20)
  ]
  page = (workdir / 'report.html').read_text().replace('<wbr>', '')
  assert f'4: {", ".join(names["validation"])}' in page
  first, again = (
    np.load(workdir / f'episodes{name}.npz')['accuracy'] for name in ('', '-evaluation')
  )
  np.testing.assert_array_equal(first, again)
  # Classes so different are told apart in the episodes of any seed.
  assert read_results(workdir / 'results-evaluation.json')['seed'] == 1


def damage_metrics(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines(keepends=True)
  (workdir / 'metrics.jsonl').write_text(''.join([lines[0][:9] + '\n', *lines[1:]]))


DAMAGE = {
  'metrics.jsonl, line 1, is not': damage_metrics,
  'results.json is not JSON': lambda workdir: (workdir / 'results.json').write_text('{'),
  'cannot write': lambda workdir: (workdir / 'report-again.html').mkdir(),
}


def test_what_cannot_be_read_or_written_is_said_before_the_episodes(trained, tmp_path):
  workdirs = {said: shutil.copytree(trained[0], tmp_path / str(i)) for i, said in enumerate(DAMAGE)}
  for said, damage in DAMAGE.items():
    damage(workdirs[said])
  usual = ['evaluate', '--episodes=12', '--name=again']
  commands = [[*usual, f'--workdir={each}'] for each in workdirs.values()]
  ended = run_all(commands)
  for (said, workdir), each in zip(workdirs.items(), ended, strict=True):
    error = refused(each)
    assert said in error and str(workdir) in error
    assert not (workdir / 'episodes-again.npz').exists()


@pytest.mark.compiler
@pytest.mark.slow
def test_all_ways_to_map_tasks_end_in_the_same_parameters(trained, tmp_path):
  workdir, command, _ = trained
  two = '--cpu_devices=2'
  spread = lambda how: [*command[:-1], two, f'--parallel={how}', f'--workdir={tmp_path / how}']
  runs = {how: start('train', *spread(how)) for how in ('pmap', 'shard_map')}
  _, expected = parameters(workdir)
  for how, process in runs.items():
    status, _, error = finish(process)
    assert status == 0, error
    _, found = parameters(tmp_path / how)
    assert_close(found['params']['body'], expected['params']['body'])
    for_step_8 = tmp_path / how / 'checkpoints' / '8'  # as if it had been stopped before
    shutil.rmtree(for_step_8)
    for_step_8.with_suffix('.json').unlink()
  again = {how: start('train', *spread(how)) for how in runs}
  for how, process in again.items():
    status, _, error = finish(process)
    assert status == 0 and 'at step 6' in error, error
    _, found = parameters(tmp_path / how)
    assert_close(found['params']['body'], expected['params']['body'])


def assert_close(a, b):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-6), a, b)


def test_a_loss_that_is_not_finite_stops_and_the_last_good_checkpoint_is_kept(tmp_path):
  # The learning rate is 0 in the first step, so the first state is good. The second is finite too,
  # but nothing that follows from it is.
  huge = ['--optimizer=sgd:learning_rate=1e30', '--schedule=cosine:warmup=2']
  huge += ['--network=mlp:width=4,depth=1']  # without a norm, which would divide it away
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
  assert step == 1
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
