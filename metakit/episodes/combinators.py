"""Combinators: samplers in, a sampler out."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metakit.absent import numbered
from metakit.episodes.few_shot import draw_without_replacement
from metakit.episodes.image_transforms import Transform
from metakit.types import Episode, EpisodeSource, Examples, Key, Sampler


def augment(sampler: Sampler, transform: Transform, each: str = 'example') -> Sampler:
  """Transforms the support and query examples at random.

  Where each class is transformed as one, its examples stay alike, and so a transform that makes
  another thing of them (a mirror image of a character) makes a new class: task augmentation (Liu,
  Chao, Lin 2020, arXiv:2003.00804).

  Args:
    sampler: a sampler of whole episodes (not a plan: its x are row numbers).
    transform: a pure function (key, x of one example) -> x, such as `rotate_quarter_turns`.
    each: 'example', independently of the others, or 'class', by one key for all of one label.

  Returns:
    A sampler whose episodes are sampler(k1), with x transformed by keys split from k2 (of a class:
    folded into k2), where k1, k2 = split(key).

  Raises:
    ValueError: for another `each`, or whatever `transform` raises for such examples; it is traced
      once here.

  >>> from metakit.episodes.sinusoid import sinusoid
  >>> jitter = lambda key, x: x + 0.1 * jax.random.normal(key, x.shape)
  >>> augment(sinusoid(), jitter)(jax.random.key(0)).support.x.shape
  (10, 1)
  """
  _check_each(each)

  def augmented(key: Key) -> Episode:
    key, transform_key = jax.random.split(key)
    return _transformed(sampler(key), transform, transform_key, each)

  _shapes(augmented)
  return augmented


def augment_source(
  source: EpisodeSource, transform: Transform, each: str = 'example'
) -> EpisodeSource:
  """As `augment`, for a source whose rows are put in place later.

  Args:
    source: any source, also one that is augmented already.
    transform: a pure function (key, x of one example) -> x.
    each: 'example' or 'class', see augment.

  Returns:
    A source that transforms x after source.finish, by keys split from (or folded into) the last of
    info['augmentation'], [augmentations, 2] uint32, which its plan adds: plan(key) is that of k1
    and the bits of k2, where k1, k2 = split(key).

  Raises:
    ValueError: for another `each`.
  """
  _check_each(each)

  def planned(plan: Sampler) -> Sampler:
    def noted(key: Key) -> Episode:
      key, own = jax.random.split(key)
      episode = plan(key)
      info = _entries(episode.info)
      bits = jax.random.bits(own, (1, 2), jnp.uint32)
      before = [info['augmentation']] if 'augmentation' in info else []
      return episode._replace(info={**info, 'augmentation': jnp.concatenate([*before, bits])})

    return noted

  def finish(episode: Episode) -> Episode:
    bits = episode.info['augmentation']
    before = episode._replace(info={**episode.info, 'augmentation': bits[:-1]})
    whole = episode if source.finish is None else source.finish(before)
    key = jax.random.wrap_key_data(bits[-1], impl='threefry2x32')
    whole = _transformed(whole, transform, key, each)
    return whole._replace(info={**whole.info, 'augmentation': bits})

  schedule = source.schedule
  return EpisodeSource(
    planned(source.plan),
    source.data,
    finish,
    None if schedule is None else lambda step: planned(schedule(step)),
  )


def _check_each(each: str) -> None:
  if each not in ('example', 'class'):
    raise ValueError(f"each={each!r} is unknown; use 'example' or 'class'")


def _transformed(episode: Episode, transform: Transform, key: Key, each: str) -> Episode:
  def part(key: Key, examples: Examples) -> Examples:
    if each == 'class':
      keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, examples.y)
    else:
      keys = jax.random.split(key, len(examples.y))
    return examples._replace(x=jax.vmap(transform)(keys, examples.x))

  keys = (key, key) if each == 'class' else jax.random.split(key)
  support, query = map(part, keys, episode[:2])
  return Episode(support, query, episode.info)


def relabel(sampler: Sampler, ways: int) -> Sampler:
  """Permutes the labels at random, in the same way in support and query.

  Label y becomes permutation[y], every permutation equally likely; the examples stay where they
  are. info['classes'] and info['shots'], where present, are reordered with the labels:
  info['classes'][y] stays the class of label y. The rest of info is unchanged. Plans may be
  relabelled too. Padding is relabelled like the first class, whose example it repeats; examples
  without a label (-1) stay so.

  Args:
    sampler: a sampler or plan with integer labels 0 to ways - 1.
    ways: number of labels; `max_ways` for variable_shot.

  Returns:
    A sampler whose episodes are sampler(k1), relabelled by k2, where k1, k2 = split(key).

  Raises:
    ValueError: if ways is not positive, the labels are not integers, info has another number of
      classes, or (without info['classes']) a first episode has a label of `ways` or more.
  """
  shapes = _shapes(sampler)
  _check_labels(shapes, ways)
  if not (isinstance(shapes.info, dict) and 'classes' in shapes.info):
    _check_largest_label(sampler, ways)

  def relabelled(key: Key) -> Episode:
    key, permutation_key = jax.random.split(key)
    permutation = draw_without_replacement(permutation_key, ways, ways)
    support, query, info = sampler(key)
    return Episode(
      support._replace(y=numbered(support.y, permutation).astype(support.y.dtype)),
      query._replace(y=numbered(query.y, permutation).astype(query.y.dtype)),
      _reorder(info, permutation),
    )

  return relabelled


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
  weights: Sequence[float] | None = None,
  first_class: Sequence[int] | None = None,
) -> Sampler:
  """Draws each episode from one of several samplers.

  Under vmap every sampler runs and one result is kept, so the cost is the sum of theirs.

  Args:
    samplers: samplers whose episodes have equal shapes, dtypes and info entries (or plans over
      the same table).
    weights: how likely each is, not negative, in any unit; equal by default.
    first_class: what is added to each one's info['classes'], so that no two classes have one
      number: for tables of 64 and 16 classes (0, 64), for samplers of one table (0, 0). Learners
      that tell all training classes apart need it; it becomes info['first_class'] [].

  Returns:
    A sampler whose episodes are samplers[i](k1) with info['component'] = i [] (which replaces
    that of an inner mixture; an info that is no dict moves to info['info']), i drawn by k2, where
    k1, k2 = split(key).

  Raises:
    ValueError: if there is no sampler, the weights do not match, are negative, not finite or all
      zero, the episodes differ in shape, or first_class does not match or there are no classes.

  >>> from metakit.episodes.sinusoid import sinusoid
  >>> small, large = sinusoid(amplitude=(0.1, 1.0)), sinusoid(amplitude=(1.0, 5.0))
  >>> mixture([small, large], weights=[3, 1])(jax.random.key(0)).info['component'].tolist()
  0
  """
  samplers = tuple(samplers)
  if not samplers:
    raise ValueError('mixture of 0 samplers; give at least one')
  thresholds = jnp.asarray(_thresholds(len(samplers), weights), jnp.uint32)
  _check_equal_shapes(samplers)
  _check_first_class(samplers, first_class)

  def mixed(key: Key) -> Episode:
    key, component_key = jax.random.split(key)
    number = jax.random.bits(component_key, dtype=jnp.uint32) >> 1
    component = jnp.sum(number >= thresholds, dtype=jnp.int32)
    episode = jax.lax.switch(component, samplers, key)
    info = _entries(episode.info) | {'component': component}
    if first_class is not None:
      first = jnp.asarray(first_class, jnp.int32)[component]
      info |= {'classes': info['classes'] + first, 'first_class': first}
    return episode._replace(info=info)

  return mixed


def _check_first_class(samplers: tuple[Sampler, ...], first_class: Sequence[int] | None) -> None:
  if first_class is None:
    return
  if len(first_class) != len(samplers) or min(first_class) < 0:
    raise ValueError(
      f'first_class={tuple(first_class)}; give a number of 0 or more for each of '
      f'{len(samplers)} samplers'
    )
  if 'classes' not in _entries(_shapes(samplers[0]).info):
    raise ValueError("first_class is given, and the episodes have no info['classes']; leave it out")


def ramp(step: Any, start: int, end: int, by: int, every: int) -> jax.Array:
  """Returns start, and `by` more after every `every` steps, up to `end`; for a curriculum.

  A curriculum is an EpisodeSource's `schedule`. Its episodes have the same shapes at every step:
  what is not there yet is 0 (function_combinators.truncate_inputs) or has weight 0 (`shorten`).

  Args:
    step: of meta-training; may be traced.
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


