"""N-way K-shot episodes (Vinyals et al. 2016, Matching Networks, arXiv:1606.04080)."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metakit.data.files import listed
from metakit.data.table import ClassTable
from metakit.types import Episode, EpisodeSource, Examples, Key, Sampler


def draw_without_replacement(key: Key, count: jax.typing.ArrayLike, num_draws: int) -> jax.Array:
  """Draws `num_draws` different integers from 0 to count - 1, every ordered draw equally likely.

  A Fisher-Yates shuffle stopped after `num_draws` swaps, in which the array is never built: only
  the swaps are kept, so the cost does not depend on `count`, which may be traced.

  Args:
    key: a key.
    count: how many integers there are, at least `num_draws` (not checked: it may be traced).
    num_draws: static.

  Returns:
    [num_draws] int32, in random order.

  >>> sorted(draw_without_replacement(jax.random.key(0), 4, 4).tolist())
  [0, 1, 2, 3]
  """
  return choose(jax.random.bits(key, (num_draws,), jnp.uint32), count)


def choose(bits: jax.Array, count: jax.typing.ArrayLike) -> jax.Array:
  """As `draw_without_replacement`, from random bits [num_draws] uint32 in place of a key.

  Plans draw the bits of all their choices at once: each call of the generator costs a fifth of a
  second to compile.
  """
  step = jnp.arange(len(bits), dtype=jnp.int32)
  return undo_swaps(step, step + reduce_below(bits, count - step))


def integers_below(key: Key, limit: jax.typing.ArrayLike) -> jax.Array:
  """Draws an integer from 0 to limit - 1 for each entry of `limit`.

  32 random bits modulo the limit: no integer is more likely than another by more than a factor of
  1 + limit / 2**32. jax.random.randint draws twice the bits, and its way of using them may change
  with the version of JAX; plans must not.

  Args:
    key: a key.
    limit: any shape, positive integers.

  Returns:
    int32 of the shape of `limit`.
  """
  return reduce_below(jax.random.bits(key, jnp.shape(limit), jnp.uint32), limit)


def reduce_below(bits: jax.Array, limit: jax.typing.ArrayLike) -> jax.Array:
  """As `integers_below`, from random bits uint32 of the shape of `limit` in place of a key."""
  return (bits % jnp.asarray(limit).astype(jnp.uint32)).astype(jnp.int32)


@partial(jax.jit, inline=True)  # compiled once, also when a sampler is called without jit
def undo_swaps(own: jax.Array, target: jax.Array) -> jax.Array:
  """Says what stands at the places `own` after a shuffle that never built its array.

  The shuffle exchanged own[i] and target[i] for i = 0, 1, ... of an array that held its own places.

  Args:
    own: [swaps] different places, each exchanged when its turn comes and never after.
    target: [swaps] places, none that an earlier swap has finished with.

  Returns:
    [swaps] int32.
  """
  step = jnp.arange(len(own))

  def undo(place, swap):  # before swap m, what is now at target[m] was at own[m]
    number, swapped_own, swapped_target = swap
    return jnp.where((step > number) & (place == swapped_target), swapped_own, place), None

  place, _ = jax.lax.scan(undo, target, (step, own, target), reverse=True, unroll=min(len(own), 16))
  return place.astype(jnp.int32)


def gather(plan: Sampler, data: jax.Array) -> Sampler:
  """Makes a sampler of whole episodes of a plan: row numbers become rows of `data`.

  Args:
    plan: a sampler whose x are row numbers of `data`.
    data: [rows, ...].
  """
  return lambda key: gather_rows(plan(key), data)


def gather_rows(episode: Episode, data: jax.Array | None) -> Episode:
  """Replaces the row numbers in an episode by those rows of `data`; data None changes nothing."""
  if data is None:
    return episode

  def rows(examples):
    # Row numbers of a plan are never negative; to look costs as much as to copy.
    wanted = data.at[examples.x].get(mode='promise_in_bounds', wrap_negative_indices=False)
    return examples._replace(x=wanted)

  return episode._replace(support=rows(episode.support), query=rows(episode.query))


def complete(source: EpisodeSource, planned: Episode, data: jax.Array | None) -> Episode:
  """Makes a whole episode of a planned one.

  Args:
    source: that of the plan.
    planned: an episode of source.plan.
    data: source.data, or None if the rows are in place already.
  """
  episode = gather_rows(planned, data)
  return episode if source.finish is None else source.finish(episode)


def sampler_of(source: EpisodeSource) -> Sampler:
  """Returns the sampler of whole episodes of a source whose data is on a device."""
  data = None if source.data is None else jnp.asarray(source.data)
  return lambda key: complete(source, source.plan(key), data)


def few_shot_plan(table: ClassTable, ways: int = 5, shots: int = 1, queries: int = 15) -> Sampler:
  """Plans N-way K-shot episodes: like `few_shot`, with row numbers of table.x in place of x.

  Args and raises: see `few_shot`.
  """
  check_few_shot(table, ways, shots, queries)
  starts, counts = jnp.asarray(table.starts, jnp.int32), jnp.asarray(table.counts, jnp.int32)

  @jax.jit
  def plan(key: Key) -> Episode:
    bits = jax.random.bits(key, (ways, 1 + shots + queries), jnp.uint32)
    classes = choose(bits[:, 0], len(starts))
    rows = jax.vmap(choose)(bits[:, 1:], counts[classes]) + starts[classes, None]
    return split_rows(rows, shots, {'classes': classes})

  return plan


def split_rows(rows: jax.Array, shots: int, info: dict[str, jax.Array]) -> Episode:
  """Splits rows [ways, shots + queries] into an episode; labels number the first axis."""
  chex.assert_rank(rows, 2)
  labels = jnp.broadcast_to(jnp.arange(len(rows), dtype=jnp.int32)[:, None], rows.shape)
  part = lambda start, stop: Examples(rows[:, start:stop].ravel(), labels[:, start:stop].ravel())
  return Episode(part(0, shots), part(shots, rows.shape[1]), info)


def few_shot(table: ClassTable, ways: int = 5, shots: int = 1, queries: int = 15) -> Sampler:
  """N-way K-shot classification episodes.

  `ways` classes are drawn without replacement, all equally likely, then `shots + queries` rows of
  each, without replacement, all equally likely: no row occurs twice in an episode. Labels are 0 to
  ways - 1 in the order of the draw. Classes may have different numbers of rows.

  Args:
    table: a ClassTable.
    ways: classes an episode.
    shots: support examples a class.
    queries: query examples a class.

  Returns:
    A sampler: support [ways * shots], query [ways * queries], sorted by label;
    info['classes'] [ways] are the class numbers.

  Raises:
    ValueError: if a size is not positive, ways exceeds the number of classes, or shots + queries
      exceeds the rows of some class.

  >>> from metakit.data.table import class_table
  >>> table = class_table(np.arange(60), np.arange(60) % 6)
  >>> episode = few_shot(table, ways=3, shots=1, queries=2)(jax.random.key(0))
  >>> episode.support.x.shape, episode.query.y.tolist()
  ((3,), [0, 0, 1, 1, 2, 2])
  """
  return gather(few_shot_plan(table, ways, shots, queries), jnp.asarray(table.x))


def check_few_shot(table: ClassTable, ways: int, shots: int, queries: int) -> None:
  """Raises ValueError in the user's words if such episodes cannot be drawn from the table."""
  check_positive(ways=ways, shots=shots, queries=queries)
  check_classes(table, 'ways', ways)
  check_rows(table, 'shots+queries', shots + queries)


