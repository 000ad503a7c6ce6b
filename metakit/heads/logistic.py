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
  means,
  members,
  product,
)
from metakit.heads.solve import minimise
from metakit.objectives import cross_entropy
from metakit.types import Examples, Fitted, Key, MetaLearner, Objective, Params


def logistic(
  ways: int,
  strength: float = 1.0,
  steps: int = 200,
  *,
  tolerance: float = 1e-4,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Multinomial logistic regression with a squared penalty of the weights, not of the biases.

  Args:
    ways: classes of an episode.
    strength: C, of the summed cross-entropy beside half the squared weights.
    steps: steps of Newton's method, at most.
    tolerance: the length of a step, as a share of that of the solution, after which it stops.
    objective: the training loss.

  Returns:
    A head; fitted = (weights [features + 1, ways], present [ways]).

  Raises:
    ValueError: for numbers that make no sense.

  >>> from metakit.learners import embedded
  >>> from metakit.networks import conv4
  >>> learner = embedded(conv4(), logistic(ways=5))
  >>> learner.protocol, learner.features is not None  # so a table can be embedded once
  ('inductive', True)
  """
  check_ways(ways)
  check_positive(strength=strength, steps=steps, tolerance=tolerance)

  def fit(key: Key, params: Params, support: Examples) -> Fitted:
    del key, params  # nothing is drawn or learned
    member = members(support, ways)
    present, weight = member.sum(0) > 0, member.sum(1)
    # Features are centred and scaled to a mean square of 1, so that float32 has enough digits. The
    # solution is the same: biases are free, and the penalty is scaled by size^2.
    middle, square = jax.lax.stop_gradient(spread(support.x, weight))
    x, size = (support.x - middle) / jnp.sqrt(square), jnp.sqrt(square)

    def loss(kernel: jax.Array) -> jax.Array:
      missed = surprise(affine(x, kernel), member, present)
      # A common shift of all biases changes nothing, and neither does the bias of an absent class.
      # These are set to 0.
      idle = jnp.square(kernel[-1].sum()) + jnp.where(present, 0, jnp.square(kernel[-1])).sum()
      penalty = 0.5 * (jnp.square(kernel[:-1]).sum() + idle)
      return penalty + strength * square * (weight * missed).sum()

    start = jnp.zeros((x.shape[1] + 1, ways), x.dtype)
    kernel = minimise(loss, start, steps, tolerance=tolerance)
    weights = kernel[:-1] / size
    bias = kernel[-1] - product(middle, weights)
    return jnp.concatenate([weights, bias[None]]), present

  def classify(fitted: Fitted, z: jax.Array) -> jax.Array:
    kernel, present = fitted
    return jnp.where(present, affine(z, kernel), ABSENT)

  return inductive_head(fit, classify, objective=objective)


def affine(z: jax.Array, kernel: jax.Array) -> jax.Array:
  """Returns z times all rows of kernel but the last, plus the last."""
  return product(z, kernel[:-1]) + kernel[-1]


def spread(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the mean [features] of x [examples, features], and the mean square around it, []."""
  middle = means(weight[:, None], x)[0]
  square = means(weight[:, None], jnp.square(x - middle)).sum()
  return middle, jnp.where(square > 0, square, 1)


def surprise(outputs: jax.Array, member: jax.Array, present: jax.Array) -> jax.Array:
  """Returns -log p [examples] of the labels, which is exact even if p is nearly 1.

  It is log(1 + sum exp(o_k - o_y)) over the other classes. The slope of the cross-entropy is 1 - p,
  and would lose all its digits in float32 if p were rounded first.

  Args:
    outputs: [examples, ways].
    member: [examples, ways], not zero at the label of each example.
    present: [ways], whether a class has any example.
  """
  is_label = member > 0
  apart = outputs - jnp.where(is_label, outputs, 0).sum(-1, keepdims=True)
  return jax.nn.softplus(jax.nn.logsumexp(jnp.where(present & ~is_label, apart, ABSENT), axis=-1))
