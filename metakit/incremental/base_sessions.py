"""Streams of sessions whose base classes are always the same, since a network was trained on them.

As metakit.episodes.class_incremental, which draws the base classes of each stream anew.
"""

import jax
import jax.numpy as jnp
import numpy as np

from metakit.data.table import ClassTable
from metakit.episodes.class_incremental import Sessions
from metakit.episodes.integer_draws import choose
from metakit.episodes.table_checks import check_classes, check_rows
from metakit.sizes import check_positive
from metakit.sources import EpisodeSource
from metakit.types import Episode, Examples, Key


def training_rows(base: ClassTable, held_out: int) -> ClassTable:
  """Returns the table without the last rows of each class, which are for queries.

  Args:
    base: the base classes.
    held_out: rows of each class that are left out.

  Raises:
    ValueError: if a class has no row left.

  >>> from metakit.data.table import class_table
  >>> training_rows(class_table(np.arange(6), [0, 0, 0, 1, 1, 1]), held_out=1).x.tolist()
  [0, 1, 3, 4]
  """
  check_rows(base, 'held_out+1', held_out + 1)
  number = np.arange(len(base.x)) - np.repeat(base.starts, base.counts)
  kept = number < np.repeat(base.counts - held_out, base.counts)
  counts = base.counts - held_out
  y = None if base.y is None else base.y[kept]
  return base._replace(x=base.x[kept], y=y, starts=np.cumsum(counts) - counts, counts=counts)


def base_sessions(base: ClassTable, novel: ClassTable, sessions: Sessions) -> EpisodeSource:
  """Streams that begin with given base classes; classes of later sessions are drawn.

  Queries of a base class are its last rows, which `training_rows` leaves out; its support is drawn
  from the others. Of a later class both are drawn from all rows.

  Args:
    base: the base classes, sessions.base_ways of them.
    novel: the classes that later sessions are drawn from, none of them a base class.
    sessions: the sizes.

  Returns:
    A source as that of class_incremental; base class c has the label c. info['classes'] numbers the
    classes of `base`, then those of `novel`.

  Raises:
    ValueError: if a size is not positive, `base` has another number of classes, `novel` has too
      few, or a class has too few rows.

  >>> from metakit.data.table import class_table
  >>> base, novel = (class_table(np.arange(12) + 100 * k, np.arange(12) % 3) for k in range(2))
  >>> sessions = Sessions(base_ways=3, base_shots=2, ways=1, shots=1, number=2, queries=1)
  >>> episode = base_sessions(base, novel, sessions)(jax.random.key(0))
  >>> episode.support.y.tolist(), episode.query.x[:3].tolist()
  ([0, 0, 1, 1, 2, 2, 3, 4], [9, 10, 11])
  """
  check_positive(**sessions._asdict())
  if len(base.counts) != sessions.base_ways:
    raise ValueError(f'base_ways={sessions.base_ways}, but there are {len(base.counts)} classes')
  shots, queries = sessions.shots, sessions.queries
  check_rows(base, 'base_shots+queries', sessions.base_shots + queries)
  check_classes(novel, 'number*ways', sessions.number * sessions.ways)
  check_rows(novel, 'shots+queries', shots + queries)
  ways = sessions.number * sessions.ways
  trained = jnp.asarray(base.counts - queries, jnp.int32)
  starts, counts = jnp.asarray(novel.starts + len(base.x), jnp.int32), jnp.asarray(novel.counts)
  first = jnp.asarray(base.starts, jnp.int32)[:, None]
  asked = first + trained[:, None] + jnp.arange(queries, dtype=jnp.int32)

  @jax.jit
  def plan(key: Key) -> Episode:
    base_key, novel_key = jax.random.split(key)
    bits = jax.random.bits(base_key, (sessions.base_ways, sessions.base_shots), jnp.uint32)
    seen = jax.vmap(choose)(bits, trained) + first
    bits = jax.random.bits(novel_key, (ways, 1 + shots + queries), jnp.uint32)
    classes = choose(bits[:, 0], len(counts))
    rows = jax.vmap(choose)(bits[:, 1:], counts[classes]) + starts[classes, None]
    numbers = jnp.concatenate([jnp.arange(sessions.base_ways), sessions.base_ways + classes])
    support, query = _labelled(seen, rows[:, :shots]), _labelled(asked, rows[:, shots:])
    return Episode(support, query, {'classes': numbers})

  return EpisodeSource(plan, np.concatenate([base.x, novel.x]))


def _labelled(base: jax.Array, novel: jax.Array) -> Examples:
  """Joins rows [classes, rows of each], and labels them by class."""
  labels = [
    jnp.repeat(jnp.arange(len(part), dtype=jnp.int32) + above, part.shape[1])
    for part, above in ((base, 0), (novel, len(base)))
  ]
  return Examples(jnp.concatenate([base.ravel(), novel.ravel()]), jnp.concatenate(labels))
