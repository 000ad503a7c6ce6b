"""The end of a run: test, results.json, report.html."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from experiments.components import Task
from experiments.metrics_log import read_metrics
from experiments.report import Report, write_report
from experiments.results import format_estimate, result_record, write_results, write_text
from experiments.setup import Setup
from experiments.testing import adaptation_curve, per_episode, picture, prepare
from metakit.evaluate import estimate
from metakit.keys import roots
from metakit.types import Params

SECONDS = 'seconds.json'  # training time up to each saved step


def wrap_up(
  setup: Setup,
  params: Params,
  workdir: Path,
  episodes: int,
  seed: int,
  task: Task | None = None,
  name: str = '',
) -> dict[str, Any]:
  """Tests a learner once and writes what came out; says where.

  Args:
    setup: of the run.
    params: the meta-parameters after training.
    workdir: where results{name}.json, report{name}.html and episodes{name}.npz go.
    episodes: test episodes.
    seed: names them.
    task: the test distribution; the run's own by default.
    name: a suffix of the files.

  Returns:
    The record in results.json.
  """
  spec = name and name[1:]
  task = task or setup.test_task
  tested = prepare(setup, params, task, seed)
  print(f'testing on {episodes} episodes', file=sys.stderr)
  values = per_episode(tested, task, task.source('test'), roots(seed).test, episodes)
  np.savez(workdir / f'episodes{name}.npz', **values)
  steps = setup.specs['steps']
  record = result_record(
    metric=task.metric,
    estimate=estimate(values[task.metric]),
    seed=seed,
    protocol=tested.learner.protocol,
    **{key: setup.specs[key] for key in ('learner', 'network', 'optimizer')},
    task=spec or setup.specs['test_task'],
    training_task=setup.specs['task'],
    training_seed=setup.specs['seed'],
    tasks_per_step=setup.specs['tasks_per_step'],
    schedule=setup.specs['schedule'],
    steps=steps,
    train_seconds=read_seconds(workdir, steps),
    command=command_line(),
  )
  write_results(workdir / f'results{name}.json', record)
  points, label = adaptation_curve(setup, tested, task)
  report = Report(
    title=f'{setup.specs["learner"].partition(":")[0]} on {record["task"].partition(":")[0]}',
    command=command_line(),
    record=[record],
    metrics=read_metrics(workdir),
    adaptation=points,
    adaptation_label=label,
    episode=picture(tested, task),
    settings=setup.specs,
  )
  path = workdir / f'report{name}.html'
  write_report(path, report)
  score = format_estimate(task.metric, record['mean'], record['ci95'])
  print(f'{task.metric} {score} on {episodes} test episodes ({record["protocol"]})')
  print(f'report: {path}')
  return record


def command_line() -> str:
  """Returns the command that started this process, to be typed again."""
  module = Path(sys.argv[0]).stem
  return shlex.join(['python', '-m', f'experiments.{module}', *sys.argv[1:]])


def write_seconds(workdir: Path, step: int, seconds: float) -> None:
  """Notes how long training took up to a saved step, so that a resumed run can go on counting."""
  noted = _seconds(workdir) | {str(step): round(seconds, 1)}
  write_text(workdir / SECONDS, json.dumps(noted) + '\n')


def read_seconds(workdir: Path, step: int) -> float:
  """Returns the seconds that training took up to a saved step; 0 if it is not known."""
  return _seconds(workdir).get(str(step), 0.0)


def _seconds(workdir: Path) -> dict[str, float]:
  path = workdir / SECONDS
  return json.loads(path.read_text()) if path.exists() else {}