def check_positive(**sizes: int) -> None:
  """Raises ValueError for the first size below 1."""
  for name, value in sizes.items():
    if value < 1:
      raise ValueError(f'{name}={value} is not positive; use {name}>=1')


def check_classes(table: ClassTable, name: str, number: int) -> None:
  """Raises ValueError if a table has fewer classes than an argument, or sum of some, asks for."""
  classes = len(table.counts)
  if number > classes:
    raise ValueError(f'{name}={number} exceeds the {classes} classes; use {name}<={classes}')


def check_rows(table: ClassTable, name: str, number: int, least: int = 2) -> None:
  """Raises ValueError, naming the classes, if any has fewer rows than episodes take of it.

  Args:
    table: the table.
    name: the argument, or sum of some, that says how many.
    number: its value.
    least: the smallest possible value; one support example and one query by default.
  """
  small = np.flatnonzero(table.counts < number)
  if not len(small):
    return
  fewest = int(table.counts[small].min())
  remedies = [f'use {name}<={fewest}'] if fewest >= least else []
  if len(small) < len(table.counts):
    remedies.append(f'leave {"the class" if len(small) == 1 else "them"} out')
  names = [table.names[c] for c in small]
  if len(small) == 1:
    owners = f'the {fewest} examples of class {names[0]!r}'
  elif (table.counts == fewest).all():
    owners = f'the {fewest} examples of each class'
  else:
    each = [f'{n!r} has {table.counts[c]}' for n, c in zip(names, small, strict=True)]
    owners = f'the examples of {len(small)} classes ({listed(each)})'
  remedy = ' or '.join(remedies) or 'use data with more examples of a class'
  raise ValueError(f'{name}={number} exceeds {owners}; {remedy}')
