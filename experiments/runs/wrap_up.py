"""The end of a run: test, results.json, report.html."""

import io
import json
import shlex
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.components.class_parts import class_names
from experiments.output.metrics_log import read_metrics
from experiments.output.progress import episode_progress
from experiments.output.report import render
from experiments.output.results import (
  finite,
  read_results,
  refuse_other,
  result_record,
  write_results,
)
from experiments.output.sums import with_sum, without_sum
from experiments.output.text import (
  format_closeness,
  format_densities,
  format_estimate,
  format_onset,
)
from experiments.runs.density_scores import density_scores
from experiments.runs.difficulty import record_difficulty
from experiments.runs.evaluation import (
  Curves,
  Pair,
  Tested,
  adaptation_curves,
  closeness,
  draws_prefixes,
  judge_of_test,
  pair,
  per_episode,
)
from experiments.runs.learned import beside_baselines, say_learned
from experiments.runs.levels import record_levels
from experiments.runs.report_of import Measured, make_report
from experiments.runs.seen import see
from experiments.runs.setup import OPTIONAL, Setup, with_defaults
from metakit.estimates import IDENTITY, Estimate, estimate
from metakit.evaluation import not_finite
from metakit.evaluation.in_context import state_size
from metakit.files import check_writable, write_bytes, write_text
from metakit.fingerprint import fingerprint
from metakit.keys import GENERATOR
from metakit.onset import can_tell, onset
from metakit.sources import abstract_episode
from metakit.workdir import DATA, check_same_data

SECONDS = 'seconds.json'  # holds the training time up to each saved step
CHOICE = 'choice.json'  # holds by what the settings of a run were chosen, if they were


class Files(NamedTuple):
  """What a test reads from a workdir, and where it writes.

  Attributes:
    workdir: where results{name}.json, episodes{name}.npz and report{name}.html go.
    name: a suffix of the files.
    metrics: the metrics of the training.
    seconds: the time that training took; None if it is not known.
    trained: the command of the training, if this is a later test.
  """

  workdir: Path
  name: str
  metrics: list[dict[str, Any]]
  seconds: float | None
  trained: dict[str, str]

  def path(self, what: str, ending: str) -> Path:
    """Returns where to write."""
    return self.workdir / f'{what}{self.name}{ending}'


OUTPUTS = {'results': '.json', 'episodes': '.npz', 'report': '.html'}


def ready_files(workdir: Path, step: int, name: str = '') -> Files:
  """Reads what a test needs beside the learner, before it takes its time.

  Args:
    workdir: the folder of the run.
    step: training steps done.
    name: a suffix of the files to write.

  Raises:
    OSError: naming a file that cannot be read or written.
    ValueError: naming one that is damaged.
  """
  check_outputs(workdir, name)
  trained = training_command(workdir)
  return Files(workdir, name, read_metrics(workdir), read_seconds(workdir, step), trained)


def check_outputs(workdir: Path, name: str = '') -> None:
  """Raises OSError, naming the file, if what a test will write cannot be written."""
  check_writable([workdir / f'{what}{name}{ending}' for what, ending in OUTPUTS.items()])


