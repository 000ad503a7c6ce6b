"""Episodes of variable ways and shots, the rule of Meta-Dataset (arXiv:1903.03096).

Triantafillou, Zhu, Dumoulin, Lamblin, Evci, Xu, Goroshin, Gelada, Swersky, Manzagol, Larochelle:
Meta-Dataset: A Dataset of Datasets for Learning to Learn from Few Examples, ICLR 2020, section 3.2
(and appendix), as in the authors' meta_dataset/data/sampling.py, without a class hierarchy:

  ways    uniform on {min_ways, ..., min(max_ways, classes)}, then that many classes uniformly;
  q     = min(max_queries_per_class, min_c floor(|c| / 2)), the same for every class;
  S     = min(max_support, sum_c ceil(beta min(max_support_per_class, |c| - q))), beta ~ U(0, 1];
  R_c   = exp(alpha_c) |c| / sum_c' exp(alpha_c') |c'|, alpha_c ~ U[log 1/2, log 2);
  shots = min(floor(R_c (S - ways)) + 1, |c| - q).

Deviation: alpha_c takes 4096 equally spaced values and exp(alpha_c) |c| is a rounded integer, so
that no floating point rounding of a device can change a plan.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metakit.data.files import listed
from metakit.data.table import ClassTable
from metakit.episodes.integer_draws import draw_without_replacement, integers_below, undo_swaps
from metakit.sizes import check_positive
from metakit.sources import EpisodeSource
from metakit.types import Episode, Examples, Key

_ALPHA_BITS = 12


class _Limits(NamedTuple):
  """The arguments of `variable_shot`, checked."""

  max_ways: int
  min_ways: int
  max_support: int
  max_support_per_class: int
  max_queries_per_class: int


class _Sizes(NamedTuple):
  """How many of everything an episode has; places from `ways` on are padding."""

  ways: jax.Array  # []
  shots: jax.Array  # [max_ways], 0 for padding
  queries: jax.Array  # [], of each class


class _Slots(NamedTuple):
  """Where the rows of an episode come from: the support slots, then the query slots."""

  way: jax.Array  # [slots], 0 for padding
  number: jax.Array  # [slots], which draw from its class this is
  real: jax.Array  # [slots] bool, False for padding


def variable_shot(
  table: ClassTable,
  max_ways: int = 50,
  min_ways: int = 5,
  *,
  max_support: int = 500,
  max_support_per_class: int = 100,
  max_queries_per_class: int = 10,
) -> EpisodeSource:
  """Classification episodes of variable ways and (imbalanced) shots, padded, with weights.

  The Meta-Dataset rule, see the top of this file. No row occurs twice in an episode, padding
  apart, and every row of a drawn class is equally likely. Labels are 0 to ways - 1 in the order of
  the draw.

  The shapes depend on the arguments alone. Support: the rows sorted by label, then padding. Query:
  `max_queries_per_class` places for each of `max_ways` labels, of which the first info['queries']
  of the first info['ways'] labels are real. Padding repeats the first support example and its
  label, 0, with weight 0.

  Args:
    table: a ClassTable; classes may have different numbers of rows.
    max_ways: most classes an episode; fewer if the table has fewer.
    min_ways: fewest classes an episode.
    max_support: most support examples an episode.
    max_support_per_class: the most that one class adds to the size of the support set (not a
      limit on its shots, as in the paper).
    max_queries_per_class: most query examples a class.

  Returns:
    A source: support [max_support], query [max_ways * max_queries_per_class], float32 weights;
    info: 'classes' [max_ways] class numbers, -1 for padding; 'shots' [max_ways] support examples
    of each, 0 for padding; 'ways' [] and 'queries' [] (query examples of each class).

  Raises:
    ValueError: if a size is not positive, min_ways exceeds max_ways or the number of classes,
      max_support allows less than one example a class, or a class has a single row.

  >>> from metakit.data.table import class_table
  >>> table = class_table(np.arange(60), np.arange(60) % 6)
  >>> source = variable_shot(table, max_ways=4, min_ways=2, max_support=12)
  >>> episode = source(jax.random.key(0))
  >>> episode.support.x.shape, episode.query.x.shape
  ((12,), (40,))
  """
  limits = _Limits(max_ways, min_ways, max_support, max_support_per_class, max_queries_per_class)
  _check(table, limits)
  starts, counts = jnp.asarray(table.starts, jnp.int32), jnp.asarray(table.counts, jnp.int32)
  drawn = min(max_ways, len(table.counts))
  draw_sizes = _size_rule(limits, drawn, int(table.counts.max()))

  @jax.jit  # one program also when called without jit, where its many small steps are slow
  def plan(key: Key) -> Episode:
    class_key, size_key, row_key = jax.random.split(key, 3)
    classes = draw_without_replacement(class_key, len(starts), drawn)
    classes = jnp.pad(classes, (0, max_ways - drawn))  # [max_ways]
    sizes = draw_sizes(size_key, counts[classes])
    slots = _slots(sizes, limits)
    rows = _draw_rows(row_key, slots, starts[classes], counts[classes])
    return _episode(rows, slots, sizes, classes, max_support)

  return EpisodeSource(plan, table.x)


def _size_rule(limits: _Limits, drawn: int, largest: int):
  """Returns (key, counts [max_ways]) -> _Sizes: the formulas at the top of this file, in order."""
  likelihood = _imbalance(limits.max_ways, largest)

  def draw(key, counts):
    way_key, beta_key, alpha_key = jax.random.split(key, 3)
    ways = limits.min_ways + integers_below(way_key, drawn + 1 - limits.min_ways)
    real = jnp.arange(limits.max_ways) < ways
    fewest = jnp.min(jnp.where(real, counts, largest))
    queries = jnp.minimum(limits.max_queries_per_class, fewest // 2)
    remaining = counts - queries
    # ceil of beta in (0, 1] is floor + 1 of beta in [0, 1). One product, then floor: no device
    # rounds it in another way.
    beta = jax.random.uniform(beta_key, (), jnp.float32)  # in float64 the floor may be another
    share = beta * jnp.minimum(limits.max_support_per_class, remaining)
    support = jnp.sum(jnp.where(real, jnp.floor(share).astype(jnp.int32) + 1, 0))
    support = jnp.minimum(limits.max_support, support)
    weights = jnp.where(real, likelihood(alpha_key, counts), 0)
    desired = _proportional(weights, support - ways, limits.max_support) + 1
    return _Sizes(ways, jnp.where(real, jnp.minimum(desired, remaining), 0), queries)

  return draw


def _imbalance(max_ways: int, largest: int):
  """Returns (key, counts [max_ways]) -> exp(alpha) counts, as integers whose sum is below 2**30."""
  bits = min(12, 31 - largest.bit_length())  # so that every product is below 2**32
  shift = max(0, bits + 1 + largest.bit_length() + max_ways.bit_length() - 30)
  levels = (np.arange(2**_ALPHA_BITS) + 0.5) / 2**_ALPHA_BITS
  exponentials = jnp.asarray(np.rint(2**bits * 0.5 * 4.0**levels), jnp.uint32)

  def draw(key, counts):
    alpha = jax.random.bits(key, counts.shape, jnp.uint32) >> (32 - _ALPHA_BITS)
    return (exponentials[alpha] * counts.astype(jnp.uint32)) >> shift

  return draw


def _proportional(weights: jax.Array, total: jax.Array, max_total: int) -> jax.Array:
  """Returns floor(weights * total / sum(weights)), exactly, by long division in 32 bits.

  Args:
    weights: [parts] uint32 with a sum below 2**30, so that three times it fits.
    total: [], at most `max_total`.
    max_total: static.
  """
  whole, total = jnp.sum(weights, dtype=jnp.uint32), total.astype(jnp.uint32)
  quotient = remainder = jnp.zeros_like(weights)
  for place in reversed(range(max_total.bit_length())):
    remainder = 2 * remainder + weights * ((total >> place) & 1)
    digit = (remainder >= whole).astype(jnp.uint32) + (remainder >= 2 * whole)
    quotient, remainder = 2 * quotient + digit, remainder - digit * whole
  return quotient.astype(jnp.int32)


def _slots(sizes: _Sizes, limits: _Limits) -> _Slots:
  """Lays an episode out: which draw of which class fills each slot."""
  ends = jnp.cumsum(sizes.shots)
  support = jnp.arange(limits.max_support)
  support_way = jnp.searchsorted(ends, support, side='right', method='compare_all')
  support_real = support < ends[-1]
  support_way = jnp.where(support_real, support_way, 0)
  query = jnp.arange(limits.max_ways * limits.max_queries_per_class)
  query_way, place = jnp.divmod(query, limits.max_queries_per_class)
  return _Slots(
    way=jnp.concatenate([support_way, query_way]),
    number=jnp.concatenate(
      [support - (ends - sizes.shots)[support_way], place + sizes.shots[query_way]]
    ),
    real=jnp.concatenate([support_real, (query_way < sizes.ways) & (place < sizes.queries)]),
  )


def _draw_rows(key: Key, slots: _Slots, starts: jax.Array, counts: jax.Array) -> jax.Array:
  """Draws the row of each slot: a stopped Fisher-Yates shuffle of every class, all in one pass.

  As `draw_without_replacement`, for classes of different sizes at once: slots of one class stand
  in the order of their draws, and slots of two classes never name the same row. A dense
  [max_ways, draws] array would be 25 times larger for tables of large classes.

  Args:
    key: a key.
    slots: slots of the episode.
    starts: [max_ways] first row of each class.
    counts: [max_ways] rows of each class.

  Returns:
    [slots] int32 rows; padding repeats the first.
  """
  places = starts[slots.way] + slots.number
  left = jnp.where(slots.real, counts[slots.way] - slots.number, 1)
  target = jnp.where(slots.real, places + integers_below(key, left), -1)  # padding swaps no row
  rows = undo_swaps(places, target)
  return jnp.where(slots.real, rows, rows[0])


def _episode(
  rows: jax.Array, slots: _Slots, sizes: _Sizes, classes: jax.Array, max_support: int
) -> Episode:
  labels = jnp.where(slots.real, slots.way, 0).astype(jnp.int32)
  weight = slots.real.astype(jnp.float32)
  part = lambda piece: Examples(rows[piece], labels[piece], weight[piece])
  info = {
    'classes': jnp.where(jnp.arange(len(classes)) < sizes.ways, classes, -1),
    'queries': sizes.queries,
    'shots': sizes.shots,
    'ways': sizes.ways,
  }
  return Episode(part(slice(max_support)), part(slice(max_support, None)), info)


def _check(table: ClassTable, limits: _Limits) -> None:
  """Raises ValueError in the user's words if such episodes cannot be drawn from the table."""
  check_positive(**limits._asdict())
  classes = len(table.counts)
  for most, what in (
    (limits.max_ways, f'max_ways={limits.max_ways}'),
    (classes, f'the {classes} classes'),
  ):
    if limits.min_ways > most:
      raise ValueError(f'min_ways={limits.min_ways} exceeds {what}; use min_ways<={most}')
  ways = min(limits.max_ways, classes)
  if limits.max_support < ways:
    raise ValueError(
      f'max_support={limits.max_support} is less than one example for each of {ways} classes; '
      f'use max_support>={ways} or max_ways<={limits.max_support}'
    )
  lonely = [repr(name) for name, n in zip(table.names, table.counts, strict=True) if n < 2]
  if lonely:
    classes_have = (
      f'class {lonely[0]} has' if len(lonely) == 1 else f'classes {listed(lonely)} have'
    )
    raise ValueError(
      f'{classes_have} 1 example, too few for support and query; variable_shot needs 2 examples a '
      f'class: leave {"the class" if len(lonely) == 1 else "them"} out'
    )
