"""Generative heads: Gaussian classes with diagonal or full, pooled or own covariances.

Chenyu Zheng, Guoqiang Wu, Fan Bao, Yue Cao, Chongxuan Li, Jun Zhu, Revisiting Discriminative vs.
Generative Classifiers: Theory and Implications, ICML 2023, arXiv:2302.02334 (naive Bayes on frozen
features). Simple CNAPS is in a docstring of its own.
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
  weight_of,
)
from metakit.linear_algebra import cholesky, cholesky_of_root, is_wide, solve_lower, solve_upper
from metakit.objectives import cross_entropy
from metakit.types import Examples, Fitted, Key, MetaLearner, Objective, Params


def naive_bayes(
  ways: int,
  pooled: bool = True,
  smoothing: float = 1e-2,
  *,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Gaussian naive Bayes, with priors by the sizes of the classes.

  Args:
    ways: classes of an episode.
    pooled: whether classes share their variances, which makes the classifier linear.
    smoothing: what is added to every variance, as a share of the largest variance of a feature.
    objective: the training loss.

  Raises:
    ValueError: if smoothing is not positive (a feature without variance), or ways below 2.

  >>> support = Examples(jnp.array([[-3.0], [3.0], [3.9], [4.1]]), jnp.array([0, 0, 1, 1]))
  >>> head = naive_bayes(ways=2, pooled=False)
  >>> answer = jax.jit(lambda x: head.predict(head.adapt(jax.random.key(0), {}, support), x))
  >>> int(answer(jnp.array([[3.0]])).argmax())  # nearer to the mean of class 1, but 0 is wider
  0
  """
  check_ways(ways)
  check_positive(smoothing=smoothing)

  def fit(key: Key, params: Params, support: Examples) -> Fitted:
    del key, params
    x, member = support.x, members(support, ways)
    centre, total = means(member, x), member.sum(0)
    away = jnp.square(x[:, None] - centre)  # [examples, ways, features]
    within = (member[..., None] * away).sum(0)
    count = jnp.maximum(total, 1e-12)[:, None]
    variance = within.sum(0) / jnp.maximum(total.sum(), 1e-12) if pooled else within / count
    variance = jnp.broadcast_to(variance, centre.shape) + smoothing * variances(support).max()
    return centre, variance, log_prior(total)

  def classify(fitted: Fitted, z: jax.Array) -> jax.Array:
    centre, variance, prior = fitted
    away = jnp.square(z[:, None] - centre) / variance + jnp.log(variance)
    return jnp.where(prior > ABSENT, prior - 0.5 * away.sum(-1), ABSENT)

  return inductive_head(fit, classify, objective=objective)


