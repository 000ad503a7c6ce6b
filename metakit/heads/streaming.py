"""Analytic learning of a stream: ridge regression updated one batch at a time.

Huiping Zhuang, Yizhu Chen, Di Fang, Run He, Kai Tong, Hongxin Wei, Ziqian Zeng, Cen Chen, G-ACIL:
Analytic Learning for Exemplar-Free Generalized Class Incremental Learning, 2024, arXiv:2403.15706.
Implemented: the recursion of weights and inverse autocorrelation (theorem 3.1) on features that a
random layer expands (section 3.2). Whatever the order and the batches, the weights are those of all
examples at once.
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
from metakit.heads.prototypes import prototypes
from metakit.linear_algebra import solve_positive
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Objective, Params


def recursive_ridge(
  ways: int, penalty: float = 0.1, expansion: int = 0, objective: Objective = cross_entropy
) -> MetaLearner:
  """Ridge regression on one-hot labels that goes on learning (`extend`).

  Args:
    ways: classes that the stream may ever show.
    penalty: gamma, of the squared weights.
    expansion: rectified random features in place of the features; 0 for none.
    objective: the training loss.

  Returns:
    A head; fitted = (weights [expanded, ways], inverse [expanded, expanded], seen [ways], kernel).

  Raises:
    ValueError: for numbers that make no sense.
  """
  check_ways(ways)
  check_positive(penalty=penalty)
  if expansion < 0:
    raise ValueError(f'expansion={expansion} is negative; use 0 for none')

  def init(key: Key, episode: Episode) -> Params:
    size = episode.support.x.shape[1]
    kernel = jax.random.normal(key, (size, expansion), jnp.float32) * jnp.float32(size) ** -0.5
    return {'expansion': kernel} if expansion else {}

  def expanded(params: Params, z: jax.Array) -> jax.Array:
    if not expansion:
      return z
    fixed = jax.lax.stop_gradient(params['expansion'])  # random, and stays so
    return jax.nn.relu(product(z, fixed))

  def fit(key: Key, params: Params, support: Examples) -> Fitted:
    del key
    size, dtype = expansion or support.x.shape[1], precise(support.x).dtype
    inverse = jnp.eye(size, dtype=dtype) / penalty
    nothing = jnp.zeros((size, ways), dtype), inverse, jnp.zeros(ways, dtype), params
    return extend(nothing, support)

  def extend(fitted: Fitted, more: Examples) -> Fitted:
    weights, inverse, seen, params = fitted
    more = more._replace(x=precise(more.x))
    member = members(more, ways)
    root = jnp.sqrt(member.sum(-1, keepdims=True))  # of the weight of each example
    x, targets = root * expanded(params, more.x), jnp.sign(member) * root
    gain_right = product(inverse, x.T)
    middle = jnp.eye(len(x), dtype=x.dtype) + product(x, gain_right)
    inverse = inverse - product(gain_right, solve_positive(middle, gain_right.T))
    weights = weights + product(product(inverse, x.T), targets - product(x, weights))
    return weights, inverse, seen + member.sum(0), params

  def classify(fitted: Fitted, z: jax.Array) -> jax.Array:
    weights, _, seen, params = fitted
    return jnp.where(seen > 0, product(expanded(params, z), weights), ABSENT)

  return inductive_head(fit, classify, init, objective)._replace(extend=extend)


def class_mean_stream(
  ways: int, distance: str = 'euclidean', objective: Objective = cross_entropy
) -> MetaLearner:
  """The nearest class mean, updated by each example; the order makes no difference.

  Paul Janson, Wenxuan Zhang, Rahaf Aljundi, Mohamed Elhoseiny, A Simple Baseline that Questions the
  Use of Pretrained-Models in Continual Learning, 2022, arXiv:2210.04428.

  Args:
    ways: classes of an episode.
    distance: 'euclidean' (squared) or 'cosine'.

  Returns and raises as metakit.heads.prototypes; fitted = (sums [ways, features], totals [ways]).
  """
  nearest = prototypes(ways, distance)

  def fit(key: Key, params: Params, support: Examples) -> Fitted:
    del key, params
    support = support._replace(x=precise(support.x))
    member = members(support, ways)
    return product(member.T, support.x), member.sum(0)

  def extend(fitted: Fitted, more: Examples) -> Fitted:
    return jax.tree.map(jnp.add, fitted, fit(jax.random.key(0), {}, more))

  def classify(fitted: Fitted, z: jax.Array) -> jax.Array:
    sums, totals = fitted
    points = sums / jnp.maximum(totals, 1e-12)[:, None]
    return nearest.predict((points, totals > 0, jnp.float32(1)), z)

  return inductive_head(fit, classify, objective=objective)._replace(extend=extend)
