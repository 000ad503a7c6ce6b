"""Regression episodes from a table: each has the rows of one task."""

import jax
import jax.numpy as jnp
import numpy as np

from metakit.data.table import ClassTable
from metakit.episodes.integer_draws import choose, reduce_below
from metakit.episodes.table_checks import check_rows
from metakit.sizes import check_positive
from metakit.sources import EpisodeSource
from metakit.types import Episode, Examples, Key


def table_regression(table: ClassTable, shots: int = 10, *, queries: int = 10) -> EpisodeSource:
  """Regression episodes: a task of a table, then some of its rows.

  A task is drawn, all equally likely, whatever the number of its rows. Then `shots + queries` of
  its rows are drawn without replacement, all equally likely: no row occurs twice in an episode.

  Args:
    table: a ClassTable with targets, whose classes are tasks (see metakit.data.targets).
    shots: support examples in all.
    queries: query examples in all.

  Returns:
    A source: support [shots], query [queries], in random order, with y [examples, outputs] float32;
    info['task'] [] is the task's number in the table.

  Raises:
    ValueError: if the table has no targets, a size is not positive, or shots + queries exceeds the
      rows of some task.

  >>> from metakit.data.targets import regression_table
  >>> y = np.arange(8.0)
  >>> table = regression_table(y[:, None], 2 * y, groups=np.repeat(['a', 'b'], 4))
  >>> episode = table_regression(table, shots=1, queries=3)(jax.random.key(0))
  >>> episode.query.x.shape, bool((episode.query.y == 2 * episode.query.x).all())
  ((3, 1), True)
  """
  check_positive(shots=shots, queries=queries)
  if table.y is None:
    raise ValueError('the table has classes and no targets; make it with regression_table')
  check_rows(table, 'shots+queries', shots + queries, what='task')
  starts, counts = jnp.asarray(table.starts, jnp.int32), jnp.asarray(table.counts, jnp.int32)
  y = jnp.asarray(np.asarray(table.y, np.float32))

  @jax.jit
  def plan(key: Key) -> Episode:
    bits = jax.random.bits(key, (1 + shots + queries,), jnp.uint32)
    task = reduce_below(bits[0], len(starts))
    rows = choose(bits[1:], counts[task]) + starts[task]
    part = lambda rows: Examples(rows, y[rows])
    return Episode(part(rows[:shots]), part(rows[shots:]), {'task': task})

  return EpisodeSource(plan, table.x)
