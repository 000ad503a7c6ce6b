"""N-way K-shot episodes (Vinyals et al. 2016, Matching Networks, arXiv:1606.04080)."""

import chex
import jax
import jax.numpy as jnp

from metakit.data.table import ClassTable
from metakit.episodes.integer_draws import choose
from metakit.episodes.table_checks import check_classes, check_rows
from metakit.sizes import check_positive
from metakit.sources import EpisodeSource
from metakit.types import Episode, Examples, Key


def few_shot(
  table: ClassTable, ways: int = 5, shots: int = 1, *, queries: int = 15
) -> EpisodeSource:
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
    A source: support [ways * shots], query [ways * queries], sorted by label;
    info['classes'] [ways] are the class numbers.

  Raises:
    ValueError: if a size is not positive, ways exceeds the number of classes, or shots + queries
      exceeds the rows of some class.

  >>> import numpy as np
  >>> from metakit.data.table import class_table
  >>> table = class_table(np.arange(60), np.arange(60) % 6)
  >>> episode = few_shot(table, ways=3, shots=1, queries=2)(jax.random.key(0))
  >>> episode.support.x.shape, episode.query.y.tolist()
  ((3,), [0, 0, 1, 1, 2, 2])
  """
  check_few_shot(table, ways, shots, queries=queries)
  starts, counts = jnp.asarray(table.starts, jnp.int32), jnp.asarray(table.counts, jnp.int32)

  @jax.jit
  def plan(key: Key) -> Episode:
    bits = jax.random.bits(key, (ways, 1 + shots + queries), jnp.uint32)
    classes = choose(bits[:, 0], len(starts))
    rows = jax.vmap(choose)(bits[:, 1:], counts[classes]) + starts[classes, None]
    return split_rows(rows, shots, {'classes': classes})

  return EpisodeSource(plan, table.x)


def split_rows(rows: jax.Array, shots: int, info: dict[str, jax.Array]) -> Episode:
  """Splits rows [ways, shots + queries] into an episode; labels number the first axis."""
  chex.assert_rank(rows, 2)
  labels = jnp.broadcast_to(jnp.arange(len(rows), dtype=jnp.int32)[:, None], rows.shape)
  part = lambda start, stop: Examples(rows[:, start:stop].ravel(), labels[:, start:stop].ravel())
  return Episode(part(0, shots), part(shots, rows.shape[1]), info)


def check_few_shot(table: ClassTable, ways: int, shots: int, *, queries: int) -> None:
  """Raises ValueError in the user's words if such episodes cannot be drawn from the table."""
  check_positive(ways=ways, shots=shots, queries=queries)
  check_classes(table, 'ways', ways)
  check_rows(table, 'shots+queries', shots + queries)
