"""Proto-triplet loss: each query closer to its class mean than to any other, by a margin.

Mauricio Mendez-Ruiz, Jorge Gonzalez-Zapata, Ivan Reyes-Amezcua, Daniel Flores-Araiza, Francisco
Lopez-Tiro, Andres Mendez-Vazquez, Gilberto Ochoa-Ruiz, SuSana Distancia Is All You Need: Enforcing
Class Separability in Metric Learning via Two Novel Distance-Based Loss Functions for Few-Shot Image
Classification, 2023, arXiv:2305.09062.
"""

import jax
import jax.numpy as jnp

from metakit.heads.common import check_positive, check_ways, class_means, distances
from metakit.losses.together import FeatureLoss
from metakit.objectives import weighted_mean
from metakit.types import Episode


def proto_triplet(ways: int, margin: float = 0.5) -> FeatureLoss:
  """Returns the mean over queries of max(0, d(q, own mean) - d(q, nearest other mean) + margin).

  Args:
    ways: classes of an episode.
    margin: in units of the distance.

  Raises:
    ValueError: if the margin is not positive, or ways below 2.

  >>> from metakit.types import Examples
  >>> support = Examples(jnp.array([[0.0], [10.0]]), jnp.array([0, 1]))
  >>> query = Examples(jnp.array([[1.0], [4.9]]), jnp.array([0, 0]))  # nearer by 8 and by 0.2
  >>> loss = jax.jit(proto_triplet(ways=2, margin=0.5))(Episode(support, query))
  >>> f'{loss:.2f}'  # (0 + 0.3) / 2
  '0.15'
  """
  check_ways(ways)
  check_positive(margin=margin)

  def loss(episode: Episode) -> jax.Array:
    points, present = class_means(episode.support, ways)
    query = episode.query
    away = distances(query.x, points)
    is_label = jax.nn.one_hot(query.y, ways, dtype=bool)
    right = jnp.where(is_label, away, 0).sum(-1)
    wrong = jnp.where(is_label | ~present, jnp.inf, away).min(-1)
    return weighted_mean(jnp.maximum(right - wrong + margin, 0), query.weight)

  return loss
