"""N-way K-shot episodes whose queries are not spread evenly over the classes.

Olivier Veilleux, Malik Boudiaf, Pablo Piantanida, Ismail Ben Ayed, Realistic Evaluation of
Transductive Few-Shot Learning, NeurIPS 2021, arXiv:2204.11181, section 3: the shares of the classes
among the queries follow a Dirichlet distribution with a concentration of 2. Balanced queries
flatter methods that assume balance. Deviation: labels are drawn by Polya's urn. That is the same as
drawing the shares, and then each label by the shares; the paper rounds shares to numbers of
queries. An urn needs only integers, so an episode is the same on every device.
"""

import jax
import jax.numpy as jnp

from metakit.data.files import listed
from metakit.data.table import ClassTable
from metakit.episodes.few_shot import check_few_shot
from metakit.episodes.integer_draws import choose, reduce_below
from metakit.sources import EpisodeSource
from metakit.types import Episode, Examples, Key


def imbalanced(
  table: ClassTable, ways: int = 5, shots: int = 1, *, queries: int = 15, concentration: int = 2
) -> EpisodeSource:
  """Episodes like those of `few_shot`, with labels of queries in proportions that vary.

  Classes and rows are drawn without replacement, as in `few_shot`. Labels of queries are drawn from
  an urn that holds `concentration` balls of each class. Whenever a ball is drawn, one more of its
  class is added. A class whose rows are all in use is not drawn again.

  Args:
    table: a ClassTable.
    ways: classes an episode.
    shots: support examples a class.
    queries: mean number of query examples a class; an episode has ways * queries.
    concentration: concentration of the Dirichlet distribution, the same for each class. A large one
      gives balanced queries.

  Returns:
    A source: support [ways * shots], sorted by label; query [ways * queries], in the order of the
    draw; info['classes'] [ways] are the class numbers, info['counts'] [ways] the queries of each.

  Raises:
    ValueError: if a size is not positive, if ways exceeds the number of classes, or unless every
      class has more rows than shots + queries. Otherwise all classes could be used up, and no class
      could be drawn more often than another.

  >>> import numpy as np
  >>> from metakit.data.table import class_table
  >>> table = class_table(np.arange(60), np.arange(60) % 6)
  >>> episode = imbalanced(table, ways=3, shots=1, queries=4)(jax.random.key(1))
  >>> episode.query.y.shape, int(episode.info['counts'].sum())
  ((12,), 12)
  """
  check_few_shot(table, ways, shots, queries=queries)
  if concentration < 1:
    raise ValueError(f'concentration={concentration} is not positive; use concentration>=1')
  used_up = [
    name for name, n in zip(table.names, table.counts, strict=True) if n == shots + queries
  ]
  if used_up:
    raise ValueError(
      f'shots+queries={shots + queries} uses all rows of {listed([repr(n) for n in used_up])}, so '
      'that queries cannot be imbalanced; use fewer, or leave such classes out'
    )
  starts, counts = jnp.asarray(table.starts, jnp.int32), jnp.asarray(table.counts, jnp.int32)
  total = ways * queries
  most = min(total, int(table.counts.max()) - shots)  # queries of a class

  @jax.jit
  def plan(key: Key) -> Episode:
    bits = jax.random.bits(key, (ways * (1 + shots + most) + total,), jnp.uint32)
    classes = choose(bits[:ways], len(starts))
    of_rows = bits[ways + total :].reshape(ways, shots + most)
    labels, places, drawn = _urn(bits[ways : ways + total], counts[classes] - shots, concentration)
    rows = jax.vmap(choose)(of_rows, counts[classes]) + starts[classes, None]
    support_labels = jnp.repeat(jnp.arange(ways, dtype=jnp.int32), shots)
    support = Examples(rows[:, :shots].ravel(), support_labels)
    query = Examples(rows[labels, shots + places], labels)
    return Episode(support, query, {'classes': classes, 'counts': drawn})

  return EpisodeSource(plan, table.x)


def _urn(
  bits: jax.Array, left: jax.Array, concentration: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Draws a label for each of some random bits.

  Args:
    bits: [draws] uint32.
    left: [ways] how often each label may be drawn, in sum at least the draws.
    concentration: balls of each label at the start.

  Returns:
    labels [draws]; how often the same was drawn before, [draws]; how often each was, [ways].
  """

  def draw(drawn: jax.Array, number: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    balls = jnp.where(drawn < left, concentration + drawn, 0)
    reach = jnp.cumsum(balls)
    label = (reach <= reduce_below(number, reach[-1])).sum(dtype=jnp.int32)
    return drawn.at[label].add(1), (label, drawn[label])

  drawn, (labels, places) = jax.lax.scan(draw, jnp.zeros(len(left), jnp.int32), bits)
  return labels, places, drawn