def switch(first: Sampler, then: Sampler, steps: int) -> Callable[[jax.Array], Sampler]:
  """Returns the schedule (see `ramp`) of one sampler for so many steps and another after them.

  Args:
    first: a sampler or plan, of easier episodes for instance.
    then: another, whose episodes have the same shapes.
    steps: of meta-training with the first.

  >>> from metakit.episodes import sinusoid
  >>> schedule = switch(sinusoid(amplitude=(1, 1)), sinusoid(amplitude=(2, 2)), steps=100)
  >>> [float(schedule(step)(jax.random.key(0)).info['amplitude']) for step in (0, 99, 100)]
  [1.0, 1.0, 2.0]

  Raises:
    ValueError: if steps is not positive or the episodes differ in shape.
  """
  if steps < 1:
    raise ValueError(f'steps={steps} is not positive; use steps>=1')
  _check_equal_shapes((first, then))

  def at(step: jax.Array) -> Sampler:
    early = jnp.asarray(step) < steps
    return lambda key: jax.tree.map(lambda a, b: jnp.where(early, a, b), first(key), then(key))

  return at


def shorten(sampler: Sampler, shots: Any) -> Sampler:
  """Gives the support examples after the first `shots` (which may be traced) the weight 0."""

  def shortened(key: Key) -> Episode:
    episode = sampler(key)
    support = episode.support
    there = (jnp.arange(len(support.y)) < shots).astype(jnp.float32)
    weight = there if support.weight is None else there * support.weight
    return episode._replace(support=support._replace(weight=weight))

  return shortened


