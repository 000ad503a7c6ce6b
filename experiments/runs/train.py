"""Meta-trains a learner, tests it and writes a report: experiments/train.py."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax

from experiments.command_line.runtime import BAD_INPUT, end_preempted, one_line_errors
from experiments.output.metrics_log import metrics_log, read_metrics
from experiments.output.progress import Progress, progress
from experiments.runs.evaluation import check_judges, per_episode, prepare
from experiments.runs.setup import (
  DEFINING,
  Setup,
  abstract_state,
  check_fits,
  check_space,
  check_training_memory,
  make_optimizer,
  make_setup,
)
from experiments.runs.teacher import with_teacher
from experiments.runs.trained import write_parts, write_trained
from experiments.runs.workdir import (
  check_former_split,
  checksums_of,
  default_workdir,
  own_workdir,
)
from experiments.runs.wrap_up import (
  check_outputs,
  read_seconds,
  ready_files,
  wrap_up,
  write_seconds,
)
from metakit.checkpoint import Checkpoints, checkpoints
from metakit.devices import spread_table
from metakit.dispatch import Dispatch, make_dispatch
from metakit.distributed import barrier, check_same, is_first
from metakit.divergence import REMEDY, NonFiniteLoss
from metakit.estimates import estimate
from metakit.interruptions import interruptions
from metakit.keys import Roots, roots
from metakit.onset import onset
from metakit.tasks import understood
from metakit.train import TrainState
from metakit.trained import load
from metakit.training import Course, Save, begin, check_same_shapes, train_on
from metakit.types import MetaLearner, Params
from metakit.workdir import CHECKPOINTS, DATA, read_flags


class Options(NamedTuple):
  """The flags of a training, by their names."""

  task: str | None
  test_task: str | None
  learner: str
  network: str | None
  objective: str | None
  optimizer: str
  schedule: str
  clip_norm: float
  steps: int
  tasks_per_step: int
  seed: int
  start: str | None
  teacher: str | None
  tasks_at_once: int
  steps_per_dispatch: int
  save_every: int
  save_minutes: float
  validate_every: int
  validation_episodes: int
  episodes: int
  curve: str
  test: bool
  workdir: str | None
  data_dir: str | None
  table_budget_gib: float
  parallel: str
  meeting_seconds: float


class Run(NamedTuple):
  """A training that is ready to begin.

  Attributes:
    setup: its components.
    learner: the learner of the training task.
    optimizer: the outer optimizer.
    keys: the root keys.
    dispatch: the training steps.
    shapes: the shapes of the training state.
    workdir: the folder of the run.
    params: those that training begins with; None for new ones.
  """

  setup: Setup
  learner: MetaLearner
  optimizer: optax.GradientTransformation
  keys: Roots
  dispatch: Dispatch
  shapes: TrainState
  workdir: Path
  params: Params | None


def train(options: Options) -> None:
  """Trains to the end, tests, and writes a report; goes on with a training that was stopped.

  Without --test it ends after the training.
  """
  with one_line_errors(*BAD_INPUT):
    run = make_run(options)
    claim(run, options.meeting_seconds)
  if is_first():
    say_understood(run.setup, run.workdir)
  stops = one_line_errors(NonFiniteLoss, *BAD_INPUT)
  with stops, checkpoints(run.workdir / CHECKPOINTS) as saved:
    source, parallel = run.setup.task.source('train'), options.parallel
    parts = run.learner, run.optimizer, source, run.keys
    state = begin(*parts, saved=saved, params=run.params, parallel=parallel)
    if int(state.step):
      print(f'continuing {run.workdir} at step {int(state.step)}', file=sys.stderr)
    state = train_to_the_end(run, state, saved, options)
    if not options.test:
      return
    files = ready_files(run.workdir, options.steps)
    params = jax.device_get(state.params)  # of all devices, those of other processes too
    tested = prepare(run.setup, params, run.setup.test_task, split='test', seed=options.seed)
    record = wrap_up(
      run.setup,
      tested,
      options.steps,
      files=files,
      episodes=options.episodes,
      seed=options.seed,
      curve=options.curve,
    )
    write_trained(run.setup, tested, record, workdir=run.workdir)


def make_run(options: Options) -> Run:
  """Makes what a training needs, and checks that it fits its data and devices.

  Raises:
    ValueError: in one line, for components or data that do not go together.
    OSError: for missing data.
  """
  defining = {name: getattr(options, name) for name in DEFINING}
  setup = make_setup(
    defining, options.data_dir, options.table_budget_gib, parallel=options.parallel
  )
  setup = with_teacher(setup, options.teacher)
  optimizer, learner = make_optimizer(defining), setup.learner(setup.task)
  train_source = setup.task.source('train')
  check_fits(setup)
  check_judges(setup, setup.test_task)
  sharing = 1 if options.parallel == 'none' else jax.device_count()
  shapes = abstract_state(setup, learner, optimizer)
  check_training_memory(setup, shapes, options.tasks_per_step // sharing)
  keys = roots(options.seed)
  dispatch = make_dispatch(
    learner,
    optimizer,
    train_source,
    keys,
    tasks_per_step=options.tasks_per_step,
    parallel=options.parallel,
    tasks_at_once=options.tasks_at_once or None,
  )
  workdir = Path(options.workdir or default_workdir(setup.specs))
  params = load(options.start).params if options.start else None
  if params is not None:
    check_same_shapes(params, shapes.params)
  return Run(setup, learner, optimizer, keys, dispatch, shapes, workdir, params)


def claim(run: Run, meeting_seconds: float) -> None:
  """Claims the workdir for this run, once all processes are known to have the same run."""
  sums = checksums_of(run.setup)
  described = {**run.setup.specs, **{f'data of {part}': each for part, each in sums.items()}}
  check_same(described, meeting_seconds)
  if is_first():
    check_space(run.workdir, run.shapes)
    own_workdir(run.workdir, {**run.setup.specs, DATA: sums})
    check_outputs(run.workdir)
  barrier('set up', meeting_seconds)


def say_understood(setup: Setup, workdir: Path) -> None:
  """Says what was understood of the data; ends the process if a run began with other parts."""
  with one_line_errors(*BAD_INPUT):
    begun = read_flags(workdir)
    for name, task in (('task', setup.task), ('test_task', setup.test_task)):
      check_former_split(begun[name], task)
  for line in understood(setup.task, setup.test_task):
    print(line, file=sys.stderr)


def train_to_the_end(
  run: Run, state: TrainState, saved: Checkpoints, options: Options
) -> TrainState:
  """Trains, saves and validates from the state's step to the last; returns the last state.

  If the process is told to end early, it saves the state and ends.
  """
  workdir, first = run.workdir, int(state.step)
  spent = read_seconds(workdir, first)
  course = Course(*(getattr(options, name) for name in Course._fields))
  with (
    metrics_log(workdir, first) as log,
    progress(options.steps, options.tasks_per_step, first) as bar,
    interruptions(60 * options.save_minutes) as interruption,
  ):
    monitor = watch_onset(workdir, run.setup.task.chance)

    def on_metrics(step: int, means: dict[str, float]) -> None:
      log.write(step, means)
      bar.update(step, means)

    def on_validation(step: int, means: dict[str, float]) -> None:
      log.write(step, means, prefix='validation')
      monitor(bar)

    def save(kept: Save) -> None:
      # The state last, so that a resumed run misses nothing that belongs to its step.
      write_seconds(workdir, kept.step, kept.seconds + (math.nan if spent is None else spent))
      saved.save(kept.step, kept.state, kept.score)
      write_parts(run.setup, workdir)

    state = train_on(
      run.dispatch,
      state,
      course,
      source=spread_table(run.setup.task.source('train'), options.parallel),
      save=save,
      validate=lambda params, step: validate(run.setup, params, step, options=options),
      on_metrics=on_metrics,
      on_validation=on_validation,
      interruption=interruption,
    )
    saved.wait()
  if int(state.step) < options.steps:
    end_preempted(f'step {int(state.step)} of {options.steps} is saved')
  return state


def watch_onset(workdir: Path, chance: float | None) -> Callable[[Progress], None]:
  """Returns a function that says, once, when learning from examples has set in."""
  announced: list[int] = []

  def monitor(bar: Progress) -> None:
    step = None if announced else onset(read_metrics(workdir), chance)
    if step is not None:
      announced.append(step)
      bar.note(f'learns in context by step {step:,}')

  return monitor


def validate(setup: Setup, params: Params, step: int, *, options: Options) -> dict[str, float]:
  """Returns the metrics on validation episodes, with their 95% intervals.

  Raises:
    NonFiniteLoss: if the loss is not finite.
  """
  tested = prepare(setup, params, setup.test_task, split='validation', seed=options.seed)
  values = per_episode(tested, options.validation_episodes)
  if not np.isfinite(values['loss']).all():
    raise NonFiniteLoss(f'the validation loss is not finite after step {step}; {REMEDY}')
  estimates = {name: estimate(each) for name, each in values.items()}
  means = {name: e.mean for name, e in estimates.items()}
  return means | {f'{name}_ci95': e.ci95 for name, e in estimates.items()}
