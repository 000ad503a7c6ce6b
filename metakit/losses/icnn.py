"""ICNN loss: are the nearest neighbours of an example of its own class, and are they close?

Mauricio Mendez-Ruiz et al., SuSana Distancia Is All You Need, 2023, arXiv:2305.09062. Implemented:
the inter- and intra-class nearest neighbours score of support and queries together, in the later
form of the authors' code (without a variance term). Choice: if no neighbour of an example is of its
class, that class counts as being as far as the nearest other class.
"""

import jax
import jax.numpy as jnp

from metakit.heads.common import check_positive, distances
from metakit.losses.together import FeatureLoss
from metakit.types import Episode, join, presence

FAR = 1e15


def icnn(neighbours: int = 4) -> FeatureLoss:
  """Returns -log of the score. The score is 1 where each class is a point far from the others.

  Args:
    neighbours: how many neighbours of each example are looked at; all, if there are fewer.

  Raises:
    ValueError: if `neighbours` is not positive.

  >>> from metakit.types import Examples
  >>> apart = Examples(jnp.array([[0.0], [1.0], [8.0], [9.0]]), jnp.array([0, 0, 1, 1]))
  >>> mixed = apart._replace(y=jnp.array([0, 1, 0, 1]))
  >>> loss = jax.jit(icnn())
  >>> [f'{loss(Episode(part, part)):.1f}' for part in (apart, mixed)]
  ['0.2', '0.8']
  """
  check_positive(neighbours=neighbours)
  return lambda episode: -jnp.log(icnn_score(episode, neighbours))


def icnn_score(episode: Episode, neighbours: int = 4) -> jax.Array:
  """Returns the mean of two terms in [0, 1].

  gamma is the share of neighbours that are of the example's class. lambda is itself the mean of two
  terms. One is how close these neighbours are, relative to the distance r of the nearest example of
  another class. The other is how far neighbours of other classes are, relative to the largest
  distance.
  """
  both = join(episode.support, episode.query)
  there, count = presence(both), min(neighbours, len(both.x) - 1)
  pair = there[:, None] & there & ~jnp.eye(len(both.x), dtype=bool)
  away = distances(both.x, both.x)
  same = pair & (both.y[:, None] == both.y)
  _, nearest = jax.lax.top_k(-jnp.where(pair, away, FAR), count)
  near = jax.nn.one_hot(nearest, len(both.x), dtype=away.dtype).sum(1).astype(bool) & pair
  other = jnp.where(pair & ~same, away, FAR).min(1, keepdims=True)
  ratio = jnp.where(near & same, away / other, 0)
  ratio = ratio / jnp.maximum(ratio.max(1, keepdims=True), 1)
  friends, strangers = (near & same).sum(1), near & ~same
  inside = jnp.where(friends > 0, ratio.sum(1) / jnp.maximum(friends, 1), 1)
  examples = jnp.maximum(there.sum(), 1)
  close = 1 - jnp.where(there, inside, 0).sum() / examples
  largest = jnp.where(pair, away, 0).max()
  apart = jnp.where(strangers, away, 0).sum() / jnp.maximum(strangers.sum(), 1) / largest
  apart = jnp.where(strangers.any(), apart, 1)
  gamma = friends.sum() / jnp.maximum(near.sum(), 1)
  return ((close + apart) / 2 + gamma) / 2
