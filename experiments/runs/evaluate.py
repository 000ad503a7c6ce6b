"""Tests the learner of a workdir again: experiments/evaluate.py."""

import sys
from pathlib import Path
from typing import Any, NamedTuple

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.components.tasks import data_of
from experiments.runs.evaluation import check_judges, judges_of, prepare
from experiments.runs.setup import Setup, abstract_state, check_fits, make_optimizer, make_setup
from experiments.runs.trained import write_trained
from experiments.runs.workdir import check_former_split, read_specs
from experiments.runs.wrap_up import ready_files, wrap_up
from metakit.components.specs import name_in
from metakit.distributed import check_same, is_first
from metakit.tasks import (
  Task,
  fingerprint_of,
  understood,
  with_tested,
)
from metakit.trained.stored import NAME
from metakit.workdir import open_workdir


class Options(NamedTuple):
  """The flags of a test, by their names; `seed` is None if --seed was left out."""

  task: str | None
  learner: str | None
  split: str | None
  metric: str | None
  best: bool
  episodes: int
  curve: str
  seed: int | None
  workdir: str | None
  name: str
  data_dir: str | None
  table_budget_gib: float
  parallel: str
  meeting_seconds: float


def evaluate(options: Options) -> None:
  """Tests the learner of a workdir, and writes a record and a report beside those of its run."""
  with one_line_errors(*BAD_INPUT):
    if not options.workdir:
      raise ValueError('--workdir is missing; give the folder of a run of experiments.train')
    workdir = Path(options.workdir)
    specs = read_specs(workdir)
    specs['learner'] = same_learner(specs['learner'], options.learner)
    begun = dict(specs)
    specs['test_task'] = options.task or specs['test_task']
    setup = make_setup(specs, options.data_dir, options.table_budget_gib, parallel=options.parallel)
    open_workdir(workdir).check_data({'train': fingerprint_of(setup.task, 'train')})
    setup = of_part(setup, begun, options.split)
    check_part(setup.test_task)
    setup = measuring(setup, options.metric)
    check_fits(setup, ['test'])
    check_judges(setup, setup.test_task)
    sums = {'data of the test': fingerprint_of(setup.test_task, 'test')}
    check_same({**setup.specs, **sums}, options.meeting_seconds)
    step, state = restore(setup, specs, workdir, best=options.best)
    files = ready_files(workdir, step, f'-{options.name}')
    for line in understood(setup.test_task) if is_first() else ():
      print(line, file=sys.stderr)
    seed = specs['seed'] if options.seed is None else options.seed
    tested = prepare(setup, state.params, setup.test_task, split='test', seed=seed)
    record = wrap_up(
      setup,
      tested,
      step,
      files=files,
      episodes=options.episodes,
      seed=seed,
      curve=options.curve,
    )
    if not (options.learner or options.best or (workdir / NAME).exists()):
      # The training was by an earlier version, which did not write its learner.
      write_trained(setup, tested, record, workdir=workdir)


def of_part(setup: Setup, begun: dict[str, Any], part: str | None) -> Setup:
  """Returns the setup with test episodes from the classes of a part, by default `usual_part`.

  Args:
    setup: the setup of the test.
    begun: the flags that the run was begun with.
    part: the name of a part, or None.

  Raises:
    ValueError: if the classes were in other parts when the run began.
  """
  check_former_split(begun['task'], setup.task)
  data_of_run = {data_of(begun[flag]) for flag in ('task', 'test_task')}
  chosen = part or usual_part(setup.test_task, data_of(setup.specs['test_task']) in data_of_run)
  return setup._replace(test_task=with_tested(setup.test_task, chosen))


def check_part(task: Task) -> None:
  """Raises ValueError if a part has too little for the episodes, and names --split=all."""
  try:
    task.source('test')
  except ValueError as error:
    if task.table is None or task.tested == 'all':
      raise
    raise ValueError(f'{error}; or --split=all, for the classes of all parts') from error


def usual_part(task: Task, seen: bool) -> str:
  """Returns the part that is tested on by default.

  Args:
    task: the task to test on.
    seen: whether the data of the task served the training or the validation of the run.
  """
  return 'test' if seen or task.parted() in ('official', 'given') else 'all'


def same_learner(trained: str, asked: str | None) -> str:
  """Returns the learner spec to test: the trained one, or one of the same name.

  Raises:
    ValueError: for a learner of another name, which would use the parameters for something else.
  """
  if asked and name_in(asked) != name_in(trained):
    raise ValueError(f'this run trained {trained}; --learner={asked} is another learner')
  if not asked:
    return trained
  arguments = asked[len(name_in(asked)) + 1 :]
  return ','.join(filter(None, (trained, arguments)))  # the later value counts


def measuring(setup: Setup, metric: str | None) -> Setup:
  """Returns the setup with another headline metric.

  Raises:
    ValueError: if it does not exist for the task.
  """
  task = setup.test_task
  classifies = {'accuracy'} if task.objective.classifies else set()
  densities = {'nats', 'crps', 'squared_error'} if task.objective.density else set()
  known = {task.metric, 'loss', *classifies, *densities, *judges_of(task)}
  if metric and metric not in known:
    raise ValueError(
      f'--metric={metric} does not exist for {setup.specs["test_task"]}; use one of '
      f'{", ".join(sorted(known))}'
    )
  return setup._replace(test_task=task._replace(metric=metric)) if metric else setup


def restore(
  setup: Setup, specs: dict[str, Any], workdir: Path, *, best: bool = False
) -> tuple[int, Any]:
  """Returns the step and state of a run's newest whole checkpoint, or of its best.

  Raises:
    ValueError: if there is none.
  """
  learner, optimizer = setup.learner(setup.task), make_optimizer(specs)
  return open_workdir(workdir).restore(abstract_state(setup, learner, optimizer), best)
