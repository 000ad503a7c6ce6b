"""alpha-TIM: transductive information maximisation for queries of any proportions.

Olivier Veilleux, Malik Boudiaf, Pablo Piantanida, Ismail Ben Ayed, Realistic Evaluation of
Transductive Few-Shot Learning, NeurIPS 2021, arXiv:2204.11181. Implemented: the objective of TIM
with alpha-entropies of the queries (eqs. 6 and 7), and Shannon's cross-entropy of the support. The
settings are those of the released code (src/methods/tim.py and alpha_tim.yaml in
github.com/oveilleux/Realistic_Transductive_Few_Shot).
"""

import jax
import jax.numpy as jnp

from metakit.heads.common import (
  check_positive,
  check_ways,
  class_means,
  members,
  transductive_head,
  unit,
)
from metakit.heads.tim import descend, information_slope, log_odds, together
from metakit.objectives import cross_entropy
from metakit.types import Examples, MetaLearner, Objective, Params


def alpha_tim(
  ways: int,
  alpha: float | None = None,
  steps: int = 1000,
  *,
  temperature: float = 15.0,
  support_weight: float = 1.0,
  marginal_weight: float = 1.0,
  conditional_weight: float = 1.0,
  learning_rate: float = 1e-4,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """TIM with entropies of order alpha; the larger alpha is, the less they prefer balanced queries.

  Args:
    ways: classes of an episode.
    alpha: order of the entropies, above 1. Close to 1 this is TIM. None takes the values of the
      released code: 2 for one example a class, 7 for five and more, 5 between.
    steps: steps of Adam.
    temperature: temperature of the squared distances of unit-length features.
    support_weight: weight of the cross-entropy of the support.
    marginal_weight: weight of the alpha-entropy of the mean prediction.
    conditional_weight: weight of the alpha-entropy of single predictions.
    learning_rate: learning rate of Adam.
    objective: the loss if it is meta-trained.

  Raises:
    ValueError: for numbers that make no sense.

  >>> from metakit.learners import pretrained
  >>> from metakit.networks import resnet12
  >>> learner = pretrained(resnet12(), alpha_tim(ways=5, alpha=2.0), num_classes=64)
  >>> learner.protocol
  'transductive'
  """
  check_ways(ways)
  check_positive(steps=steps, temperature=temperature, learning_rate=learning_rate)
  if alpha is not None and alpha <= 1:
    raise ValueError(f'alpha={alpha} is not above 1; use tim for Shannon entropies')

  def infer(params: Params, support: Examples, query: Examples) -> jax.Array:
    del params
    support, query = (part._replace(x=unit(part.x)) for part in (support, query))
    points, present = class_means(support, ways)
    order = tuned_alpha(support, ways) if alpha is None else alpha
    rows, points, middle = together(support, query, points, present=present)
    slope = information_slope(
      rows,
      temperature=temperature,
      support_weight=support_weight,
      marginal_weight=marginal_weight,
      conditional_weight=conditional_weight,
      entropy=lambda log_p: alpha_slope(log_p, order),
    )
    points = descend(slope, points, learning_rate, steps=steps)
    return log_odds(query.x, points + middle, present, temperature=temperature)

  return transductive_head(infer, objective=objective)


def tuned_alpha(support: Examples, ways: int) -> jax.Array:
  """Returns the released code's alpha [] for the mean number of examples a class."""
  member = members(support, ways) > 0
  shots = member.sum() / jnp.maximum(member.any(0).sum(), 1)
  return jnp.select([shots <= 1, shots < 5], [2.0, 5.0], 7.0).astype(support.x.dtype)


def alpha_slope(log_p: jax.Array, alpha: jax.Array | float) -> jax.Array:
  """The slope of the alpha-entropy (Tsallis) (1 - sum p^alpha) / (alpha - 1) of log p [ways, ...].

  It is -alpha / (alpha - 1) p^(alpha - 1), up to what is the same for all classes.
  """
  return -alpha / (alpha - 1) * jnp.exp((alpha - 1) * log_p)
