"""N-way K-shot episodes with further support examples that have no label.

Mengye Ren, Eleni Triantafillou, Sachin Ravi, Jake Snell, Kevin Swersky, Joshua B. Tenenbaum, Hugo
Larochelle, Richard Zemel, Meta-Learning for Semi-Supervised Few-Shot Classification, ICLR 2018,
arXiv:1803.00676, section 2.2. Deviation: the examples with and without labels come from the same
pool of rows, not from a fixed 10% and 90% of each class.
"""

import jax
import jax.numpy as jnp

from metakit.absent import UNLABELLED
from metakit.data.table import ClassTable
from metakit.episodes.integer_draws import choose
from metakit.episodes.table_checks import check_classes, check_rows
from metakit.sizes import check_positive
from metakit.sources import EpisodeSource
from metakit.types import Episode, Examples, Key


def semi_supervised(
  table: ClassTable,
  ways: int = 5,
  shots: int = 1,
  *,
  queries: int = 15,
  unlabelled: int = 5,
  distractors: int = 0,
) -> EpisodeSource:
  """Episodes like those of `few_shot`, whose support goes on with examples labelled -1.

  Args:
    table: a ClassTable.
    ways: classes an episode.
    shots: labelled support examples a class.
    queries: query examples a class.
    unlabelled: support examples without label of each class, and of each distractor.
    distractors: further classes, of which there are no other examples.

  Returns:
    A source: support [ways * shots + (ways + distractors) * unlabelled], the labelled first, both
    sorted by class; query [ways * queries]; info['classes'] [ways + distractors] are the class
    numbers, distractors last.

  Raises:
    ValueError: if a size is not positive (distractors: is negative), there are fewer classes than
      ways + distractors, or a class has too few rows.

  >>> import numpy as np
  >>> from metakit.data.table import class_table
  >>> table = class_table(np.arange(60), np.arange(60) % 6)
  >>> source = semi_supervised(table, ways=2, shots=1, queries=2, unlabelled=2, distractors=1)
  >>> source(jax.random.key(0)).support.y.tolist()
  [0, 1, -1, -1, -1, -1, -1, -1]
  """
  check_positive(ways=ways, shots=shots, queries=queries)
  if unlabelled < 1:
    raise ValueError(f'unlabelled={unlabelled} is not positive; use few_shot, or unlabelled>=1')
  if distractors < 0:
    raise ValueError(f'distractors={distractors} is negative; use 0 for none')
  check_classes(table, 'ways+distractors' if distractors else 'ways', ways + distractors)
  check_rows(table, 'shots+unlabelled+queries', shots + unlabelled + queries, least=3)
  starts, counts = jnp.asarray(table.starts, jnp.int32), jnp.asarray(table.counts, jnp.int32)

  @jax.jit
  def plan(key: Key) -> Episode:
    bits = jax.random.bits(key, (ways + distractors, 1 + shots + unlabelled + queries), jnp.uint32)
    classes = choose(bits[:, 0], len(starts))
    rows = jax.vmap(choose)(bits[:, 1:], counts[classes]) + starts[classes, None]
    labels = lambda each: jnp.repeat(jnp.arange(ways, dtype=jnp.int32), each)
    others = rows[:, shots : shots + unlabelled].ravel()
    support = jnp.concatenate([rows[:ways, :shots].ravel(), others])
    none = jnp.full(len(others), UNLABELLED, jnp.int32)
    # With a weight, learners can tell those without a label apart from the absent (`labelled`).
    weight = jnp.ones(len(support), jnp.float32)
    known = Examples(support, jnp.concatenate([labels(shots), none]), weight)
    query = Examples(rows[:ways, shots + unlabelled :].ravel(), labels(queries))
    return Episode(known, query, {'classes': classes})

  return EpisodeSource(plan, table.x)
