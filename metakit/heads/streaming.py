"""Analytic learning of a stream: ridge regression updated one batch at a time.

Huiping Zhuang, Yizhu Chen, Di Fang, Run He, Kai Tong, Hongxin Wei, Ziqian Zeng, Cen Chen, G-ACIL:
Analytic Learning for Exemplar-Free Generalized Class Incremental Learning, 2024, arXiv:2403.15706.
Implemented: the joint solution of weights (theorem 3.1) on features that a random layer expands
(section 3.2). Whatever the order and the batches, the weights are those of all examples at once.
Deviation: the sums x'x and x'y are kept and their system is solved. The paper's recursion of the
inverse is the same in exact arithmetic, but in float32 its error grows with the stream and with the
length of the features.
"""

import jax
import jax.numpy as jnp

from metakit.heads.common import (
  ABSENT,
  check_positive,
  check_ways,
  inductive_head,
  members,
  product,
)
from metakit.heads.prototypes import prototypes
from metakit.heads.ridge import ridge_weights, solve_ridge
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Objective, Params


def recursive_ridge(
  ways: int, penalty: float = 0.1, expansion: int = 0, *, objective: Objective = cross_entropy
) -> MetaLearner:
  """Ridge regression on one-hot labels that goes on learning (`extend`).

  Args:
    ways: classes that the stream may ever show.
    penalty: gamma, of the squared weights.
    expansion: rectified random features in place of the features; 0 for none.
    objective: the training loss.

  An extension costs the cube of the (expanded) features beside its sums: the system is solved.

  Returns:
    A head; fitted = (weights [expanded, ways], sums x'x [expanded, expanded] and x'y
    [expanded, ways], seen [ways], params).

  Raises:
    ValueError: for numbers that make no sense.

  >>> first = Examples(jnp.array([[1.0, 0.0]]), jnp.array([0]))
  >>> more = Examples(jnp.array([[0.0, 1.0]]), jnp.array([1]))
  >>> head = recursive_ridge(ways=2, penalty=1.0)
  >>> extended = jax.jit(lambda key: head.extend(head.adapt(key, {}, first), more))
  >>> weights = extended(jax.random.key(0))[0]
  >>> [f'{weight:.2f}' for weight in weights.diagonal()]  # as if it had seen both at once
  ['0.50', '0.50']
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

  def sums(params: Params, part: Examples) -> tuple[jax.Array, jax.Array, jax.Array]:
    member, x = members(part, ways), expanded(params, part.x)
    gram = product((member.sum(-1, keepdims=True) * x).T, x)
    return gram, product(x.T, member), member.sum(0)

  def fit(key: Key, params: Params, support: Examples) -> Fitted:
    del key
    member, x = members(support, ways), expanded(params, support.x)
    weights = ridge_weights(x, jnp.sign(member), member.sum(-1), penalty=penalty)
    return weights, *sums(params, support), params

  def extend(fitted: Fitted, more: Examples) -> Fitted:
    *before, params = fitted[1:]
    gram, moment, seen = jax.tree.map(jnp.add, tuple(before), sums(params, more))
    return solve_ridge(gram, penalty, moment), gram, moment, seen, params

  def classify(fitted: Fitted, z: jax.Array) -> jax.Array:
    weights, _, _, seen, params = fitted
    return jnp.where(seen > 0, product(expanded(params, z), weights), ABSENT)

  return inductive_head(fit, classify, init, objective=objective, extend=extend)


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

  >>> first = Examples(jnp.array([[0.0], [9.0]]), jnp.array([0, 1]))
  >>> more = Examples(jnp.array([[6.0]]), jnp.array([0]))
  >>> head = class_mean_stream(ways=2)
  >>> extended = jax.jit(lambda key: head.extend(head.adapt(key, {}, first), more))
  >>> sums, totals = extended(jax.random.key(0))
  >>> (sums[:, 0] / totals).round().tolist()  # the mean of class 0 was 0
  [3.0, 9.0]
  """
  nearest = prototypes(ways, distance)

  def fit(key: Key, params: Params, support: Examples) -> Fitted:
    del key, params
    member = members(support, ways)
    return product(member.T, support.x), member.sum(0)

  def extend(fitted: Fitted, more: Examples) -> Fitted:
    return jax.tree.map(jnp.add, fitted, fit(jax.random.key(0), {}, more))

  def classify(fitted: Fitted, z: jax.Array) -> jax.Array:
    sums, totals = fitted
    points = sums / jnp.maximum(totals, 1e-12)[:, None]
    return nearest.predict((points, totals > 0, jnp.float32(1)), z)

  return inductive_head(fit, classify, objective=objective, extend=extend)