def discriminant(
  ways: int,
  pooled: bool = True,
  shrinkage: float = 0.5,
  *,
  smoothing: float = 1e-2,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Gaussian discriminant analysis, linear or quadratic, with priors by the sizes of the classes.

  Args:
    ways: classes of an episode.
    pooled: whether classes share their covariance (linear).
    shrinkage: share of the mean variance within classes, times the identity, in each covariance.
    smoothing: what is added to every variance, as a share of the mean variance of all examples.
      With one example a class there is no variance within classes.
    objective: the training loss.

  Raises:
    ValueError: unless 0 < shrinkage <= 1 (a covariance of few examples is singular) and smoothing
      is positive, or for ways below 2.

  >>> x = jnp.array([[-2.0, -2.0], [2.0, 2.0], [1.0, -1.0], [5.0, 3.0]])  # both along a diagonal
  >>> support = Examples(x, jnp.array([0, 0, 1, 1]))
  >>> head = discriminant(ways=2)
  >>> answer = jax.jit(lambda x: head.predict(head.adapt(jax.random.key(0), {}, support), x))
  >>> int(answer(jnp.array([[1.4, 2.0]])).argmax())  # although the mean of class 1 is nearer
  0
  """
  check_ways(ways)
  check_positive(smoothing=smoothing)
  if not 0 < shrinkage <= 1:
    raise ValueError(f'shrinkage={shrinkage} is not in (0, 1]')

  def fit(key: Key, params: Params, support: Examples) -> Fitted:
    del key, params
    member = members(support, ways)
    centre, total = means(member, support.x), member.sum(0)
    scatter = scatters(support.x, member, centre)
    if pooled:
      share = (scatter * total[:, None, None]).sum(0) / jnp.maximum(total.sum(), 1e-12)
      scatter = jnp.broadcast_to(share, scatter.shape)
    size = jnp.trace(scatter, axis1=1, axis2=2) / scatter.shape[-1]
    ridge = shrinkage * size + smoothing * variances(support).mean()
    eye = jnp.eye(scatter.shape[-1], dtype=scatter.dtype)
    covariance = (1 - shrinkage) * scatter + ridge[:, None, None] * eye
    return centre, *inverse_root(covariance), log_prior(total)

  def classify(fitted: Fitted, z: jax.Array) -> jax.Array:
    centre, root, log_determinant, prior = fitted
    outputs = prior - 0.5 * (mahalanobis_distances(z, centre, root) + log_determinant)
    return jnp.where(prior > ABSENT, outputs, ABSENT)

  return inductive_head(fit, classify, objective=objective)


def mahalanobis(ways: int, ridge: float = 1.0, objective: Objective = cross_entropy) -> MetaLearner:
  """Simple CNAPS: the nearest class mean, measured by the covariance of its class.

  The covariance of class k is lambda S_k + (1 - lambda) S + ridge I, of its own examples and of all
  of them, with lambda = n_k / (n_k + 1). Peyman Bateni, Raghav Goyal, Vaden Masrani, Frank Wood,
  Leonid Sigal, Improved Few-Shot Visual Classification, CVPR 2020, arXiv:1912.03432, eqs. 2 and 3.

  Args:
    ways: classes of an episode.
    ridge: beta.
    objective: the training loss.

  Raises:
    ValueError: if the ridge is not positive, or ways below 2.

  >>> support = Examples(jnp.array([[-3.0], [3.0], [3.9], [4.1]]), jnp.array([0, 0, 1, 1]))
  >>> head = mahalanobis(ways=2)
  >>> answer = jax.jit(lambda x: head.predict(head.adapt(jax.random.key(0), {}, support), x))
  >>> int(answer(jnp.array([[2.2]])).argmax())  # nearer to the mean of class 1, but 0 is wider
  0
  """
  check_ways(ways)
  check_positive(ridge=ridge)

  def fit(key: Key, params: Params, support: Examples) -> Fitted:
    del key, params
    member = members(support, ways)
    centre, total = means(member, support.x), member.sum(0)
    roots = mixed_roots(support, member, centre)
    factors = jax.vmap(lambda root: ridge_factor(root, ridge))(roots)
    return centre, roots, factors, total > 0

  def classify(fitted: Fitted, z: jax.Array) -> jax.Array:
    centre, roots, factors, present = fitted
    measure = lambda middle, root, factor: ridge_distances(z - middle, root, factor, ridge=ridge)
    away = jax.vmap(measure, out_axes=1)(centre, roots, factors)
    return jnp.where(present, -0.5 * away, ABSENT)

  return inductive_head(fit, classify, objective=objective)


def mixed_roots(support: Examples, member: jax.Array, centre: jax.Array) -> jax.Array:
  """Returns U [ways, 2 examples, features]: U'U is lambda S_k + (1 - lambda) S of mahalanobis."""
  x, everyone = support.x, weight_of(support, support.x.dtype)[:, None]
  around = jnp.sqrt(everyone / jnp.maximum(everyone.sum() - 1, 1)) * (x - means(everyone, x))

  def one(weight: jax.Array, middle: jax.Array) -> jax.Array:
    count = weight.sum()
    share = count / (count + 1)
    within = jnp.sqrt(weight / jnp.maximum(count - 1, 1))[:, None] * (x - middle)
    return jnp.concatenate([jnp.sqrt(share) * within, jnp.sqrt(1 - share) * around])

  return jax.vmap(one)(member.T, centre)


def ridge_factor(root: jax.Array, ridge: float) -> jax.Array:
  """Returns L: LL' is UU' + ridge I or U'U + ridge I of U [rows, features], what is smaller."""
  root = root.T if is_wide(root) else root
  eye = jnp.eye(root.shape[1], dtype=root.dtype)
  return cholesky_of_root(jnp.concatenate([root, ridge**0.5 * eye]))


def ridge_distances(
  away: jax.Array, root: jax.Array, factor: jax.Array, *, ridge: float
) -> jax.Array:
  """Returns v'(U'U + ridge I)^-1 v [n] for v [n, features] and U [rows, features].

  For long features the matrix is nearly singular in float32. So the value is computed as the
  minimum of a ridge regression, min_b |v - U'b|^2 / ridge + |b|^2, or as max_y 2 v'y - |Uy|^2 -
  ridge |y|^2. There an error of the solution counts only by its square.

  Args:
    away: v.
    root: U.
    factor: ridge_factor(root, ridge).
    ridge: positive.
  """
  solve = lambda right: solve_upper(factor, solve_lower(factor, right.T)).T  # of rows
  squares = lambda v: jnp.square(v).sum(-1)
  if is_wide(root):
    b = solve(product(away, root.T))
    b += solve(product(away - product(b, root), root.T) - ridge * b)
    return squares(away - product(b, root)) / ridge + squares(b)
  y = solve(away)
  y += solve(away - product(product(y, root.T), root) - ridge * y)
  return 2 * (away * y).sum(-1) - squares(product(y, root.T)) - ridge * squares(y)


def variances(support: Examples) -> jax.Array:
  """Returns the variance [features] of all examples; 1 where all are equal: no scale is known."""
  weight = weight_of(support, support.x.dtype)[:, None]
  variance = means(weight, jnp.square(support.x - means(weight, support.x)))[0]
  return jnp.where(variance.max() > 0, variance, 1)


def log_prior(total: jax.Array) -> jax.Array:
  """Returns the logarithm of class sizes [ways], ABSENT for a class without examples."""
  return jnp.where(total > 0, jnp.log(jnp.maximum(total, 1e-12)), ABSENT)


def scatters(x: jax.Array, member: jax.Array, centre: jax.Array) -> jax.Array:
  """Returns the covariance [ways, features, features] of each class, from its own examples."""

  def one(weight: jax.Array, middle: jax.Array) -> jax.Array:
    away = x - middle
    return product((weight[:, None] * away).T, away) / jnp.maximum(weight.sum(), 1e-12)

  return jax.vmap(one)(member.T, centre)


def inverse_root(covariance: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns lower triangular L^-1 [ways, features, features] of LL' and log|LL'| [ways]."""
  factor = jax.vmap(cholesky)(covariance)
  eye = jnp.eye(factor.shape[-1], dtype=factor.dtype)
  root = jax.vmap(solve_lower, (0, None))(factor, eye)
  return root, 2 * jnp.log(jnp.diagonal(factor, axis1=1, axis2=2)).sum(-1)


def mahalanobis_distances(z: jax.Array, centre: jax.Array, root: jax.Array) -> jax.Array:
  """Returns the squared distances [n, ways] of z [n, features], given inverse_root."""
  measure = lambda middle, root: jnp.square(product(z - middle, root.T)).sum(-1)
  return jax.vmap(measure, out_axes=1)(centre, root)
