"""Trains learners and tests them after several numbers of inner steps.

The command is experiments/compare_learners.py.
"""

import functools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.command_line.flags import read_flagfile
from experiments.command_line.runtime import BAD_INPUT, end_preempted, one_line_errors
from experiments.components.tasks import DEFAULT_TASK, TASK_SUPPLIED, tasks_for
from experiments.output.machine import describe_device, versions
from experiments.output.results import read_results
from experiments.output.text import format_estimate
from experiments.runs import setup
from experiments.runs.workdir import own_workdir
from experiments.runs.wrap_up import command_line
from launch.children import PREEMPTED, run_child
from metakit.components.descent_learners import BY_DESCENT
from metakit.components.learners import DEFAULT_NETWORK, LEARNER_SUPPLIED, LEARNERS, NO_NETWORK
from metakit.components.specs import build, parse
from metakit.files import write_text
from metakit.tasks import Task, fingerprint_of
from metakit.workdir import DATA, read_flags

DEFINING = 'training', 'seed', 'episodes'
KEPT = 'mean', 'ci95', 'episodes', 'density'  # of a number of steps
SAME = 'metric', 'task', 'network', 'protocol', 'train_seconds'
OF_TRAINING = {*setup.DEFINING} - {'learner', 'seed'}  # the command has flags for these two


class Options(NamedTuple):
  """The flags of the command, by their names."""

  task: str | None
  learner: list[str]
  inner_steps: list[str]
  training: str
  workdir: str | None
  seed: int
  episodes: int
  parallel: str
  data_dir: str | None
  table_budget_gib: float


def compare_learners(options: Options) -> None:
  """Trains and tests the learners, and writes a record of all."""
  with one_line_errors(*BAD_INPUT):
    if not options.workdir or options.task:
      raise ValueError('give --workdir, the folder of all runs, and the task in --training')
    names = folders(options.learner)
    steps = numbers(options.inner_steps)
    workdir = Path(options.workdir)
    own_workdir(workdir, claim(workdir, options))
    runs = {spec: workdir / name for spec, name in names.items()}
    cells = compare_all(runs, lambda spec, folder: compare(spec, folder, steps, options=options))
    record: dict[str, Any] = {'cells': cells, 'command': command_line(), 'versions': versions()}
    record |= {'device': describe_device(), 'training': options.training, 'seed': options.seed}
    write_text(workdir / 'results.json', json.dumps(record, indent=2) + '\n')
    print(f'{len(cells)} learners: {workdir / "results.json"}')


def claim(workdir: Path, options: Options) -> dict[str, Any]:
  """Returns what the folder of all runs belongs to: the flags of the training, among others.

  A folder of an earlier version holds only the name of the file of these flags. It goes on
  with that name.
  """
  named = isinstance(read_flags(workdir).get('training'), str)
  claimed: dict[str, Any] = {name: getattr(options, name) for name in DEFINING}
  if named:
    return claimed
  training = training_flags(claimed['training'])
  return claimed | {'training': training, DATA: checksums_of(training, options)}


def checksums_of(training: Mapping[str, str], options: Options) -> dict[str, str | None]:
  """Returns the fingerprints of the data of a training, and of the data of its test."""
  supplied = {'data_dir': options.data_dir, 'budget': options.table_budget_gib * 2**30}

  @functools.cache
  def task_of(spec: str) -> Task:
    return build(parse('task', tasks_for(spec), spec, supplied=TASK_SUPPLIED), **supplied)

  train = training.get('task', DEFAULT_TASK)
  test = training.get('test_task', train)
  return {
    'train': fingerprint_of(task_of(train), 'train'),
    'test': fingerprint_of(task_of(test), 'test'),
  }


def training_flags(path: str) -> dict[str, str]:
  """Returns the flags in the file of --training that determine what is trained, by their names.

  Raises:
    ValueError: if there is no such file.
  """
  try:
    values = read_flagfile(path)
  except ValueError as error:
    raise ValueError(f'--training={path}: {error}') from None
  return {name: value for name, value in values.items() if name in OF_TRAINING}


def folders(specs: list[str]) -> dict[str, str]:
  """Returns a name for the folder of each learner, made of its whole spec.

  Raises:
    ValueError: if a spec is wrong.
  """
  for spec in specs:
    parse('learner', LEARNERS, spec, supplied=LEARNER_SUPPLIED)
  return {spec: re.sub(r'[^\w.=-]+', '-', spec) for spec in specs}


def numbers(texts: list[str]) -> list[int]:
  """Returns numbers of inner steps.

  Raises:
    ValueError: unless all are positive.
  """
  if not texts or not all(text.isdigit() and int(text) for text in texts):
    raise ValueError(f'--inner_steps={",".join(texts)} is no list of positive numbers')
  return [int(text) for text in texts]


def compare_all(
  runs: dict[str, Path], compare: Callable[[str, Path], dict[str, Any]]
) -> list[dict[str, Any]]:
  """Returns a cell for each learner.

  Args:
    runs: the folder of each learner, by its spec.
    compare: (spec, folder) -> the cell.

  Raises:
    ValueError: if the runs of some fail. It is raised when the runs of all others are done.
  """
  cells, failed = [], []
  for spec, folder in runs.items():
    try:
      cells.append(compare(spec, folder))
    except subprocess.CalledProcessError:  # it has said why
      failed.append(spec)
  if failed:
    raise ValueError(
      f'no result of {" and ".join(failed)}, as said above; the others are done and stay: change '
      'or leave out what failed and give the command again'
    )
  return cells


def compare(spec: str, folder: Path, steps: list[int], *, options: Options) -> dict[str, Any]:
  """Trains a learner and tests it after each number of inner steps: 0 alone if it takes none.

  Raises:
    CalledProcessError: if a run fails; it has said why.
  """
  name = spec.partition(':')[0]
  shared = {name: getattr(options, name) for name in ('seed', 'parallel', 'data_dir')}
  flags = [f'--workdir={folder}', *(f'--{n}={v}' for n, v in shared.items() if v is not None)]
  if not (folder / 'results.json').exists():
    training = f'--flagfile={options.training}'
    own = DEFAULT_NETWORK.get(name) == NO_NETWORK
    network = [f'--network={NO_NETWORK}'] if own else []
    call('train', training, f'--learner={spec}', *network, *flags, '--episodes=100')
  scores = {}
  steps = steps if name in BY_DESCENT else [0]
  for number in steps:
    path = folder / f'results-{number}-steps.json'
    if not path.exists():
      tested = [f'--learner={name}:test_steps={number}'] if number else []
      named = f'--name={number}-steps'
      call('evaluate', *flags, *tested, f'--episodes={options.episodes}', named)
    record = read_results(path)
    scores[str(number)] = {key: record[key] for key in KEPT if key in record}
  shown = (format_estimate(record['metric'], e['mean'], e['ci95']) for e in scores.values())
  after = ', '.join(map(str, steps))
  print(f'{spec}: {record["metric"]} after {after} steps: {", ".join(shown)}')
  same = {key: record[key] for key in SAME}
  return {'learner': spec, 'steps': scores} | same


def call(binary: str, *arguments: str) -> None:
  """Runs a binary as a process of its own, as a user would.

  Raises:
    CalledProcessError: if it fails; it has said why.
  """
  command = [sys.executable, '-m', f'experiments.{binary}', *arguments]
  status = run_child(command)
  if status == PREEMPTED:
    end_preempted('what was done is kept')
  if status:
    raise subprocess.CalledProcessError(status, command)
