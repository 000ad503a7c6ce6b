"""Chooses settings of a training on validation tasks: experiments/choose.py."""

import json
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.output.metrics_log import read_metrics
from experiments.output.text import format_estimate
from experiments.runs.compare_learners import call
from experiments.runs.wrap_up import CHOICE, command_line
from metakit.files import write_text

METRICS = 'accuracy', 'loss'  # by the first that there is, the best checkpoint is chosen too


class Options(NamedTuple):
  """The flags of the command, by their names."""

  task: str | None
  training: str
  candidate: list[str]
  trial_steps: int | None
  workdir: str | None
  seed: int
  episodes: int
  parallel: str
  data_dir: str | None
  table_budget_gib: float


class Trial(NamedTuple):
  """The validation of a candidate after its training.

  Attributes:
    flags: those of the candidate.
    metric: 'accuracy', or 'loss'; None if the training failed.
    mean: over validation episodes.
    ci95: half of the 95% interval.
  """

  flags: str
  metric: str | None = None
  mean: float | None = None
  ci95: float | None = None


def choose(options: Options) -> None:
  """Trains all candidates, and tests the one that validates best."""
  with one_line_errors(*BAD_INPUT):
    if not options.workdir or options.task:
      raise ValueError('give --workdir, the folder of all runs, and the task in --training')
    folders = {each: Path(options.workdir) / name_of(each) for each in options.candidate}
    if len(folders) < 2 or len({*folders.values()}) < len(options.candidate):
      raise ValueError('give two candidates or more, each of them once')
    trials = [trial(each, folder, options) for each, folder in folders.items()]
    chosen = best_of(trials).flags
    print(f'chosen: {chosen}', flush=True)
    record: dict[str, Any] = {'chosen': chosen, 'command': command_line()}
    record |= {'candidates': [each._asdict() for each in trials]}
    write_text(Path(options.workdir) / CHOICE, json.dumps(record, indent=2) + '\n')
  try:
    finish(chosen, folders[chosen], record, options)
  except subprocess.CalledProcessError as error:  # it has said why
    raise SystemExit(error.returncode) from None


def finish(chosen: str, folder: Path, record: Mapping[str, Any], options: Options) -> None:
  """Trains a candidate to its end and tests it; its record says by what it was chosen."""
  train(chosen, folder, options, '--notest')
  write_text(folder / CHOICE, json.dumps(record, indent=2) + '\n')
  train(chosen, folder, options, f'--episodes={options.episodes}')


def name_of(candidate: str) -> str:
  """Returns the name of a candidate's folder, made of its flags.

  Raises:
    ValueError: unless all parts are flags that a candidate may have.

  >>> name_of('--learner=maml:inner_steps=5 --clip_norm=1')
  'learner=maml-inner_steps=5-clip_norm=1'
  """
  for each in shlex.split(candidate) or ['']:
    name = re.match(r'--(\w+)=', each)
    if not name or name[1] in Options._fields or name[1] in ('flagfile', 'test'):
      raise ValueError(
        f'--candidate={candidate!r}: {each!r} is no setting to choose; give flags of '
        "experiments.train, such as --candidate='--learner=maml:inner_steps=5'"
      )
  return re.sub(r'[^\w.=-]+', '-', candidate.replace('--', ''))


def trial(candidate: str, folder: Path, options: Options) -> Trial:
  """Trains a candidate and returns its last validation; that of no metric if it fails."""
  flags, place = candidate, folder
  if options.trial_steps:
    flags = f'{candidate} --steps={options.trial_steps}'
    place = folder.with_name(f'{folder.name}-trial')
  try:
    train(flags, place, options, '--notest')
  except subprocess.CalledProcessError:  # it has said why
    return Trial(candidate)
  found = last_validation(read_metrics(place), candidate)
  said = format_estimate(found.metric or '', found.mean, found.ci95)
  print(f'{candidate}: validation {found.metric} {said}', flush=True)
  return found


def last_validation(lines: Sequence[dict[str, Any]], flags: str) -> Trial:
  """Returns the last validation in the metrics of a run."""
  line = next(line for line in reversed(lines) if 'validation/loss' in line)
  metric = next(name for name in METRICS if f'validation/{name}' in line)
  return Trial(flags, metric, line[f'validation/{metric}'], line[f'validation/{metric}_ci95'])


def best_of(trials: Sequence[Trial]) -> Trial:
  """Returns the trial of the highest accuracy or lowest loss, the first of several.

  Raises:
    ValueError: if all have failed.

  >>> best_of([Trial('a', 'loss', 2.0, 0.1), Trial('b'), Trial('c', 'loss', 1.0, 0.1)]).flags
  'c'
  """
  done = [each for each in trials if each.mean is not None]
  if not done:
    raise ValueError('all candidates failed, as said above; give others')
  sign = 1 if done[0].metric == 'loss' else -1
  return min(done, key=lambda each: sign * (each.mean or 0.0))


def train(candidate: str, folder: Path, options: Options, *more: str) -> None:
  """Trains a candidate, or goes on with its training.

  Raises:
    CalledProcessError: if it fails; it has said why.
  """
  shared = ('seed', 'parallel', 'data_dir', 'table_budget_gib')
  given = {name: getattr(options, name) for name in shared}
  flags = [f'--{name}={value}' for name, value in given.items() if value is not None]
  own = shlex.split(candidate)
  call('train', f'--flagfile={options.training}', *own, *flags, f'--workdir={folder}', *more)
