"""A whole training. It begins or continues, validates and saves on the way, and ends early if told.

  course = Course(steps=5000, validate_every=500, save_every=500)
  own_workdir('runs/mine', {'learner': 'maml', 'rate': 1e-3, 'seed': 0})
  with checkpoints('runs/mine/checkpoints') as saved:
    state = begin(learner, optimizer, train, keys, saved=saved)
    dispatch = make_dispatch(learner, optimizer, train, keys, tasks_per_step=4)
    state = train_on(dispatch, state, course, save=saving(saved), validate=validate)

The same lines again continue where the last ones stopped, and end with the same bits. (Each state
belongs to its step, and the step names its tasks.) metakit.workdir.own_workdir refuses a second
process in the folder, and other flags than those that the run began with.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metakit.checkpoint import Checkpoints
from metakit.devices import spread
from metakit.dispatch import Dispatch, train_until
from metakit.interruptions import NEVER, Interruptions
from metakit.keys import Roots, task_key
from metakit.sizes import check_positive
from metakit.sources import EpisodeSource
from metakit.train import TrainState, init_state_for
from metakit.types import MetaLearner, Metrics, Params, Sampler

# Takes what a training reports: (step, means by name) -> None.
Tell = Callable[[int, dict[str, float]], None]


class Course(NamedTuple):
  """How long a training is, and what is done on the way.

  Attributes:
    steps: meta-training steps of the whole training.
    steps_per_dispatch: steps in one call to the devices.
    save_every: steps between checkpoints; the last state is saved too.
    validate_every: steps between validations; the last state is validated too.
  """

  steps: int
  steps_per_dispatch: int = 10
  save_every: int = 500
  validate_every: int = 500

  def next_stop(self, step: int) -> int:
    """Returns the step at which to save or validate next: a multiple, whatever `step` is."""
    after = lambda every: (step // every + 1) * every
    return min(after(self.save_every), after(self.validate_every), self.steps)

  def is_due(self, step: int, every: int) -> bool:
    """Tells whether a step is a multiple of `every`, or the last one."""
    return step % every == 0 or step == self.steps


class Save(NamedTuple):
  """A state to save.

  Attributes:
    step: steps done.
    state: the state after these steps.
    score: its score in the validation, the higher the better; None if it was not validated.
    seconds: time since the training was begun or continued.
  """

  step: int
  state: TrainState
  score: float | None
  seconds: float


def begin(
  learner: MetaLearner,
  optimizer: optax.GradientTransformation,
  sampler: Sampler,
  roots: Roots,
  *,
  saved: Checkpoints | None = None,
  params: Params | None = None,
  parallel: str = 'none',
) -> TrainState:
  """Returns the state to train on from: the newest that is saved, or the first.

  Args:
    learner: any MetaLearner.
    optimizer: any optax transformation.
    sampler: the training episodes: a source, or another sampler.
    roots: the keys of the run.
    saved: checkpoints of a training that was stopped; None to begin one.
    params: those to begin with, of another training of such a learner; None for new ones.
    parallel: see metakit.dispatch.make_dispatch.

  Raises:
    ValueError: as metakit.train.init_state, for params of another learner, and for checkpoints of
      another learner or optimizer.
  """
  episode = sampler(task_key(roots.train, 0, 0))
  state = jax.jit(lambda: init_state_for(learner, optimizer, roots.init, episode))()
  if params is not None:
    check_same_shapes(params, state.params)
    state = state._replace(params=params, opt_state=jax.jit(optimizer.init)(params))
  state = jax.device_get(state)  # as NumPy arrays: those of one device are bound to it
  restored = saved.restore(state) if saved else None
  return spread(restored[1] if restored else state, parallel)


def check_same_shapes(params: Params, expected: Params) -> None:
  """Raises ValueError, naming the first that differs, unless parameters have the same shapes.

  >>> check_same_shapes({'w': np.ones((2, 3))}, {'w': np.ones((2, 4))})
  Traceback (most recent call last):
  ...
  ValueError: the parameters to begin with are of another learner: ['w'] is (2, 3), not (2, 4)
  """
  shapes = lambda tree: {
    jax.tree_util.keystr(path): np.shape(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
  ours, theirs = shapes(params), shapes(expected)
  for name in sorted(ours | theirs):
    one, other = ours.get(name, 'missing'), theirs.get(name, 'unknown')
    if one != other:
      raise ValueError(
        f'the parameters to begin with are of another learner: {name} is {one}, not {other}'
      )


def train_on(
  dispatch: Dispatch,
  state: TrainState,
  course: Course,
  *,
  source: EpisodeSource | None = None,
  save: Callable[[Save], None] | None = None,
  validate: Callable[[Params, int], dict[str, float]] | None = None,
  on_metrics: Tell | None = None,
  on_validation: Tell | None = None,
  interruption: Interruptions = NEVER,
) -> TrainState:
  """Trains from the state's step to the end of the course, or until it is told to end.

  Args:
    dispatch: what metakit.dispatch.make_dispatch returned.
    state: what `begin` returned; donated.
    course: how long to train, and when to save and validate.
    source: the training episodes, with their table where it is to stay. By default it is the source
      of the dispatch, whose table is on the device if it fits (metakit.sources.BUDGET_BYTES).
    save: gets each state to save, once the losses after it are known to be finite. The losses that
      led to a state may be finite while its parameters are not.
    validate: (params as NumPy arrays, step) -> metrics. The score of the state is 'accuracy' or, if
      there is none, -'loss'.
    on_metrics: gets the means of the training metrics after each dispatch.
    on_validation: gets what `validate` returned.
    interruption: tells when to save, or to end early (metakit.interruptions). By default never.

  Returns:
    The last state; its `step` is less than course.steps if the training was told to end.

  Raises:
    ValueError: for a course without steps, or intervals that are not positive.
    NonFiniteLoss: naming the steps. States before them are saved.
  """
  check_positive(**course._asdict())
  keep, save_kept = _delayed(save or (lambda kept: None))
  step, source = int(state.step), dispatch.placed() if source is None else source

  def on_dispatch(start: int, metrics: Metrics) -> None:
    save_kept()  # the losses after it are finite
    if on_metrics:
      means = {name: float(values.mean()) for name, values in metrics.items()}
      on_metrics(start + len(metrics['loss']), means)

  while step < course.steps and not interruption.preempted():
    stop = course.next_stop(step)
    state = train_until(
      dispatch,
      state,
      source,
      first=step,
      stop=stop,
      steps_per_dispatch=course.steps_per_dispatch,
      on_metrics=on_dispatch,
      pause=interruption.due,
    )
    step, score = int(state.step), None
    if validate and step == stop and course.is_due(step, course.validate_every):
      score = _score(validate, state, step, on_validation)
    paused = step < stop or interruption.preempted()
    if paused or course.is_due(step, course.save_every):
      keep(step, state, score)
      interruption.saved()
  save_kept()  # the last one has been validated
  return state


def saving(saved: Checkpoints) -> Callable[[Save], None]:
  """Returns the `save` of `train_on` that writes checkpoints."""
  return lambda kept: saved.save(kept.step, kept.state, kept.score)


def _score(
  validate: Callable[[Params, int], dict[str, float]],
  state: TrainState,
  step: int,
  tell: Tell | None,
) -> float:
  means = validate(jax.device_get(state.params), step)
  if tell:
    tell(step, means)
  return means.get('accuracy', -means['loss'])


def _delayed(
  save: Callable[[Save], None],
) -> tuple[Callable[[int, TrainState, float | None], None], Callable[[], None]]:
  """Returns `keep` (step, state, score) and `save_kept`, which saves what is kept."""
  kept: list[Save] = []
  begun = time.monotonic()

  def keep(step: int, state: TrainState, score: float | None) -> None:
    copy = jax.tree.map(jnp.copy, state)  # the next dispatch donates the state
    kept.append(Save(step, copy, score, time.monotonic() - begun))

  def save_kept() -> None:
    for each in kept:
      save(each)
    kept.clear()

  return keep, save_kept
