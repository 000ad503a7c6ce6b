"""The stop-watch of a training, and names of results that are taken."""

import json
import shlex
import sys
from types import SimpleNamespace

import pytest

from experiments.output.results import write_results
from experiments.runs import wrap_up
from experiments.runs.wrap_up import read_seconds, write_seconds
from metakit.objectives import cross_entropy
from tests.experiments.output.test_results import record


def test_seconds_are_those_of_each_saved_step(tmp_path):
  assert read_seconds(tmp_path, 0) == 0 and read_seconds(tmp_path, 5) is None
  write_seconds(tmp_path, 5, 1.26)
  write_seconds(tmp_path, 9, 2.5)
  assert [read_seconds(tmp_path, step) for step in (0, 5, 9, 7)] == [0, 1.3, 2.5, None]


def test_unknown_seconds_stay_unknown(tmp_path):
  """A run that goes on without its stop-watch has not trained less."""
  write_seconds(tmp_path, 5, float('nan'))
  assert read_seconds(tmp_path, 5) is None


def test_the_file_of_earlier_versions_is_read(tmp_path):
  (tmp_path / 'seconds.json').write_text('{"5": 1.5}\n')
  write_seconds(tmp_path, 9, 2.5)
  assert (read_seconds(tmp_path, 5), read_seconds(tmp_path, 9)) == (1.5, 2.5)


@pytest.mark.parametrize('damage', ['{"5": 1.', '', '[5]', '{"five": 1.5}', '{"5": "1"}', None])
def test_a_damaged_stop_watch_is_named_and_stops_nothing(tmp_path, damage):
  path = tmp_path / 'seconds.json'
  write_seconds(tmp_path, 5, 1.5)
  path.write_text(path.read_text().replace('1.5', '7.5') if damage is None else damage)
  with pytest.warns(UserWarning, match=r'seconds.json is damaged .*; restore the file from a copy'):
    assert read_seconds(tmp_path, 5) is None
  with pytest.warns(UserWarning, match='damaged'):
    write_seconds(tmp_path, 9, float('nan'))
  assert read_seconds(tmp_path, 9) is None
  json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f'{name} is not JSON'))


@pytest.mark.parametrize(
  ('seed', 'episodes', 'name', 'data', 'said'),
  [
    (3, 600, '-taken', 'a5', None),
    (3, 600, '-new', 'b6', None),
    (
      4,
      600,
      '-taken',
      'a5',
      'results-taken.json was measured with another seed; give another --na',
    ),
    (3, 500, '-taken', 'a5', 'another episodes'),
    (3, 600, '-taken', 'b6', 'belongs to other data: the checksum of test is a5 there and b6 here'),
  ],
)
def test_results_of_another_test_are_not_overwritten(
  tmp_path, monkeypatch, seed, episodes, name, data, said
):
  """What follows the check is replaced: it would take an episode."""
  kept = record(seed=3) | {'episodes': 600, 'data': 'a5'}
  write_results(tmp_path / 'results-taken.json', kept)
  setup = SimpleNamespace(specs={'test_task': kept['task'], 'learner': kept['learner']})
  task = SimpleNamespace(metric='accuracy', objective=cross_entropy)
  learner = SimpleNamespace(protocol='inductive')
  tested = SimpleNamespace(task=task, learner=learner)

  def tests(tested, episodes, on_chunk, judge):
    raise NotImplementedError

  monkeypatch.setattr(wrap_up, 'per_episode', tests)
  monkeypatch.setattr(wrap_up, 'checksum', lambda tested: data)
  files = wrap_up.Files(tmp_path, name, [], None, {})
  with pytest.raises(ValueError if said else NotImplementedError, match=said):
    wrap_up.wrap_up(setup, tested, 0, files=files, episodes=episodes, seed=seed)


def test_a_command_can_be_typed_again(monkeypatch):
  words = ['/somewhere/experiments/train.py', '--task=folder:path=/my birds', '--name=a;b']
  monkeypatch.setattr(sys, 'argv', words)
  said = wrap_up.command_line()
  assert shlex.split(said) == ['python', '-m', 'experiments.train', *words[1:]]
