"""Stored results are measured again by the commands of their records, and compared."""

import json
import shlex

import numpy as np
import pytest

from experiments.output.records import is_measured, read_records
from experiments.output.results import read_results
from experiments.runs.reproduce import REPOSITORY, TRAIN, Options, plan, reproduce, setting
from metakit.files import write_text
from tests.experiments.commands import run

TRAINING = 'python -m experiments.train --flagfile=a.flags --workdir=runs/a'
TESTING = 'python -m experiments.evaluate --workdir=runs/a --episodes=100 --name=20way'
RECORD = {
  'row': 'glyphs',
  'metric': 'accuracy',
  'mean': 0.9,
  'ci95': 0.01,
  'episodes': 100,
  'seed': 0,
  'protocol': 'inductive',
  'task': 'glyphs:ways=5',
  'learner': 'prototypical:protocol=inductive',
  'network': 'conv4',
  'steps': 500,
  'train_seconds': 95.0,
  'device': 'cpu x2 (AMD EPYC)',
  'versions': {'jax': '1'},
  'command': TRAINING,
}
STORED = {
  'a': RECORD,
  'a_20way': RECORD | {'mean': 0.5, 'command': TESTING, 'training_command': TRAINING},
  'b_large': RECORD | {'status': 'unmeasured', 'command': TRAINING + ' --steps=9'},
  'c_by_hand': RECORD | {'command': 'python -m experiments.compare_heads --workdir=runs/a'},
}


@pytest.fixture
def repository(tmp_path):
  folder = tmp_path / 'experiments' / 'results'
  (folder / 'sweeps').mkdir(parents=True)
  for name, record in STORED.items():
    (folder / f'{name}.json').write_text(json.dumps(record))
  (folder / 'sweeps' / 'depths.json').write_text('{}')
  return tmp_path


class Measuring:
  """Stands for the processes: writes what a command is to measure."""

  def __init__(self, **measured):
    self.commands, self.measured, self.steps = [], measured, RECORD['steps']

  def __call__(self, words, folder):
    del folder
    self.commands.append(words)
    flags = dict(word.lstrip('-').split('=', 1) for word in words[3:])
    self.steps = int(flags.get('steps', self.steps))
    suffix, mean = ('', 0.9) if words[2] == TRAIN else (f'-{flags["name"]}', 0.5)
    record = RECORD | {'mean': mean, 'command': shlex.join(words), 'steps': self.steps}
    record |= {'episodes': int(flags.get('episodes', 100)), **self.measured}
    write_text(f'{flags["workdir"]}/results{suffix}.json', json.dumps(record))
    return 0


def ask(repository, row, capsys, start=None, **changed):
  """Returns the exit status, the last line, and how the fake commands were called."""
  start = start or Measuring()
  usual = {'list': False, 'root': str(repository / 'root'), 'steps': None}
  options = Options(**{**usual, 'episodes': None, 'data_dir': None, **changed})
  status = 0
  try:
    reproduce(row, options, repository=repository, start=start)
  except SystemExit as end:
    status = end.code
  out, error = capsys.readouterr()
  return status, (out or error).splitlines()[-1], getattr(start, 'commands', [])


def test_a_training_is_run_in_a_folder_of_its_own_and_compared(repository, capsys):
  status, said, commands = ask(repository, 'a', capsys)
  assert (status, said) == (
    0,
    'reproduced: a: 90.00 ± 1.00% against 90.00 ± 1.00% stored, difference +0.00%; the 95% '
    'intervals overlap',
  )
  assert commands == [[*shlex.split(TRAINING), f'--workdir={repository}/root/a']]


def test_a_later_test_is_run_on_the_training_that_it_shares_and_nothing_twice(repository, capsys):
  status, said, commands = ask(repository, 'a_20way', capsys, data_dir='/data')
  assert (status, said[:42]) == (0, 'reproduced: a_20way: 50.00 ± 1.00% against')
  added = [f'--workdir={repository}/root/a', '--data_dir=/data']
  assert commands == [[*shlex.split(each), *added] for each in (TRAINING, TESTING)]
  assert ask(repository, 'a', capsys, data_dir='/data')[::2] == (0, [])
  assert ask(repository, 'a_20way', capsys, data_dir='/data')[::2] == (0, [])
  assert len(ask(repository, 'a_20way', capsys, data_dir='/other')[2]) == 2  # another command


OUTCOMES = {
  'not reproduced: a: 87.90 ± 1.00% against 90.00 ± 1.00% stored, difference -2.10%; the 95% '
  'intervals do not overlap': {'mean': 0.879},
  'reproduced: a: 88.10 ± 1.00% against 90.00 ± 1.00% stored, difference -1.90%; the 95% '
  'intervals overlap (other device and versions)': {
    'mean': 0.881,
    'device': 'GPU x1',
    'versions': {'jax': '2'},
  },
  'not reproduced: a: not finite against 90.00 ± 1.00% stored, difference +nan%; the 95% '
  'intervals do not overlap': {'mean': None, 'ci95': None},
  'no reproduction: a: 90.00 ± 1.00% against 90.00 ± 1.00% stored, difference +0.00%; measured '
  'with protocol=transductive instead of inductive, seed=1 instead of 0': {
    'seed': 1,
    'protocol': 'transductive',
  },
}


