"""A logistic regression head: the classifier that most published few-shot results end with.

Yonglong Tian, Yue Wang, Dilip Krishnan, Joshua B. Tenenbaum, Phillip Isola, Rethinking Few-Shot
Image Classification, ECCV 2020, arXiv:2003.11539; differentiable as LR-D2 of Bertinetto et al.
2019, arXiv:1805.08136, by the optimality of its solution rather than through the solver's steps.
"""

import jax
import jax.numpy as jnp

from metakit.heads.common import (
  ABSENT,
  check_positive,
  check_ways,
  inductive_head,
  members,
  precise,
  product,
)
from metakit.heads.solve import minimise
from metakit.objectives import cross_entropy
from metakit.types import Examples, Fitted, Key, MetaLearner, Objective, Params


def logistic(
  ways: int,
  strength: float = 1.0,
  steps: int = 200,
  tolerance: float = 1e-4,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Multinomial logistic regression with a squared penalty of the weights, not of the biases.

  Args:
    ways: classes of an episode.
    strength: C, of the summed cross-entropy beside half the squared weights.
    steps: of L-BFGS, at most.
    tolerance: of its gradient's length, as a share of that at the start.
    objective: the training loss.

  Returns:
    A head; fitted = (weights [features + 1, ways], present [ways]).

  Raises:
    ValueError: for numbers that make no sense.
  """
  check_ways(ways)
  check_positive(strength=strength, steps=steps, tolerance=tolerance)

  def fit(key: Key, params: Params, support: Examples) -> Fitted:
    del key, params  # nothing is drawn or learned
    support = support._replace(x=precise(support.x))
    member = members(support, ways)
    present = member.sum(0) > 0

    def loss(kernel: jax.Array) -> jax.Array:
      outputs = jnp.where(present, affine(support.x, kernel), ABSENT)
      log_p = jax.nn.log_softmax(outputs)
      fitting = jnp.where(member > 0, member * log_p, 0).sum()
      # Biases may rise together, and do nothing where a class is absent: 0 is chosen of those.
      idle = jnp.square(kernel[-1].sum()) + jnp.where(present, 0, jnp.square(kernel[-1])).sum()
      return 0.5 * (jnp.square(kernel[:-1]).sum() + idle) - strength * fitting

    start = jnp.zeros((support.x.shape[1] + 1, ways), support.x.dtype)
    return minimise(loss, start, steps, tolerance), present

  def classify(fitted: Fitted, z: jax.Array) -> jax.Array:
    kernel, present = fitted
    return jnp.where(present, affine(z, kernel), ABSENT)

  return inductive_head(fit, classify, objective=objective)


def affine(z: jax.Array, kernel: jax.Array) -> jax.Array:
  """Returns z times all rows of kernel but the last, plus the last."""
  return product(z, kernel[:-1]) + kernel[-1]
