"""The nearest class mean.

Jake Snell, Kevin Swersky, Richard Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017,
arXiv:1703.05175: eqs. 1 and 2 and the distances of section 2.7. The temperature is that of Boris N.
Oreshkin, Pau Rodriguez, Alexandre Lacoste, TADAM, NeurIPS 2018, arXiv:1805.10123 (section 2.1).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metakit.heads.common import (
  ABSENT,
  check_positive,
  check_ways,
  class_means,
  cosine_similarity,
  inductive_head,
  squared_distances,
)
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Objective, Params

SIMILARITIES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
  'euclidean': lambda z, points: -squared_distances(z, points),
  'cosine': cosine_similarity,
}


def prototypes(
  ways: int,
  distance: str = 'euclidean',
  temperature: float = 0.0,
  *,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Classifies by the nearest class mean.

  Args:
    ways: classes an episode (at most; a class without support is never predicted).
    distance: 'euclidean' (squared) or 'cosine'.
    temperature: the factor of the similarities at the start of meta-training; its logarithm is
      learned. 0 stands for no factor, as published.
    objective: the training loss.

  Returns:
    A head; fitted = (prototypes [ways, features], present [ways] bool, factor).

  Raises:
    ValueError: for an unknown distance, a negative temperature, or ways below 2.

  >>> support = Examples(jnp.array([[0.0], [2.0], [10.0]]), jnp.array([0, 0, 1]))
  >>> head = prototypes(ways=2)
  >>> answer = jax.jit(lambda x: head.predict(head.adapt(jax.random.key(0), {}, support), x))
  >>> answer(jnp.array([[4.0]])).round().tolist()  # minus the squared distances to 1 and to 10
  [[-9.0, -36.0]]
  """
  if distance not in SIMILARITIES:
    raise ValueError(f'distance={distance!r} is unknown; use one of {", ".join(SIMILARITIES)}')
  check_ways(ways)
  if temperature:
    check_positive(temperature=temperature)
  measure = SIMILARITIES[distance]

  def init(key: Key, episode: Episode) -> Params:
    del key, episode
    return {'log_temperature': jnp.log(jnp.float32(temperature))} if temperature else {}

  def fit(key: Key, params: Params, support: Examples) -> Fitted:
    del key  # class means are exact
    factor = jnp.exp(params['log_temperature']) if temperature else jnp.float32(1)
    return (*class_means(support, ways), factor)

  def classify(fitted: Fitted, z: jax.Array) -> jax.Array:
    points, present, factor = fitted
    return jnp.where(present, factor.astype(z.dtype) * measure(z, points), ABSENT)

  return inductive_head(fit, classify, init, objective=objective)
