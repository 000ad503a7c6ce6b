"""Measures a stored result again and compares the two: experiments/reproduce.py."""

import difflib
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import experiments
from experiments.command_line.runtime import BAD_INPUT, end_preempted, one_line_errors
from experiments.output.records import (
  RESULTS,
  Record,
  device,
  is_measured,
  read_records,
  score,
  training_command,
  training_time,
)
from experiments.output.results import read_results
from experiments.output.text import format_estimate, is_fraction
from experiments.runs.setup import with_defaults
from launch.children import children
from metakit.data.files import listed
from metakit.estimates import Estimate, overlap

REPOSITORY = Path(experiments.__file__).parents[1]
REPRODUCED = 'reproduced'
TRAIN, EVALUATE = 'experiments.train', 'experiments.evaluate'
# What a measurement has to share with a stored one.
SETTING = (
  *('metric', 'protocol', 'task', 'learner', 'network', 'optimizer', 'schedule', 'training_task'),
  *('tasks_per_step', 'steps', 'training_seed', 'seed', 'episodes', 'split', 'data'),
)


class Options(NamedTuple):
  """The flags of the command, by their names."""

  list: bool
  root: str
  steps: int | None
  episodes: int | None
  data_dir: str | None


class Run(NamedTuple):
  """A command that is a part of measuring a result.

  Attributes:
    words: python -m MODULE and its flags.
    results: the file that it writes.
  """

  words: list[str]
  results: Path

  @property
  def command(self) -> str:
    """What one would type."""
    return shlex.join(self.words)

  def is_done(self) -> bool:
    """Says whether the command was run to its end before."""
    return self.results.exists() and read_results(self.results)['command'] == self.command


def reproduce(
  row: str | None,
  options: Options,
  *,
  repository: Path = REPOSITORY,
  start: Callable[[Sequence[str], Path], int] | None = None,
) -> None:
  """Trains and tests what a stored result was measured on, and says whether the two agree.

  It ends the process with status 1 if they do not.

  Args:
    row: the name of a file in experiments/results, without its ending.
    options: the flags.
    repository: the folder above experiments/.
    start: (words of a command, where to run it) -> its exit status, for tests.
  """
  with one_line_errors(*BAD_INPUT):
    records = read_records(repository)
    if options.list:
      print('\n'.join(lines(records)))
      return
    record = find(records, row, repository)
    runs = plan(records, str(row), options)
    print(f'{row}: {score(record)}, {training_time(record)} on {device(record)}', file=sys.stderr)
    for each in runs:
      finish(each, repository, start or run_python)
    outcome, said = verdict(record, read_results(runs[-1].results))
  print(f'{outcome}: {row}: {said}')
  if outcome != REPRODUCED:
    sys.exit(1)


