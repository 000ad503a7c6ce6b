"""How much of what an encoder sees in an episode is the context, and how much the class.

The idea is that of Min Zhang, Haoxuan Li, Fei Wu, Kun Kuang, MetaCoCo, ICLR 2024, arXiv:2404.19644,
who measure it by CLIP, with the names of classes and contexts in words. Here there are no words:
means of the support stand for classes and for contexts, and the encoder may be any.
"""

import jax
import jax.numpy as jnp

from metakit.heads.common import class_means, squared_distances, weight_of
from metakit.types import Episode, Examples


def correlation_gap(episode: Episode, ways: int, contexts: int) -> jax.Array:
  """Returns by how much queries show their context better than their class.

  It is the share of queries whose nearest mean of a context in the support is that of their own,
  minus the share whose nearest mean of a class is that of their own. Queries whose context (or
  class) the support lacks do not count in its share.

  Args:
    episode: features [examples, features] of a frozen encoder in place of x, and
      info['contexts'] as `spurious` gives it.
    ways: classes of the episode.
    contexts: how many there are in all.

  Returns:
    [] from -1 (the features show classes alone) to 1 (contexts alone).

  >>> support = Examples(jnp.array([[0.0], [1.0]]), jnp.array([0, 1]))
  >>> query = Examples(jnp.array([[0.9], [0.2]]), jnp.array([0, 1]))
  >>> contexts = jnp.array([3, 2]), jnp.array([2, 3])
  >>> gap = jax.jit(correlation_gap, static_argnums=(1, 2))
  >>> float(gap(Episode(support, query, {'contexts': contexts}), 2, 4))
  1.0
  """
  support, query = episode.support, episode.query
  of_support, of_query = episode.info['contexts']
  in_context = support._replace(y=of_support), query._replace(y=of_query)
  return _share_nearest(*in_context, contexts) - _share_nearest(support, query, ways)


def _share_nearest(support: Examples, query: Examples, number: int) -> jax.Array:
  """Returns the share of queries that are nearest to the mean of their own label."""
  centres, there = class_means(support, number)
  distances = jnp.where(there, squared_distances(query.x, centres), jnp.inf)
  counts = weight_of(query, query.x.dtype) * (there[query.y] & (query.y >= 0))
  right = distances.argmin(-1) == query.y
  return (right * counts).sum() / jnp.maximum(counts.sum(), 1)
