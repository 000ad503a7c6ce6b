"""Episodes in which a context goes with the label in the support, and misleads in the queries.

After Min Zhang, Haoxuan Li, Fei Wu, Kun Kuang, MetaCoCo: A New Few-Shot Classification Benchmark
with Spurious Correlation, ICLR 2024, arXiv:2404.19644. Deviations: contexts are made, not found in
photos, so that the strength of the correlation is known; and it changes between support and
queries, not between training and test classes.
"""

import jax
import jax.numpy as jnp
import numpy as np

from metakit.data.table import ClassTable
from metakit.episodes.augmentation import entries
from metakit.episodes.integer_draws import choose, reduce_below
from metakit.episodes.made_domains import Change
from metakit.sources import EpisodeSource, abstract_episode, change_plans
from metakit.types import Episode, Key, Sampler

_CONTEXTS = 0x434F4E54  # folded into an episode's key, to draw the contexts


def spurious(source: EpisodeSource, contexts: int, strength: float = 1.0) -> EpisodeSource:
  """Ties the context of an image to its label in the support, and to other labels in the queries.

  Each of n classes of an episode has a context of its own. With probability `strength` a support
  example has that of its class, and a query that of another class, all n - 1 equally likely.
  Otherwise it has any of these n contexts, all equally likely. So each context is as frequent for
  all strengths. An image has the context of its own class with probability p + (1 - p) / n in the
  support and (1 - p) / n in the queries.

  Rows are those that the source draws by the same key. They do not depend on the strength, nor
  does what an example has if it is tied or not: a larger strength ties more of them. So a learner
  can be compared with itself at other strengths, paired by episode.

  Args:
    source: few-shot episodes of a `context_table`, without a finish.
    contexts: how many the table has; at least as many as there are classes in an episode.
    strength: p, from 0 (contexts say nothing) to 1 (they say all in the support, and mislead).

  Returns:
    A source of the same table. info['contexts'] says which context each example of support and
    query has, a pair of int32 [examples]. Examples of no class (y < 0) are never tied.

  Raises:
    ValueError: if the strength is not between 0 and 1, the source has no such table or no
      info['classes'], or contexts are fewer than classes.

  >>> from metakit.data.table import class_table
  >>> from metakit.episodes.few_shot import few_shot
  >>> plain = class_table(np.zeros((6, 1, 1, 1), np.uint8), np.arange(6) % 2)
  >>> table = context_table(plain, lambda number, image: image + number, contexts=2)
  >>> source = jax.jit(spurious(few_shot(table, ways=2, shots=1, queries=2), contexts=2))
  >>> support, query, _ = source(jax.random.key(0))
  >>> support.x.ravel().tolist(), query.x.ravel().tolist()
  ([0, 1], [1, 1, 0, 0])
  """
  rows, ways = _checked(source, contexts, strength)
  threshold = jnp.uint32(round(strength * 2**31))

  def of_labels(y: jax.Array, own: jax.Array, bits: jax.Array, other: bool) -> jax.Array:
    away = 1 + reduce_below(bits[1], jnp.full(y.shape, ways - 1)) if other else 0
    tied = ((bits[0] >> 1) < threshold) & (y >= 0)
    return own[jnp.where(tied, (y + away) % ways, reduce_below(bits[2], jnp.full(y.shape, ways)))]

  def change(plan: Sampler) -> Sampler:
    def tied(key: Key) -> Episode:
      support, query, info = plan(key)
      first, total = len(support.y), len(support.y) + len(query.y)
      key = jax.random.fold_in(key, _CONTEXTS)
      bits = jax.random.bits(key, (ways + 3 * total,), jnp.uint32)
      own, bits = choose(bits[:ways], contexts), bits[ways:].reshape(3, total)
      drawn = (
        of_labels(support.y, own, bits[:, :first], other=False),
        of_labels(query.y, own, bits[:, first:], other=True),
      )
      support, query = (
        part._replace(x=part.x + rows * context)
        for part, context in zip((support, query), drawn, strict=True)
      )
      return Episode(support, query, {**entries(info), 'contexts': drawn})

    return tied

  return change_plans(source, change)


def context_table(table: ClassTable, change: Change, contexts: int) -> ClassTable:
  """Returns a table of each image in each context, whose classes are the rows in context 0.

  Row r in context k is row r + k * rows. All are made at once, so this takes `contexts` times the
  memory of the table.

  Args:
    table: the classes as they are.
    change: (number of a context, x of one example) -> x, such as those of metakit.episodes.cues.
    contexts: how many there are.

  Raises:
    ValueError: if contexts is less than 2.

  >>> from metakit.data.table import class_table
  >>> table = class_table(np.arange(3), [0, 1, 1])
  >>> context_table(table, lambda number, x: x + 10 * number, contexts=2).x.tolist()
  [0, 1, 2, 10, 11, 12]
  """
  if contexts < 2:
    raise ValueError(f'contexts={contexts} leaves nothing to tell apart; use contexts>=2')
  # The number is an argument, so that one program serves all contexts.
  show = jax.jit(jax.vmap(change, in_axes=(None, 0)))
  plain = jnp.asarray(table.x)
  shown = [np.asarray(show(jnp.int32(number), plain)) for number in range(contexts)]
  return table._replace(x=np.concatenate(shown))


def _checked(source: EpisodeSource, contexts: int, strength: float) -> tuple[int, int]:
  """Returns the rows of each context and the classes of an episode."""
  if not 0 <= strength <= 1:
    raise ValueError(f'strength={strength} is no probability; use one between 0 and 1')
  if source.data is None or source.finish is not None or len(source.data) % contexts:
    raise ValueError(
      f'contexts={contexts} need episodes of a context_table of as many; make the source of one'
    )
  info = entries(abstract_episode(source).info)
  if 'classes' not in info:
    raise ValueError("the episodes have no info['classes'] to tie contexts to; use few_shot")
  ways = len(info['classes'])
  if not 2 <= ways <= contexts:
    raise ValueError(
      f'contexts={contexts} for {ways} ways: each class has its own; use 2<=ways<=contexts'
    )
  return len(source.data) // contexts, ways
