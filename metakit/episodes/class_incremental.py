"""Few-shot class-incremental sessions: base classes first, then a few new classes at a time.

Xiaoyu Tao, Xiaopeng Hong, Xinyuan Chang, Songlin Dong, Xing Wei, Yihong Gong, Few-Shot
Class-Incremental Learning, CVPR 2020, arXiv:2004.10956, section 3.1: base classes with many
examples, then sessions of N-way K-shot support sets; queries are of all classes seen so far.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metakit.data.table import ClassTable
from metakit.episodes.integer_draws import choose
from metakit.episodes.table_checks import check_classes, check_rows
from metakit.sizes import check_positive
from metakit.sources import EpisodeSource
from metakit.types import Episode, Examples, Key


class Sessions(NamedTuple):
  """The sizes of a stream of sessions; session 0 is that of the base classes.

  Attributes:
    base_ways: base classes.
    base_shots: support examples of each.
    ways: new classes of each later session.
    shots: support examples of each.
    number: later sessions.
    queries: query examples of every class.
  """

  base_ways: int = 60
  base_shots: int = 10
  ways: int = 5
  shots: int = 5
  number: int = 8
  queries: int = 5

  @property
  def total_ways(self) -> int:
    """All classes."""
    return self.base_ways + self.number * self.ways

  @property
  def starts(self) -> list[int]:
    """The first support example of each session, and their number at the end."""
    later = self.base_ways * self.base_shots + self.ways * self.shots * np.arange(self.number + 1)
    return [0, *later.tolist()]

  @property
  def session_of(self) -> np.ndarray:
    """The session of each class, [total_ways]."""
    later = np.repeat(np.arange(1, self.number + 1), self.ways)
    return np.concatenate([np.zeros(self.base_ways, int), later])


def class_incremental(table: ClassTable, sessions: Sessions) -> EpisodeSource:
  """Streams of sessions: an episode is a whole stream.

  All classes are drawn without replacement, then rows of each. Labels number classes in the order
  of their sessions.

  Args:
    table: a ClassTable.
    sessions: the sizes.

  Returns:
    A source: support [sessions.starts[-1]], sorted by label, and so by session; query
    [total_ways * queries], sorted by label; info['classes'] [total_ways] are the class numbers.

  Raises:
    ValueError: if a size is not positive, there are fewer classes, or shots + queries exceeds the
      rows of some class.

  >>> from metakit.data.table import class_table
  >>> table = class_table(np.arange(40), np.arange(40) % 4)
  >>> sessions = Sessions(base_ways=2, base_shots=3, ways=1, shots=1, number=2, queries=1)
  >>> episode = class_incremental(table, sessions)(jax.random.key(0))
  >>> sessions.starts, episode.support.y.tolist()
  ([0, 6, 7, 8], [0, 0, 0, 1, 1, 1, 2, 3])
  """
  check_positive(**sessions._asdict())
  most = max(sessions.shots, sessions.base_shots)
  total = sessions.total_ways
  check_classes(table, 'base_ways+number*ways', total)
  check_rows(table, 'shots+queries', most + sessions.queries)
  starts, counts = jnp.asarray(table.starts, jnp.int32), jnp.asarray(table.counts, jnp.int32)
  labels = np.arange(total, dtype=np.int32)
  shots = np.where(sessions.session_of == 0, sessions.base_shots, sessions.shots)
  supported = np.repeat(labels, shots), np.concatenate([np.arange(n) for n in shots])
  queried = np.repeat(labels, sessions.queries), np.tile(np.arange(sessions.queries) + most, total)

  @jax.jit
  def plan(key: Key) -> Episode:
    bits = jax.random.bits(key, (total, 1 + most + sessions.queries), jnp.uint32)
    classes = choose(bits[:, 0], len(starts))
    rows = jax.vmap(choose)(bits[:, 1:], counts[classes]) + starts[classes, None]
    support, query = (
      Examples(rows[place], jnp.asarray(place[0])) for place in (supported, queried)
    )
    return Episode(support, query, {'classes': classes})

  return EpisodeSource(plan, table.x)
