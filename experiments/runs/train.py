"""Meta-trains a learner, tests it and writes a report: experiments/train.py."""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.command_line.interruptions import interruptions
from experiments.command_line.runtime import BAD_INPUT, end_preempted, one_line_errors
from experiments.components.task import check_former_split, understood
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
from experiments.runs.workdir import DATA, checksums_of, default_workdir, own_workdir, read_flags
from experiments.runs.wrap_up import (
  check_outputs,
  read_seconds,
  ready_files,
  wrap_up,
  write_seconds,
)
from metakit.checkpoint import Checkpoints, checkpoints
from metakit.devices import spread, spread_table
from metakit.dispatch import Dispatch, make_dispatch, train_until
from metakit.distributed import barrier, check_same, is_first
from metakit.divergence import REMEDY, NonFiniteLoss
from metakit.estimates import estimate
from metakit.keys import roots, task_key
from metakit.onset import onset
from metakit.train import TrainState, init_state_for

FLAGS = flags.FLAGS


def main() -> None:
  with one_line_errors(*BAD_INPUT):
    defining = {name: FLAGS[name].value for name in DEFINING}
    setup = make_setup(defining, FLAGS.data_dir, FLAGS.table_budget_gib, FLAGS.parallel)
    optimizer = make_optimizer(defining)
    learner = setup.learner(setup.task)
    train = setup.task.source('train')
    check_fits(setup)
    check_judges(setup, setup.test_task)
    keys = roots(FLAGS.seed)
    sharing_devices = 1 if FLAGS.parallel == 'none' else jax.device_count()
    shapes = abstract_state(setup, learner, optimizer)
    check_training_memory(setup, shapes, FLAGS.tasks_per_step // sharing_devices)
    dispatch = make_dispatch(
      learner,
      optimizer,
      train,
      keys,
      tasks_per_step=FLAGS.tasks_per_step,
      parallel=FLAGS.parallel,
      tasks_at_once=FLAGS.tasks_at_once or None,
    )
    workdir = Path(FLAGS.workdir or default_workdir(setup.specs))
    sums = checksums_of(setup)
    described = {**setup.specs, **{f'data of {part}': each for part, each in sums.items()}}
    check_same(described, FLAGS.meeting_seconds)
    if is_first():
      check_space(workdir, shapes)
      own_workdir(workdir, {**setup.specs, DATA: sums})
      check_outputs(workdir)
    barrier('set up', FLAGS.meeting_seconds)

  if is_first():
    say_understood(setup, workdir)
  stops = one_line_errors(NonFiniteLoss, *BAD_INPUT)
  with stops, checkpoints(workdir / 'checkpoints') as saved:
    episode = train(task_key(keys.train, 0, 0))
    state = jax.jit(lambda: init_state_for(learner, optimizer, keys.init, episode))()
    # As NumPy arrays: those of one device are bound to it.
    first, state = saved.restore(state) or (0, jax.device_get(state))
    state = spread(state, FLAGS.parallel)
    if first:
      print(f'continuing {workdir} at step {first}', file=sys.stderr)
    state = train_to_the_end(setup, dispatch, state, first, saved, workdir)
    files = ready_files(workdir, FLAGS.steps)
    params = jax.device_get(state.params)  # of all devices, those of other processes too
    tested = prepare(setup, params, setup.test_task, 'test', FLAGS.seed)
    wrap_up(setup, tested, FLAGS.steps, files, FLAGS.episodes, FLAGS.seed, FLAGS.curve)


def say_understood(setup: Setup, workdir: Path) -> None:
  """Says what was understood of the data; ends the process if a run began with other parts."""
  with one_line_errors(*BAD_INPUT):
    begun = read_flags(workdir)
    for name, task in (('task', setup.task), ('test_task', setup.test_task)):
      check_former_split(begun[name], task)
  for line in understood(setup.task, setup.test_task):
    print(line, file=sys.stderr)


def train_to_the_end(
  setup: Setup,
  dispatch: Dispatch,
  state: TrainState,
  first: int,
  saved: Checkpoints,
  workdir: Path,
) -> TrainState:
  """Trains, saves and validates from step `first` to --steps; returns the last state.

  Ends the process, all saved, if it is told to end before.
  """
  source = spread_table(setup.task.source('train'), FLAGS.parallel)
  spent = read_seconds(workdir, first)
  begun = time.monotonic() - (math.nan if spent is None else spent)
  with (
    metrics_log(workdir, first) as log,
    progress(FLAGS.steps, FLAGS.tasks_per_step, first) as bar,
    interruptions(60 * FLAGS.save_minutes) as interruption,
  ):
    keep, save_kept = delayed_saves(saved, workdir)
    monitor = watch_onset(workdir, setup.task.chance)

    def on_metrics(start: int, metrics: dict[str, Any]) -> None:
      save_kept()  # the losses after it are finite
      means = {name: float(values.mean()) for name, values in metrics.items()}
      step = start + len(metrics['loss'])
      log.write(step, means)
      bar.update(step, means)

    while first < FLAGS.steps:
      stop = next_boundary(first)
      state = train_until(
        dispatch,
        state,
        source,
        first=first,
        stop=stop,
        steps_per_dispatch=FLAGS.steps_per_dispatch,
        on_metrics=on_metrics,
        pause=interruption.due,
      )
      first, score = int(state.step), None
      if first == stop and is_multiple(first, FLAGS.validate_every):
        means = validate(setup, jax.device_get(state.params), first)
        log.write(first, means, prefix='validation')
        monitor(bar)
        score = means.get('accuracy', -means['loss'])
      if first < stop or is_multiple(first, FLAGS.save_every) or interruption.preempted():
        keep(first, time.monotonic() - begun, state, score)
        interruption.saved()
      if interruption.preempted():
        break
    save_kept()  # the last one has been validated
    saved.wait()
  if first < FLAGS.steps:
    end_preempted(f'step {first} of {FLAGS.steps} is saved')
  return state


def is_multiple(step: int, every: int) -> bool:
  """Tells whether something is due that is done at multiples and at the end."""
  return step % every == 0 or step == FLAGS.steps


def watch_onset(workdir: Path, chance: float | None) -> Callable[[Progress], None]:
  """Returns a function that says, once, when learning from examples has set in."""
  told: list[int] = []

  def monitor(bar: Progress) -> None:
    found = None if told else onset(read_metrics(workdir), chance)
    if found is not None:
      told.append(found)
      bar.note(f'learns in context by step {found:,}')

  return monitor


def delayed_saves(
  saved: Checkpoints, workdir: Path
) -> tuple[Callable[[int, float, TrainState, float | None], None], Callable[[], None]]:
  """Returns `keep` (step, seconds of training, state, score) and `save_kept`.

  A state whose own losses were finite may still be bad: its parameters came after them. It is kept
  until what follows has shown it to be good.
  """
  kept: list[tuple[int, float, TrainState, float | None]] = []

  def keep(step: int, seconds: float, state: TrainState, score: float | None) -> None:
    kept.append(
      (step, seconds, jax.tree.map(jnp.copy, state), score)
    )  # the next dispatch donates it

  def save_kept() -> None:
    for step, seconds, state, score in kept:
      # The state last, so that a resumed run misses nothing that belongs to its step.
      write_seconds(workdir, step, seconds)
      saved.save(step, state, score)
    kept.clear()

  return keep, save_kept


def next_boundary(first: int) -> int:
  """Returns the step at which to save or validate next: multiples, whatever the first step is."""
  after = lambda every: (first // every + 1) * every
  return min(after(FLAGS.save_every), after(FLAGS.validate_every), FLAGS.steps)


def validate(setup: Setup, params: Any, step: int) -> dict[str, float]:
  """Returns the metrics on validation episodes, with their 95% intervals.

  Raises:
    NonFiniteLoss: if the loss is not finite.
  """
  tested = prepare(setup, params, setup.test_task, 'validation', FLAGS.seed)
  values = per_episode(tested, FLAGS.validation_episodes)
  if not np.isfinite(values['loss']).all():
    raise NonFiniteLoss(f'the validation loss is not finite after step {step}; {REMEDY}')
  estimates = {name: estimate(each) for name, each in values.items()}
  means = {name: e.mean for name, e in estimates.items()}
  return means | {f'{name}_ci95': e.ci95 for name, e in estimates.items()}