def wrap_up(
  setup: Setup,
  tested: Tested,
  step: int,
  *,
  files: Files,
  episodes: int,
  seed: int,
  curve: str = 'full',
) -> dict[str, Any]:
  """Tests a learner once, writes the results, and says where.

  Args:
    setup: the setup of the run; specs['test_task'] and specs['learner'] are those of the test.
    tested: the learner, ready for test episodes.
    step: training steps done.
    files: what ready_files returned.
    episodes: how many test episodes there are.
    seed: names the test episodes.
    curve: see adaptation_curves.

  Returns:
    The record in the results file.

  Raises:
    ValueError: if results of another test have that name.
  """
  if files.name:
    check_name(setup, tested, files.path('results', '.json'), episodes, seed)
  with episode_progress(f'testing on {episodes} episodes', episodes) as on_chunk:
    values = per_episode(tested, episodes, on_chunk, judge=judge_of_test(tested.task))
  say_not_finite(values)
  identity = identity_of(tested, setup.specs['test_task'])
  write_episodes(files.path('episodes', '.npz'), values, identity)
  metric = tested.task.metric
  curves = adaptation_curves(setup, tested, episodes, curve=curve)
  seen = see(tested, episodes)
  record = make_record(setup, tested, step, files, seed, estimate(values[metric]))
  record['state_size'] = state_size(
    tested.learner, tested.params, abstract_episode(tested.source).support
  )
  record |= {DATA: identity['episodes']} if tested.source.data is not None else {}
  record |= record_curves(tested, curves)
  record |= record_classes(setup, tested, later=bool(files.name))
  record |= density_scores(tested, values)
  record |= record_levels(tested, values[metric]) | record_difficulty(tested)
  record |= record_choice(files.workdir)
  for name, value in format_densities(record['density']).items() if 'density' in record else ():
    print(f'{name}: {value}')
  compared = pair(metric, values)
  record |= record_pair(compared) if compared else {}
  if can_tell(files.metrics, setup.task.chance):
    record['onset_step'] = onset(files.metrics, setup.task.chance)
    print(format_onset(record), file=sys.stderr)
  record['baselines'] = beside_baselines(setup, tested, seen)
  say_learned(record['baselines'])
  write_results(files.path('results', '.json'), record)
  path = files.path('report', '.html')
  measured = Measured(values[metric], curves, compared, seen)
  report = make_report(setup, tested, record, metrics=files.metrics, measured=measured)
  write_text(path, render(report))
  score = format_estimate(metric, record['mean'], record['ci95'])
  print(f'{metric} {score} on {episodes} test episodes ({record["protocol"]})')
  print(f'report: {path}')
  return record


def record_classes(setup: Setup, tested: Tested, *, later: bool) -> dict[str, Any]:
  """Returns what a record says of the classes. A later test leaves out those of validation."""
  parts = ('train', 'test') if later else ('train', 'validation', 'test')
  classes = class_names(setup.task, tested.task, parts)
  return {'split': tested.task.tested, 'classes': classes} if classes else {}


def record_pair(compared: Pair) -> dict[str, Any]:
  """Returns what a record says of two quantities that should be equal."""
  followed, follows = compared.names
  slope, correlation = float(compared.slope), float(compared.correlation)
  return {f'{follows}_over_{followed}': {'slope': slope, 'correlation': correlation}}


def record_choice(workdir: Path) -> dict[str, Any]:
  """Returns what a record says of the choice of settings (experiments.choose), if there was one."""
  path = workdir / CHOICE
  return {'choice': json.loads(path.read_text('utf-8'))} if path.exists() else {}


def check_name(setup: Setup, tested: Tested, path: Path, episodes: int, seed: int) -> None:
  """Raises ValueError if a results file exists and belongs to another test."""
  if not path.exists():
    return
  setting = {'task': setup.specs['test_task'], 'learner': setup.specs['learner']}
  setting |= {'metric': tested.task.metric, 'protocol': tested.learner.protocol}
  setting |= {'seed': seed, 'episodes': episodes}
  stored = read_results(path)
  refuse_other(path, with_defaults(stored), with_defaults(setting), remedy='--name')
  if DATA in stored:  # records of before hold no checksum
    check_same_data(path, {'test': stored[DATA]}, {'test': checksum(tested)})


def record_curves(tested: Tested, curves: Curves) -> dict[str, Any]:
  """Returns a record's curves, and says how close the learner is to the Bayes predictor."""
  if not curves.learner:
    return {}
  as_record = lambda points: {curves.amount: [point._asdict() for point in points]}
  record: dict[str, Any] = {'adaptation': as_record(curves.learner)}
  record['curve_episodes'] = curves.episodes
  if curves.reference:
    record['reference'] = as_record(curves.reference)
    record['difference'] = as_record(curves.difference)
    close = closeness(curves)._asdict()
    record['beside_bayes'] = {name: close[name] for name in close if name != 'unit' or close[name]}
    print(format_closeness(record['beside_bayes']))
  elif draws_prefixes(tested.task, tested.learner):
    print('no exact reference of this task is known')
  return record


