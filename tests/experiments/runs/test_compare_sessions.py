"""Heads compared on streams of classes."""

import json

import numpy as np
import pytest

from experiments.runs.compare_sessions import check_stored
from experiments.tables.comparisons import on_sessions
from metakit import cross_entropy, evaluate, heads, roots
from metakit.components.head_learners import HEAD_SUPPLIED, HEADS
from metakit.components.specs import parse
from metakit.data.arrays import arrays
from metakit.data.splits import split_classes
from metakit.episodes import Sessions, class_incremental
from metakit.estimates import compare, estimate
from metakit.evaluation.sessions import judge_sessions
from tests.experiments.commands import refused, run
from tests.experiments.runs.test_compare_heads import features_file

SIZES = Sessions(2, 4, 2, 2, 2, 3)
FLAGS = ['--base_ways=2', '--base_shots=4', '--session_ways=2', '--session_shots=2']
FLAGS += ['--sessions=2', '--session_queries=3', '--episodes=20']


def compared(folder, *more):
  task = f'arrays:path={features_file(folder)},ways=4,shots=2,queries=3'
  names = ['class_mean_stream', 'ridge']
  chosen = [f'--head={name}' for name in names]
  return run('compare_sessions', f'--task={task}', *chosen, *FLAGS, f'--workdir={folder}', *more)


def test_what_is_known_after_each_session_is_written(tmp_path):
  """A head without parameters is judged here once more."""
  status, out, error = compared(tmp_path)
  assert status == 0, error
  record = json.loads((tmp_path / 'heads.json').read_text())
  stream, ridge = record['cells']
  classes = split_classes(arrays(str(tmp_path / 'features.npz')), 'test')
  source = class_incremental(classes, SIZES)
  ours = evaluate(
    heads.class_mean_stream(6),
    cross_entropy,
    {},
    source=source,
    root=roots(0).test,
    episodes=20,
    judge=judge_sessions(SIZES),
  )
  for name in ('accuracy', 'base', 'harmonic'):
    expected = [estimate(after)[:2] for after in ours[name].T]
    np.testing.assert_allclose(stream[name], expected, atol=1e-6)
  assert stream['novel'][0] is None and len(stream['novel']) == 3
  np.testing.assert_allclose(stream['forgetting'], estimate(ours['forgetting'])[:2], atol=1e-6)
  assert (stream['streaming'], ridge['streaming']) == (True, False)
  assert stream['difference'] == [0, 0]
  assert f'class_mean_stream: at the end accuracy {100 * stream["accuracy"][-1][0]:.2f}' in out
  values = ours['accuracy'][:, -1]
  assert compare(values, values).mean == 0
  assert ridge['difference'][0] == pytest.approx(
    ridge['accuracy'][-1][0] - stream['accuracy'][-1][0], abs=1e-6
  )
  line = on_sessions(record | {'row': 'Sessions'}).splitlines()[-3]
  mean, ci95 = (100 * value for value in ridge['harmonic'][-1])
  assert line.startswith('| `ridge` | again |') and f'{mean:.2f} ± {ci95:.2f}%' in line
  status, out, error = compared(tmp_path, '--head_steps=20')
  assert (status, out) == (1, '') and 'measured with another head_steps' in error


def test_a_record_of_other_heads_or_another_binary_is_not_overwritten(tmp_path):
  path, setting = tmp_path / 'heads.json', {'seed': 0}
  heads = [parse('head', HEADS, name, supplied=HEAD_SUPPLIED) for name in ('ridge', 'prototypical')]
  check_stored(path, setting, heads)
  path.write_text(json.dumps({'cells': [{'head': 'ridge'}, {'head': 'prototypical'}], 'seed': 0}))
  check_stored(path, setting, heads)
  with pytest.raises(ValueError, match=r'heads.json was measured with another heads; .*--name'):
    check_stored(path, setting, heads[:1])
  with pytest.raises(ValueError, match='another sizes'):  # compare_heads has none
    check_stored(path, setting | {'sizes': {}}, heads)
  check_stored(path, setting | {'head_steps': 20}, heads)  # the record is older than this key


@pytest.mark.parametrize(
  ('flag', 'said'),
  [
    ('--base_ways=50', 'ways=54 exceeds the 6 classes'),
    ('--test_task=sinusoid', 'sinusoid has no'),
  ],
)
def test_what_makes_no_stream_is_said(tmp_path, flag, said):
  error = refused(compared(tmp_path, flag))
  assert said in error
  assert not (tmp_path / 'heads.json').exists()


@pytest.mark.slow  # test_testing.py asks it of a test
def test_predictions_that_are_not_finite_are_said(tmp_path):
  """Squares of such features overflow."""
  with np.load(features_file(tmp_path)) as file:
    np.savez(tmp_path / 'large.npz', x=file['x'] * np.float32(1e25), y=file['y'])
  task = f'arrays:path={tmp_path / "large.npz"},ways=4,shots=2,queries=3'
  chosen = '--head=class_mean_stream', *FLAGS, f'--workdir={tmp_path}'
  status, out, error = run('compare_sessions', f'--task={task}', *chosen)
  assert (status, len(out.splitlines())) == (0, 1), error
  assert error.count('20 of 20 episodes have a loss that is not finite; ') == 1
