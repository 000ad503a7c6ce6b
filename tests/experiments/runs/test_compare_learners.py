"""Learners trained on the same tasks and tested after several numbers of inner steps."""

import json
import subprocess
from pathlib import Path

import pytest

from experiments.output.results import read_results
from experiments.runs.compare_learners import (
  Options,
  claim,
  compare_all,
  folders,
  numbers,
  training_flags,
)
from experiments.runs.workdir import claim_workdir
from tests.experiments.commands import done, run


def test_each_learner_has_a_folder_of_its_own():
  specs = ['maml', 'maml:mode=first_order', 'maml:inner_learning_rate=1e-2,inner_steps=2']
  names = ['maml', 'maml-mode=first_order', 'maml-inner_learning_rate=1e-2-inner_steps=2']
  assert folders(specs) == dict(zip(specs, names, strict=True))
  with pytest.raises(ValueError, match="unknown learner 'mamel'"):
    folders(['mamel'])


def test_a_learner_that_fails_leaves_the_others_alone():
  done = []

  def compare(spec, folder):
    done.append(spec)
    if spec == 'anil':
      raise subprocess.CalledProcessError(1, 'train')

  with pytest.raises(ValueError, match='no result of anil, as said above'):
    compare_all({'anil': Path('a'), 'maml': Path('b')}, compare)
  assert done == ['anil', 'maml']


def test_a_training_is_known_by_its_flags_and_not_by_the_name_of_their_file(tmp_path):
  """The folders of an earlier version hold the name, and are held to it."""
  one, other = tmp_path / 'one.flags', tmp_path / 'other.flags'
  one.write_text('# A comment.\n--task=sinusoid:shots=5\n--steps=2\n--save_every=10\n')
  other.write_text('--steps=2\n\n--task=sinusoid:shots=5\n')
  assert training_flags(one) == training_flags(other) == {'task': 'sinusoid:shots=5', 'steps': '2'}

  def claimed(folder, path):
    given = {'training': str(path), 'seed': 0, 'episodes': 5}
    given |= {'data_dir': '', 'table_budget_gib': 1.0}
    options = Options(**{name: given.get(name) for name in Options._fields})
    claim_workdir(folder, claim(folder, options))

  claimed(tmp_path / 'new', one)
  claimed(tmp_path / 'new', other)
  claim_workdir(tmp_path / 'old', {'training': str(one), 'seed': 0, 'episodes': 5})
  other.write_text('--steps=3\n--task=sinusoid:shots=5\n')
  with pytest.raises(ValueError, match=r"belongs to other flags: --training is .*'steps': '2'"):
    claimed(tmp_path / 'new', other)
  claimed(tmp_path / 'old', one)
  with pytest.raises(ValueError, match=r'--training is .*one.flags there and .*other.flags here'):
    claimed(tmp_path / 'old', other)
  with pytest.raises(ValueError, match=r'--training=.*none.flags: Unable to open flagfile'):
    training_flags(tmp_path / 'none.flags')


@pytest.mark.parametrize('texts', [[], ['0'], ['1', 'two']])
def test_numbers_of_steps_are_positive(texts):
  with pytest.raises(ValueError, match='is no list of positive numbers'):
    numbers(texts)


@pytest.mark.slow
def test_learners_are_trained_once_and_tested_after_each_number_of_steps(tmp_path):
  training = tmp_path / 'training.flags'
  training.write_text(
    '--task=sinusoid:shots=5,queries=5\n--network=mlp:width=4,depth=1\n--steps=2\n'
    '--objective=gaussian\n--tasks_per_step=2\n--validation_episodes=2\n'
  )
  specs = ['maml:inner_learning_rate=0.01', 'cnp:width=4,depth=2']
  learners = [f'--learner={spec}' for spec in specs]
  flags = [f'--training={training}', '--inner_steps=1,3', '--episodes=5']
  command = ['compare_learners', *learners, *flags, f'--workdir={tmp_path / "all"}']
  done(*command)
  record = json.loads((tmp_path / 'all' / 'results.json').read_text())
  cell, other = record['cells']
  assert other['learner'] == specs[1] and set(other['steps']) == {'0'}  # it has no inner steps
  assert cell['learner'] == specs[0] and set(cell['steps']) == {'1', '3'}
  own = read_results(tmp_path / 'all' / folders(specs)[specs[0]] / 'results-3-steps.json')
  assert 'test_steps=3' in own['learner']
  assert cell['steps']['3'] == {key: own[key] for key in ('mean', 'ci95', 'episodes', 'density')}
  assert cell['steps']['3']['mean'] != cell['steps']['1']['mean']
  before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'all').glob('*/*')}
  assert run(*command)[0] == 0
  status, _, error = run(*command, '--seed=1')
  assert status == 1 and 'belongs to other flags: --seed is 0 there and 1 here' in error
  assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / 'all').glob('*/*')}