@pytest.mark.parametrize('said', OUTCOMES)
def test_the_outcome_and_what_it_rests_on(said, repository, capsys):
  status, line, _ = ask(repository, 'a', capsys, Measuring(**OUTCOMES[said]))
  assert (line, status) == (said, 0 if said.startswith('reproduced') else 1)


def test_a_try_reproduces_nothing_and_leaves_the_true_run_alone(repository, capsys):
  status, said, commands = ask(repository, 'a_20way', capsys, steps=7, episodes=10)
  assert (status, said.partition(';')[2]) == (
    1,
    ' measured with steps=7 instead of 500, episodes=10 instead of 100',
  )
  added = f'--workdir={repository}/root/a-7-steps'
  assert commands[0] == [*shlex.split(TRAINING), '--steps=7', '--episodes=10', added]
  assert commands[1] == [*shlex.split(TESTING), '--episodes=10', '--name=20way-10', added]
  status, said, commands = ask(repository, 'a', capsys)
  assert (status, len(commands)) == (0, 1)


def test_arguments_that_are_new_since_the_record_have_their_defaults():
  old, new = RECORD | {'task': 'glyphs'}, RECORD | {'task': 'glyphs:ways=5,shots=1'}
  assert setting(old) == setting(new) != setting(RECORD | {'task': 'glyphs:ways=6'})


def test_a_command_that_fails_has_said_why_and_is_the_last(repository, capsys):
  calls = []
  status, said, _ = ask(repository, 'a_20way', capsys, lambda *words: calls.append(words) or 75)
  assert (status, len(calls)) == (75, 1) and said.startswith('run: python -m experiments.train')


MISTAKES = {
  'which result? give one of those that --list shows': None,
  "there is no stored result 'a_2way'; did you mean a_20way": 'a_2way',
  "there is no stored result 'omniglot'; --list shows all": 'omniglot',
  'b_large is unmeasured, there is nothing to compare with; its command is: python': 'b_large',
  'sweeps/depths is a table of several results': 'depths',
  "c_by_hand was measured by 'python -m experiments.compare_heads": 'c_by_hand',
}


@pytest.mark.parametrize('said', MISTAKES)
def test_what_cannot_be_reproduced_is_said_in_one_line(said, repository, capsys):
  status, line, commands = ask(repository, MISTAKES[said], capsys)
  assert (status, commands) == (1, []) and line.startswith(f'error: {said}')
  assert not (repository / 'root').exists()


def test_a_list_of_all(repository, capsys):
  reproduce(None, Options(True, '', None, None, None), repository=repository)
  rows = [line.split('  ') for line in capsys.readouterr().out.splitlines()]
  cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
  assert cells[0] == ['a', '90.00 ± 1.00%', '95 s on 2 CPU cores (AMD EPYC)', TRAINING]
  assert cells[1][3] == f'{TRAINING} && {TESTING}' and cells[2][1:3] == ['unmeasured', '-']


def test_all_stored_results_of_this_repository_can_be_asked_for():
  records = read_records(REPOSITORY)
  options = Options(False, 'runs', None, None, None)
  measured = [name for name, record in records.items() if is_measured(record)]
  plans = {name: plan(records, name, options) for name in measured}
  assert len(plans) > 50
  folders = {run.results.parent for runs in plans.values() for run in runs}
  assert {folder.name for folder in folders} <= set(records)
  flags = [w.partition('=')[2] for r in plans.values() for w in r[0].words if '--flagfile' in w]
  assert len(flags) == len(plans) and all((REPOSITORY / each).is_file() for each in flags)


def test_the_command_line():
  (status, out, error), (wrong, _, said) = (
    run('reproduce', *words) for words in (['--list'], ['one', 'two'])
  )
  assert (status, error) == (0, '') and len(out.splitlines()) == len(read_records(REPOSITORY))
  assert (wrong, said) == (1, "error: unexpected argument 'two'; flags are --name=value\n")


@pytest.mark.slow
def test_a_try_of_a_stored_result_from_end_to_end(tmp_path):
  words = ['sinusoid_10shot_maml_10_steps', '--steps=100', '--episodes=20', f'--root={tmp_path}']
  for _ in range(2):
    status, out, error = run('reproduce', *words)
    assert status == 1, error
    assert 'steps=100 instead of 70000, episodes=20 instead of 10000' in out.splitlines()[-1]
  assert error.count('done before: ') == 2
  record = read_results(tmp_path / 'sinusoid_10shot_maml_01_step-100-steps' / 'results.json')
  assert record['steps'] == 100 and np.isfinite(record['mean'])