def lines(records: Mapping[str, Record]) -> list[str]:
  """Returns a line for each stored result: name, score, training time, device, commands."""
  cells = []
  for name, record in records.items():
    where = f'{training_time(record)} on {device(record)}' if is_measured(record) else '-'
    commands = dict.fromkeys([training_command(record), record['command']])
    cells.append((name, score(record), where, ' && '.join(commands)))
  widths = [max((len(row[column]) for row in cells), default=0) for column in range(3)]
  padded = lambda row: [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
  return ['  '.join([*padded(row), row[3]]) for row in cells]


def find(records: Mapping[str, Record], row: str | None, repository: Path) -> Record:
  """Returns a measured record.

  Raises:
    ValueError: if there is none of that name, it is not measured, or it is a table of many results.
  """
  if not row:
    raise ValueError('which result? give one of those that --list shows')
  if row in records:
    if is_measured(records[row]):
      return records[row]
    raise ValueError(
      f'{row} is unmeasured, there is nothing to compare with; its command is: '
      f'{training_command(records[row])}'
    )
  if tables := sorted((repository / RESULTS).glob(f'*/{row.rpartition("/")[2]}.json')):
    name = tables[0].relative_to(repository / RESULTS).with_suffix('')
    raise ValueError(
      f'{name} is a table of several results, which are not compared here; see {tables[0]} for its '
      'command'
    )
  near = difflib.get_close_matches(row, records, n=3, cutoff=0.4)
  hint = f'; did you mean {" or ".join(near)}?' if near else ''
  raise ValueError(f'there is no stored result {row!r}{hint}; --list shows all')


def plan(records: Mapping[str, Record], row: str, options: Options) -> list[Run]:
  """Returns the commands that measure a result: its training, and a later test if it is of one.

  Results of one training share its workdir, which has the name of the first of them. A try with
  other steps has a workdir of its own.

  Raises:
    ValueError: if a command is neither a training nor a test.
  """
  record = records[row]
  trains = words_of(row, training_command(record), TRAIN)
  sharing = (n for n, each in records.items() if each['command'] == training_command(record))
  name = next(sharing, row) + (f'-{options.steps}-steps' if options.steps else '')
  workdir = (Path(options.root).expanduser() / name).absolute()
  added = [f'--workdir={workdir}']
  if options.data_dir:
    added.append(f'--data_dir={Path(options.data_dir).expanduser().absolute()}')
  episodes = [f'--episodes={options.episodes}'] if options.episodes else []
  steps = [f'--steps={options.steps}'] if options.steps else []
  training = Run([*trains, *steps, *episodes, *added], workdir / 'results.json')
  if record['command'] == training_command(record):
    return [training]
  tests = words_of(row, record['command'], EVALUATE)
  names = [word.partition('=')[2] for word in tests if word.startswith('--name=')]
  name = [*names, 'evaluation'][0]
  if episodes:
    name += f'-{options.episodes}'
    tests += [*episodes, f'--name={name}']
  tests += added
  return [training, Run(tests, workdir / f'results-{name}.json')]


def words_of(row: str, command: str, module: str) -> list[str]:
  """Returns the words of a command.

  Raises:
    ValueError: if it runs another module.
  """
  words = shlex.split(command)
  if words[:3] != ['python', '-m', module]:
    raise ValueError(f'{row} was measured by {command!r}, which is not run here; run it by hand')
  return words


def finish(run: Run, repository: Path, start: Callable[[Sequence[str], Path], int]) -> None:
  """Runs a command to its end, unless that was done before; goes on with one that was stopped.

  If it fails, its own message has said why, and the process ends with its status.
  """
  if run.is_done():
    print(f'done before: {run.results}', file=sys.stderr)
    return
  print(f'run: {run.command}', file=sys.stderr, flush=True)
  if status := start(run.words, repository):
    sys.exit(status if status > 0 else 128 - status)


def run_python(words: Sequence[str], repository: Path) -> int:
  """Runs a command of Python in a process of its own, which gets the signals of this one."""
  with children() as programs:
    status = programs.start([sys.executable, *words[1:]], cwd=repository).wait()
  if programs.signals:
    end_preempted('what was trained is saved')
  return status


def verdict(stored: Record, measured: Record) -> tuple[str, str]:
  """Says whether two measurements agree: whether their 95% intervals overlap.

  Returns:
    The outcome, which is REPRODUCED if they do, and what it rests on. If the two were not measured
    in the same way, with fewer steps say, it is another one.
  """
  ours, theirs = estimate_of(measured), estimate_of(stored)
  difference = ours.mean - theirs.mean
  unit = f'{100 * difference:+.2f}%' if is_fraction(stored['metric']) else f'{difference:+.4g}'
  text = lambda each: format_estimate(stored['metric'], each.mean, each.ci95)
  said = f'{text(ours)} against {text(theirs)} stored, difference {unit}'
  if other := differing(stored, measured):
    return 'no reproduction', f'{said}; measured with {listed(other, 3)}'
  agree = overlap(ours, theirs)
  said += f'; the 95% intervals {"overlap" if agree else "do not overlap"}'
  if elsewhere := [name for name in ('device', 'versions') if stored[name] != measured[name]]:
    said += f' (other {" and ".join(elsewhere)})'
  return REPRODUCED if agree else f'not {REPRODUCED}', said


def estimate_of(record: Record) -> Estimate:
  """Returns the mean of a record with its interval; a file has null for what is not finite."""
  mean, ci95 = record['mean'], record['ci95']
  known = math.nan if mean is None else mean, math.inf if ci95 is None else ci95
  return Estimate(*known, record['episodes'])


def differing(stored: Record, measured: Record) -> list[str]:
  """Says which parts of the setting differ, as name=value instead of value."""
  ours, theirs = (setting(each) for each in (measured, stored))
  return [
    f'{name}={ours[name]} instead of {theirs[name]}'
    for name in SETTING
    if name in ours and name in theirs and ours[name] != theirs[name]
  ]


def setting(record: Record) -> dict[str, Any]:
  """Returns what determines a measurement, with the defaults of arguments that are new."""
  filled = with_defaults({name: record[name] for name in SETTING if name in record})
  if 'training_task' in filled:
    filled |= {'training_task': with_defaults({'task': filled['training_task']})['task']}
  return filled
