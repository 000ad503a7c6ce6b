"""alpha-TIM: transductive information maximisation for queries of any proportions.

Olivier Veilleux, Malik Boudiaf, Pablo Piantanida, Ismail Ben Ayed, Realistic Evaluation of
Transductive Few-Shot Learning, NeurIPS 2021, arXiv:2204.11181. Implemented: the objective of TIM
with alpha-entropies of the queries (eqs. 6 and 7), and Shannon's cross-entropy of the support.
"""

import jax
import jax.numpy as jnp

from metakit.heads.common import check_positive, check_ways, class_means, transductive_head, unit
from metakit.heads.tim import descend, information_loss, log_odds
from metakit.objectives import cross_entropy
from metakit.types import Examples, MetaLearner, Objective, Params


def alpha_tim(
  ways: int,
  alpha: float = 5.0,
  steps: int = 1000,
  temperature: float = 15.0,
  support_weight: float = 1.0,
  marginal_weight: float = 1.0,
  conditional_weight: float = 1.0,
  learning_rate: float = 1e-4,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """TIM whose entropies prefer balanced queries the less the larger alpha is.

  Args:
    ways: classes of an episode.
    alpha: of the entropies, above 1; close to 1 it is TIM.
    steps: of Adam.
    temperature: of the squared distances of unit-length features.
    support_weight: of the cross-entropy of the support.
    marginal_weight: of the alpha-entropy of the mean prediction.
    conditional_weight: of the alpha-entropy of single predictions.
    learning_rate: of Adam.
    objective: the loss if it is meta-trained.

  Raises:
    ValueError: for numbers that make no sense.
  """
  check_ways(ways)
  check_positive(steps=steps, temperature=temperature, learning_rate=learning_rate)
  if alpha <= 1:
    raise ValueError(f'alpha={alpha} is not above 1; use tim for Shannon entropies')

  def infer(params: Params, support: Examples, query: Examples) -> jax.Array:
    del params
    support, query = (part._replace(x=unit(part.x)) for part in (support, query))
    points, present = class_means(support, ways)
    weights = support_weight, marginal_weight, conditional_weight
    measure = lambda p: alpha_entropy(p, alpha)
    loss = information_loss(support, query, present, temperature, *weights, measure)
    points = descend(loss, points, learning_rate, steps)
    return log_odds(query.x, points, present, temperature)

  return transductive_head(infer, objective=objective)


def alpha_entropy(p: jax.Array, alpha: float) -> jax.Array:
  """The alpha-entropy (Tsallis) of p [..., ways], Shannon's in the limit of alpha = 1."""
  return (1 - jnp.power(jnp.maximum(p, 1e-12), alpha).sum(-1)) / (alpha - 1)
