"""Combinators: samplers in, a source out. A source keeps its table, so plans stay row numbers."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metakit.absent import numbered
from metakit.episodes.augmentation import entries
from metakit.episodes.integer_draws import draw_without_replacement, integers_below
from metakit.sources import EpisodeSource, abstract_episode, as_source, change_plans, plan_at
from metakit.types import Episode, Key, Sampler


def relabel(sampler: Sampler, ways: int) -> EpisodeSource:
  """Permutes the labels at random, in the same way in support and query.

  Label y becomes permutation[y], every permutation equally likely; the examples stay where they
  are. info['classes'] and info['shots'], where present, are reordered with the labels:
  info['classes'][y] stays the class of label y. The rest of info is unchanged. Padding is
  relabelled like the first class, whose example it repeats; examples without a label (-1) stay so.

  Args:
    sampler: a source or another sampler, with integer labels 0 to ways - 1.
    ways: number of labels; `max_ways` for variable_shot.

  Returns:
    A source whose episodes are those of k1, relabelled by k2, where k1, k2 = split(key).

  Raises:
    ValueError: if ways is not positive, the labels are not integers, info has another number of
      classes, or (without info['classes']) a first episode has a label of `ways` or more.

  >>> from metakit.types import Examples
  >>> part = Examples(jnp.arange(3), jnp.arange(3))
  >>> episode = jax.jit(relabel(lambda key: Episode(part, part), ways=3))(jax.random.key(0))
  >>> bool((episode.support.y == episode.query.y).all()), sorted(episode.query.y.tolist())
  (True, [0, 1, 2])
  """
  source = as_source(sampler)
  shapes = abstract_episode(source)
  _check_labels(shapes, ways)
  if not (isinstance(shapes.info, dict) and 'classes' in shapes.info):
    _check_largest_label(source.plan, ways)

  def change(plan: Sampler) -> Sampler:
    def relabelled(key: Key) -> Episode:
      key, permutation_key = jax.random.split(key)
      permutation = draw_without_replacement(permutation_key, ways, ways)
      support, query, info = plan(key)
      return Episode(
        support._replace(y=numbered(support.y, permutation).astype(support.y.dtype)),
        query._replace(y=numbered(query.y, permutation).astype(query.y.dtype)),
        _reorder(info, permutation),
      )

    return relabelled

  return change_plans(source, change)


_IN_LABEL_ORDER = ('classes', 'shots')


def _reorder(info: Any, permutation: jax.Array) -> Any:
  if not isinstance(info, dict):
    return info
  ordered = {name: info[name] for name in _IN_LABEL_ORDER if name in info}
  return info | {name: jnp.zeros_like(v).at[permutation].set(v) for name, v in ordered.items()}


def _check_labels(episode: Episode, ways: int) -> None:
  if ways < 1:
    raise ValueError(f'ways={ways} is not positive; use ways>=1')
  for labels in (episode.support.y, episode.query.y):
    if labels.ndim != 1 or not jnp.issubdtype(labels.dtype, jnp.integer):
      raise ValueError(
        f'relabel(ways={ways}) needs integer labels [examples], the sampler gives '
        f'{_describe(labels)}; relabel classification episodes only'
      )
  for name in _IN_LABEL_ORDER:
    if isinstance(episode.info, dict) and name in episode.info:
      classes = len(episode.info[name])
      if classes != ways:
        raise ValueError(
          f"ways={ways} but info['{name}'] has {classes} entries; use ways={classes}"
        )


def _check_largest_label(sampler: Sampler, ways: int) -> None:
  support, query, _ = jax.jit(sampler)(jax.random.key(0))
  largest = max(int(support.y.max()), int(query.y.max()))
  if largest >= ways:
    raise ValueError(f'ways={ways} but an episode has the label {largest}; use ways={largest + 1}')


def mixture(
  samplers: Sequence[Sampler],
  weights: Sequence[float] | np.ndarray | None = None,
  first_class: Sequence[int] | None = None,
  *,
  stages: Mapping[int, Sequence[float] | np.ndarray] | None = None,
) -> EpisodeSource:
  """Draws each episode from one of several samplers.

  Under vmap every plan runs and one result is kept, so the cost is the sum of theirs.

  Args:
    samplers: sources, or other samplers, whose episodes have equal shapes, dtypes and info entries.
      Several tables become one, a copy of their rows in memory. Where one source has no table, or a
      `finish`, whole episodes are mixed, and what is compiled holds copies of all tables.
    weights: how likely each is, not negative, in any unit; equal by default.
    first_class: what is added to each one's info['classes'], so that no two classes have one
      number: for tables of 64 and 16 classes (0, 64), for samplers of one table (0, 0). Learners
      that tell all training classes apart need it; it becomes info['first_class'] [].
    stages: {step: weights}, other weights in meta-training from each of these steps on, such as
      metakit.balance.cooldown. Tests and calibration keep `weights`.

  Returns:
    A source whose episodes are samplers[i](k1). k2 draws i, where k1, k2 = split(key).
    info['component'] = i [] replaces that of an inner mixture. An info that is no dict moves to
    info['info'].

  Raises:
    ValueError: if there is no sampler, the weights do not match, are negative, not finite or all
      zero, the episodes differ in shape, first_class does not match or there are no classes, or a
      stage begins before step 0.

  >>> from metakit.episodes.sinusoid import sinusoid
  >>> small, large = sinusoid(amplitude=(0.1, 1.0)), sinusoid(amplitude=(1.0, 5.0))
  >>> mixture([small, large], weights=[3, 1])(jax.random.key(0)).info['component'].tolist()
  0
  """
  sources = tuple(map(as_source, samplers))
  if not sources:
    raise ValueError('mixture of 0 samplers; give at least one')
  thresholds = _thresholds(len(sources), weights)
  at_stage = _thresholds_at(thresholds, stages or {})
  _check_equal_shapes(sources)
  _check_first_class(sources, first_class)
  sources, data = _joined(sources)

  def mixed(key: Key, plans: Sequence[Sampler], thresholds: Any) -> Episode:
    key, component_key = jax.random.split(key)
    number = jax.random.bits(component_key, dtype=jnp.uint32) >> 1
    component = jnp.sum(number >= thresholds, dtype=jnp.int32)
    episode = jax.lax.switch(component, plans, key)
    info = entries(episode.info) | {'component': component}
    if first_class is not None:
      first = jnp.asarray(first_class, jnp.int32)[component]
      info |= {'classes': info['classes'] + first, 'first_class': first}
    return episode._replace(info=info)

  def schedule(step: jax.Array) -> Sampler:
    plans = [plan_at(source, step) for source in sources]
    return partial(mixed, plans=plans, thresholds=at_stage(step))

  scheduled = stages or any(source.schedule is not None for source in sources)
  plan = partial(mixed, plans=[source.plan for source in sources], thresholds=thresholds)
  return EpisodeSource(plan, data, schedule=schedule if scheduled else None)


def _joined(sources: tuple[EpisodeSource, ...]) -> tuple[tuple[EpisodeSource, ...], Any]:
  """Returns the same episodes as plans of the rows of one table, and this table.

  None for the table, and whole episodes, where there is no such table.
  """
  data = [source.data for source in sources]
  if any(source.finish is not None for source in sources) or any(each is None for each in data):
    return tuple(map(_without_table, sources)), None
  tables = list({id(each): each for each in data}.values())
  if len({(table.shape[1:], np.dtype(table.dtype)) for table in tables}) > 1:
    return tuple(map(_without_table, sources)), None
  starts = np.cumsum([0, *map(len, tables)]).tolist()
  start_of = {id(table): start for table, start in zip(tables, starts, strict=False)}
  moved = [change_plans(each, partial(_from_row, start_of[id(each.data)])) for each in sources]
  on_device = any(isinstance(table, jax.Array) for table in tables)
  join = jnp.concatenate if on_device else np.concatenate
  return tuple(moved), tables[0] if len(tables) == 1 else join(tables)


def _without_table(source: EpisodeSource) -> EpisodeSource:
  """Returns a source whose plans make whole episodes."""
  whole = change_plans(source, lambda plan: source.replace(plan=plan))
  return whole.replace(data=None, finish=None)


def _from_row(start: int, plan: Sampler) -> Sampler:
  """Returns the plan for a table before which there are `start` other rows."""

  def moved(key: Key) -> Episode:
    episode = plan(key)
    support, query = (part._replace(x=part.x + start) for part in episode[:2])
    return episode._replace(support=support, query=query)

  return moved if start else plan


def _check_first_class(
  sources: tuple[EpisodeSource, ...], first_class: Sequence[int] | None
) -> None:
  if first_class is None:
    return
  if len(first_class) != len(sources) or min(first_class) < 0:
    raise ValueError(
      f'first_class={tuple(first_class)}; give a number of 0 or more for each of '
      f'{len(sources)} samplers'
    )
  if 'classes' not in entries(abstract_episode(sources[0]).info):
    raise ValueError("first_class is given, and the episodes have no info['classes']; leave it out")


def ramp(step: Any, start: int, end: int, *, by: int, every: int) -> jax.Array:
  """Returns start, and `by` more after every `every` steps, up to `end`; for a curriculum.

  A curriculum is the `schedule` of a source (metakit.sources). Its episodes have
  the same shapes at every step: what is not there yet is 0 (function_combinators.truncate_inputs)
  or has weight 0 (`shorten`).

  Args:
    step: number of a meta-training step; may be traced.
    start: the first value.
    end: the last.
    by: how much it grows at a time.
    every: steps between one growth and the next.

  >>> from metakit.episodes.function_combinators import truncate_inputs
  >>> from metakit.episodes.functions import dense, functions
  >>> dims = lambda step: ramp(step, start=2, end=5, by=1, every=100)
  >>> schedule = lambda step: functions(truncate_inputs(dense(5), dims(step)))
  >>> [int((schedule(step)(jax.random.key(0)).query.x != 0).sum()) for step in (0, 150, 900)]
  [2, 3, 5]

  Raises:
    ValueError: if by or every is not positive.
  """
  if by < 1 or every < 1:
    raise ValueError(f'by={by} and every={every} must be positive')
  return jnp.minimum(start + by * (jnp.asarray(step) // every), end)


def switch(first: Sampler, then: Sampler, steps: int) -> EpisodeSource:
  """Episodes of one sampler for so many steps of meta-training and of another after them.

  Args:
    first: a source or another sampler, of easier episodes for instance.
    then: another, whose episodes have the same shapes; tests and calibration are of these.
    steps: meta-training steps with the first sampler.

  Returns:
    A source with a schedule (see `ramp`). As to tables see `mixture`.

  >>> from metakit.episodes import sinusoid
  >>> source = switch(sinusoid(amplitude=(1, 1)), sinusoid(amplitude=(2, 2)), steps=100)
  >>> [float(source.schedule(s)(jax.random.key(0)).info['amplitude']) for s in (0, 99, 100)]
  [1.0, 1.0, 2.0]

  Raises:
    ValueError: if steps is not positive or the episodes differ in shape.
  """
  if steps < 1:
    raise ValueError(f'steps={steps} is not positive; use steps>=1')
  sources = as_source(first), as_source(then)
  _check_equal_shapes(sources)
  joined, data = _joined(sources)

  def schedule(step: jax.Array) -> Sampler:
    early = jnp.asarray(step) < steps
    one, other = (plan_at(source, step) for source in joined)
    return lambda key: jax.tree.map(lambda a, b: jnp.where(early, a, b), one(key), other(key))

  return EpisodeSource(joined[1].plan, data, schedule=schedule)


def shorten(sampler: Sampler, shots: Any) -> EpisodeSource:
  """Gives the support examples after the first `shots` (which may be traced) the weight 0.

  >>> from metakit.episodes.sinusoid import sinusoid
  >>> shorten(sinusoid(shots=5), shots=3)(jax.random.key(0)).support.weight.tolist()
  [1.0, 1.0, 1.0, 0.0, 0.0]
  """

  def change(plan: Sampler) -> Sampler:
    def shortened(key: Key) -> Episode:
      episode = plan(key)
      support = episode.support
      there = (jnp.arange(len(support.y)) < shots).astype(jnp.float32)
      weight = there if support.weight is None else there * support.weight
      return episode._replace(support=support._replace(weight=weight))

    return shortened

  return change_plans(sampler, change)


_LENGTH = 0x4C454E47  # folded into an episode's key, to draw how long its support is


def vary_shots(sampler: Sampler, fewest: int = 0) -> EpisodeSource:
  """Keeps a random number of the support examples, the first ones; others get the weight 0.

  Args:
    sampler: a source or another sampler.
    fewest: the least number; all numbers from it to that of the sampler are equally likely.

  Raises:
    ValueError: if fewest is negative or more than there are.

  >>> from metakit.episodes.sinusoid import sinusoid
  >>> source = jax.jit(vary_shots(sinusoid(shots=5), fewest=2))
  >>> [int(source(jax.random.key(seed)).support.weight.sum()) for seed in range(5)]
  [3, 5, 4, 5, 2]
  """
  most = len(abstract_episode(as_source(sampler)).support.y)
  if not 0 <= fewest <= most:
    raise ValueError(f'fewest={fewest} is not between 0 and the {most} support examples')

  def change(plan: Sampler) -> Sampler:
    def varied(key: Key) -> Episode:
      drawn = integers_below(jax.random.fold_in(key, _LENGTH), most + 1 - fewest)
      return shorten(plan, fewest + drawn).plan(key)

    return varied

  return change_plans(sampler, change)


def _thresholds(components: int, weights: Sequence[float] | np.ndarray | None) -> np.ndarray:
  """Cumulative probabilities of all components but the last, times 2**31."""
  values = np.ones(components) if weights is None else np.asarray(weights, np.float64)
  if values.shape != (components,):
    raise ValueError(
      f'weights has shape {values.shape}; give one for each of {components} samplers'
    )
  if not np.isfinite(values).all() or (values < 0).any() or values.sum() == 0:
    raise ValueError(f'weights={values.tolist()}; use weights>=0 with a positive, finite sum')
  return np.rint(np.cumsum(values) / values.sum() * 2**31).astype(np.uint32)[:-1]


def _thresholds_at(
  first: np.ndarray, stages: Mapping[int, Sequence[float] | np.ndarray]
) -> Callable[[jax.Array], jax.Array]:
  """Returns a function: the thresholds of a meta-training step."""
  starts = sorted(stages)
  if starts and starts[0] < 0:
    raise ValueError(f'a stage begins at step {starts[0]}; use steps from 0 on')
  levels = np.stack([first, *(_thresholds(len(first) + 1, stages[step]) for step in starts)])
  begun = lambda step: jnp.sum(jnp.asarray(step) >= np.asarray(starts, np.int32), dtype=jnp.int32)
  return lambda step: jnp.asarray(levels)[begun(step)]


def _check_equal_shapes(sources: tuple[EpisodeSource, ...]) -> None:
  first, *others = ({_name(p): _describe(a) for p, a in _leaves(each)} for each in sources)
  for number, other in enumerate(others, 1):
    for name in first | other:
      if first.get(name) != other.get(name):
        raise ValueError(
          f'episode{name} is {other.get(name, "absent")} in sampler {number} but '
          f'{first.get(name, "absent")} in sampler 0; mix samplers of equal shapes'
        )


def _leaves(source: EpisodeSource) -> list[tuple[Any, Any]]:
  return jax.tree_util.tree_flatten_with_path(abstract_episode(source))[0]


def _name(path: Any) -> str:
  return jax.tree_util.keystr(path)


def _describe(array: Any) -> str:
  return f'{array.dtype}{list(array.shape)}'