def say_not_finite(values: Mapping[str, Any]) -> None:
  """Says how many episodes have a loss that is not finite."""
  if said := not_finite(values):
    print(said, file=sys.stderr)


def checksum(tested: Tested) -> str | None:
  """Returns the fingerprint of the data of a test."""
  table = tested.task.table and tested.task.table(tested.split)
  return fingerprint(tested.source, table)


def identity_of(tested: Tested, spec: str) -> dict[str, Any]:
  """Returns what determines the episodes of a test; metakit.compare refuses different ones."""
  return {
    'episodes': checksum(tested) or spec,
    'root': jax.random.key_data(tested.root).tolist(),
    'generator': GENERATOR,
  }


def write_episodes(
  path: Path, values: Mapping[str, Any], identity: Mapping[str, Any] | None = None
) -> None:
  """Writes the metrics of each episode, arrays [episodes] in an .npz, and what the episodes are."""
  buffer = io.BytesIO()
  named: dict[str, Any] = {**values}
  if identity:
    named[IDENTITY] = np.array(json.dumps(identity))
  np.savez(buffer, **named)
  write_bytes(path, buffer.getvalue())


def make_record(
  setup: Setup, tested: Tested, step: int, files: Files, seed: int, score: Estimate
) -> dict[str, Any]:
  """Returns the record of one test."""
  specs = setup.specs
  return result_record(
    metric=tested.task.metric,
    estimate=score,
    seed=seed,
    protocol=tested.learner.protocol,
    task=specs['test_task'],
    learner=specs['learner'],
    network=specs['network'],
    optimizer=specs['optimizer'],
    steps=step,
    train_seconds=files.seconds,
    command=command_line(),
    schedule=specs['schedule'],
    training_task=specs['task'],
    training_seed=specs['seed'],
    tasks_per_step=specs['tasks_per_step'],
    **{name: specs[name] for name in OPTIONAL if specs[name]},
    **files.trained,
  )


def training_command(workdir: Path) -> dict[str, str]:
  """Returns the command of the training for a later test; nothing in the training itself."""
  path = workdir / 'results.json'
  if Path(sys.argv[0]).stem == 'train' or not path.exists():
    return {}
  return {'training_command': read_results(path)['command']}


def command_line() -> str:
  """Returns the command that started this process, in a form to be typed again."""
  path = Path(sys.argv[0])
  return shlex.join(['python', '-m', f'{path.parent.name}.{path.stem}', *sys.argv[1:]])


def write_seconds(workdir: Path, step: int, seconds: float) -> None:
  """Writes how long training took up to a saved step, so that a resumed run can go on counting.

  Args:
    workdir: the folder of the run.
    step: the saved step.
    seconds: the time in seconds; nan if it is not known.
  """
  noted = _seconds(workdir) | {str(step): round(seconds, 1)}
  write_text(workdir / SECONDS, json.dumps(with_sum(finite(noted))) + '\n')


def read_seconds(workdir: Path, step: int) -> float | None:
  """Returns the seconds that training took up to a saved step; None if it is not known."""
  return _seconds(workdir).get(str(step), None if step else 0.0)


def _seconds(workdir: Path) -> dict[str, float | None]:
  """Returns the seconds of each step; nothing, with a warning, if the file is damaged."""
  path = workdir / SECONDS
  if not path.exists():
    return {}
  try:
    noted = without_sum(dict(json.loads(path.read_text(encoding='utf-8'))))
    known = {int(step): value for step, value in noted.items() if value is not None}
    if not all(isinstance(value, int | float) for value in known.values()):
      raise ValueError('holds what is no number of seconds')
  except (ValueError, TypeError) as error:
    warnings.warn(
      f'{path} is damaged ({error}): how long the training took is not known; restore the file '
      'from a copy, or go on without it',
      stacklevel=3,
    )
    return {}
  return noted
