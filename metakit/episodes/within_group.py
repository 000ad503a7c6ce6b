"""N-way K-shot episodes whose classes share a group, such as an Omniglot alphabet.

Meta-Dataset (Triantafillou et al. 2020, arXiv:1903.03096, section 3.2) draws Omniglot episodes so:
an alphabet uniformly, then characters of that alphabet. The classes are harder to tell apart than
those of `few_shot`. Here ways and shots are fixed, so an alphabet counts alike whatever its size.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from metakit.data.files import listed
from metakit.data.table import ClassTable
from metakit.episodes.few_shot import check_few_shot, split_rows
from metakit.episodes.integer_draws import choose, reduce_below
from metakit.sources import EpisodeSource
from metakit.types import Episode, Key


def within_group(
  table: ClassTable, ways: int = 5, shots: int = 1, *, queries: int = 15
) -> EpisodeSource:
  """N-way K-shot classification episodes, all classes of an episode from one group.

  A group is drawn uniformly (not in proportion to its classes), then `ways` of its classes without
  replacement, then rows as in `few_shot`: no row occurs twice in an episode. Labels are 0 to
  ways - 1 in the order of the draw. A group without classes in the table does not count.

  Args:
    table: a ClassTable with groups.
    ways: classes an episode.
    shots: support examples a class.
    queries: query examples a class.

  Returns:
    A source: support [ways * shots], query [ways * queries], sorted by label;
    info['classes'] [ways] are the class numbers, info['group'] [] the group number.

  Raises:
    ValueError: if a size is not positive, ways exceeds the classes of some group, or
      shots + queries exceeds the rows of some class.

  >>> from metakit.data.table import class_table
  >>> table = class_table(np.arange(60), np.arange(60) % 6, groups=[0, 1, 0, 1, 0, 1])
  >>> episode = within_group(table, ways=3, shots=1, queries=2)(jax.random.key(0))
  >>> sorted(episode.info['classes'].tolist()), episode.info['group'].tolist()
  ([1, 3, 5], 1)
  """
  planned, groups = _planned(table, ways, shots, queries)

  @jax.jit  # one program also when called without jit, where its many small steps are slow
  def plan(key: Key) -> Episode:
    bits = _bits(key, ways, shots + queries)
    return planned(bits, reduce_below(bits[ways, 0], groups))

  return EpisodeSource(plan, table.x)


def of_group(
  table: ClassTable, ways: int = 5, shots: int = 1, *, queries: int = 15
) -> Callable[[Key, jax.Array], Episode]:
  """The episodes of `within_group`, of a group that is given and not drawn.

  So one compiled program serves all groups, one after the other or side by side.

  Args:
    table: as in `within_group`, as the others.

  Returns:
    (key, place) -> the plan of an episode, whose x are row numbers. The place of a group [] int is
    its rank among the numbers of the groups that have classes.

  Raises:
    ValueError: as in `within_group`.

  >>> from metakit.data.table import class_table
  >>> table = class_table(np.arange(60), np.arange(60) % 6, groups=[0, 1, 0, 1, 0, 1])
  >>> plan = of_group(table, ways=3, shots=1, queries=2)
  >>> sorted(plan(jax.random.key(0), 0).info['classes'].tolist())
  [0, 2, 4]
  """
  planned, _ = _planned(table, ways, shots, queries)
  return jax.jit(lambda key, place: planned(_bits(key, ways, shots + queries), place))


def _bits(key: Key, ways: int, rows: int) -> jax.Array:
  """Returns the bits of all choices of an episode; those after the ways choose the group."""
  return jax.random.bits(key, (ways + 1, 1 + rows), jnp.uint32)


def _planned(
  table: ClassTable, ways: int, shots: int, queries: int
) -> tuple[Callable[[jax.Array, jax.Array], Episode], int]:
  """Returns (bits, place of a group) -> plan, and how many groups there are."""
  check_few_shot(table, ways, shots, queries=queries)
  by_group = np.argsort(table.groups, kind='stable')  # class numbers
  groups, firsts, sizes = np.unique(table.groups[by_group], return_index=True, return_counts=True)
  _check_groups(table, groups, sizes, ways)
  starts, counts = jnp.asarray(table.starts, jnp.int32), jnp.asarray(table.counts, jnp.int32)
  first, size, group_number, members = (
    jnp.asarray(a, jnp.int32) for a in (firsts, sizes, groups, by_group)
  )

  def planned(bits: jax.Array, group: jax.Array) -> Episode:
    classes = members[first[group] + choose(bits[:ways, 0], size[group])]
    rows = jax.vmap(choose)(bits[:ways, 1:], counts[classes]) + starts[classes, None]
    return split_rows(rows, shots, {'classes': classes, 'group': group_number[group]})

  return planned, len(groups)


def _check_groups(table: ClassTable, groups: np.ndarray, sizes: np.ndarray, ways: int) -> None:
  small = np.flatnonzero(sizes < ways)
  if not len(small):
    return
  fewest = int(sizes[small].min())
  names = [table.group_names[groups[g]] for g in small]
  if len(small) == 1:
    owners = f'the {fewest} classes of group {names[0]!r}'
  else:
    each = [f'{name!r} has {sizes[g]}' for name, g in zip(names, small, strict=True)]
    owners = f'the classes of {len(small)} groups ({listed(each)})'
  raise ValueError(
    f'ways={ways} exceeds {owners}; use ways<={fewest} or sampler few_shot, or leave them out'
  )
