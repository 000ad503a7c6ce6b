"""Prototypical networks.

Jake Snell, Kevin Swersky, Richard Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017,
arXiv:1703.05175. Implemented: the prototypes (eq. 1), the softmax over distances (eq. 2), the
negative log-likelihood (Algorithm 1) and both distances of section 2.7. Deviation: the statistics
of batch normalisation at test time are those of training episodes pooled after training
(metakit.networks.normalisation) rather than a moving average; 'transductive' uses the episode's.
"""

import jax
import jax.numpy as jnp

from metakit.learners.embedded import embedded
from metakit.models import Model
from metakit.objectives import cross_entropy
from metakit.types import Examples, Fitted, Key, MetaLearner, Objective, Params

ABSENT = -1e9  # logit of a class without support; finite, so that gradients stay finite
DISTANCES = ('euclidean', 'cosine')


def prototypical(
  model: Model,
  ways: int,
  distance: str = 'euclidean',
  protocol: str = 'inductive',
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Classifies by the nearest class mean in a learned embedding.

  Args:
    model: the embedding network, x [examples, ...] -> [examples, features].
    ways: classes an episode (at most; a class without support is never predicted).
    distance: 'euclidean' (squared) or 'cosine'.
    protocol: 'inductive' or 'transductive', which differ by the statistics of batch normalisation.
    objective: the training loss.

  Raises:
    ValueError: for an unknown distance or protocol, or ways below 2.
  """
  return embedded(model, prototypical_head(ways, distance), objective, protocol)


def prototypical_head(ways: int, distance: str = 'euclidean') -> MetaLearner:
  """The nearest-prototype classifier of features, a learner without parameters.

  fitted = (prototypes [ways, features], present [ways] bool); args and raises as `prototypical`.
  """
  if distance not in DISTANCES:
    raise ValueError(f'distance={distance!r} is unknown; use one of {", ".join(DISTANCES)}')
  if ways < 2:
    raise ValueError(f'ways={ways} leaves nothing to classify; use ways>=2')
  measure = negative_squared_distance if distance == 'euclidean' else cosine_similarity

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    del key, params  # class means are exact and need no parameters
    return class_means(support, ways)

  def predict(fitted: Fitted, z: jax.Array) -> jax.Array:
    prototypes, present = fitted
    return jnp.where(present, measure(z, prototypes), ABSENT)  # [queries, ways]

  def loss(key, params, episode):
    outputs = predict(adapt(key, params, episode.support), episode.query.x)
    return cross_entropy(outputs, episode.query)

  return MetaLearner(lambda key, episode: {}, adapt, predict, loss, 'inductive')


def class_means(support: Examples, ways: int) -> tuple[jax.Array, jax.Array]:
  """Returns the weighted mean of each class, [ways, features], and whether it has any example."""
  member = jax.nn.one_hot(support.y, ways, dtype=support.x.dtype)  # [examples, ways]
  if support.weight is not None:
    member = member * support.weight[:, None]
  total = member.sum(0)
  means = _matmul(member.T, support.x) / jnp.maximum(total, jnp.finfo(total.dtype).tiny)[:, None]
  return means, total > 0


def negative_squared_distance(z: jax.Array, prototypes: jax.Array) -> jax.Array:
  """-|z - c|^2 for z [n, features] and prototypes [ways, features]; [n, ways]."""
  squares = lambda v: jnp.square(v).sum(-1)
  return 2 * _matmul(z, prototypes.T) - squares(z)[:, None] - squares(prototypes)


def cosine_similarity(z: jax.Array, prototypes: jax.Array) -> jax.Array:
  """The cosine of the angle between z [n, features] and prototypes [ways, features]; [n, ways]."""
  unit = lambda v: v * jax.lax.rsqrt(jnp.maximum(jnp.square(v).sum(-1, keepdims=True), 1e-12))
  return _matmul(unit(z), unit(prototypes).T)


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
  # Full precision: accelerators round the factors, which the differences above do not survive.
  return jnp.matmul(a, b, precision='highest')