def _entries(info: Any) -> dict[str, Any]:
  if isinstance(info, dict):
    return info
  return {'info': info} if jax.tree.leaves(info) else {}


def _thresholds(components: int, weights: Sequence[float] | None) -> np.ndarray:
  """Cumulative probabilities of all components but the last, times 2**31."""
  values = np.ones(components) if weights is None else np.asarray(weights, np.float64)
  if values.shape != (components,):
    raise ValueError(
      f'weights has shape {values.shape}; give one for each of {components} samplers'
    )
  if not np.isfinite(values).all() or (values < 0).any() or values.sum() == 0:
    raise ValueError(f'weights={values.tolist()}; use weights>=0 with a positive, finite sum')
  return np.rint(np.cumsum(values) / values.sum() * 2**31).astype(np.uint32)[:-1]


def _check_equal_shapes(samplers: tuple[Sampler, ...]) -> None:
  first, *others = ({_name(p): _describe(a) for p, a in _leaves(s)} for s in samplers)
  for number, other in enumerate(others, 1):
    for name in first | other:
      if first.get(name) != other.get(name):
        raise ValueError(
          f'episode{name} is {other.get(name, "absent")} in sampler {number} but '
          f'{first.get(name, "absent")} in sampler 0; mix samplers of equal shapes'
        )


def _leaves(sampler: Sampler) -> list[tuple[Any, Any]]:
  return jax.tree_util.tree_flatten_with_path(_shapes(sampler))[0]


def _name(path: Any) -> str:
  return jax.tree_util.keystr(path)


def _describe(array: Any) -> str:
  return f'{array.dtype}{list(array.shape)}'


def _shapes(sampler: Sampler) -> Episode:
  return jax.eval_shape(sampler, jax.random.key(0))
