"""A normal distribution of all targets of an episode together, with their covariances.

Wessel Bruinsma, James Requeima, Andrew Foong, Jonathan Gordon, Richard Turner, The Gaussian Neural
Process, AABI 2021, arXiv:2101.03606; the covariance of low rank is that of Stratis Markou, James
Requeima, Wessel Bruinsma, Anna Vaughan, Richard Turner, Practical Conditional Neural Processes Via
Tractable Dependent Predictions, ICLR 2022, arXiv:2203.08775, eq. 6 (`linear`): F F' + diag(d^2),
with a row of F for each target.
"""

import jax
import jax.numpy as jnp

from metakit.densities.density import by_number
from metakit.densities.gaussian import LEAST, check_least, normal
from metakit.linear_algebra import cholesky, solve_lower, solve_upper
from metakit.objectives import check_outputs, error_of, summable
from metakit.types import Density, Examples, Metrics, Objective, presence


def joint(features: int = 8, least: float = LEAST) -> Objective:
  """Returns the objective of outputs (mean, raw, f_1 ... f_features) of each number of a target.

  The targets have the covariance F F' + diag(d^2), with d = least + softplus(raw). The loss is
  -log p of all targets of an episode together, in nats a number. Targets of weight 0 are left out;
  other weights do not count. The `density` is that of each target by itself, and so is the
  divergence.

  Args:
    features: columns of F.
    least: the least d, in units of y.

  Raises:
    ValueError: for less than one feature, or a least d that is not positive.

  >>> objective, y = joint(features=1), Examples(None, jnp.array([[1.0], [1.0]]))
  >>> loss = jax.jit(lambda last: objective(jnp.array([[0.0, 0.0, 1.0], [0.0, 0.0, last]]), y)[0])
  >>> bool(loss(1.0) < loss(-1.0))  # both are large: not the opposite of one another
  True
  """
  if features < 1:
    raise ValueError(f'features={features} are too few; use 1 or more')
  check_least(least)
  size = 2 + features
  marginal = _marginal(features, least)

  def judge(outputs: jax.Array, examples: Examples) -> tuple[jax.Array, Metrics]:
    check_outputs(outputs, examples, size)
    error = error_of(point, outputs, examples)
    outputs, examples = summable(outputs, examples)
    there = jnp.broadcast_to(presence(examples)[:, None], examples.y.shape).ravel()
    parameters = by_number(outputs, size).reshape(-1, size)
    total = -joint_log_density(parameters, examples.y.ravel(), there, least=least)
    loss = total / jnp.maximum(there.sum(), 1)
    return loss, {'loss': loss, 'squared_error': error}

  point = lambda outputs: marginal.mean(by_number(outputs, size))

  def divergence(outputs: jax.Array, reference: jax.Array) -> jax.Array:
    return marginal.divergence(by_number(outputs, size), by_number(reference, size)).mean(-1)

  return Objective(judge, 'density', point, divergence, size, density=marginal)


def _marginal(features: int, least: float) -> Density:
  def moments(parameters: jax.Array) -> tuple[jax.Array, jax.Array]:
    alone = least + jax.nn.softplus(parameters[..., 1])
    variance = jnp.square(alone) + jnp.square(parameters[..., 2:]).sum(-1)
    return parameters[..., 0], jnp.sqrt(variance)

  return normal('joint', 2 + features, moments)


def joint_log_density(
  parameters: jax.Array, y: jax.Array, present: jax.Array, *, least: float = LEAST
) -> jax.Array:
  """Returns log p(y) of the targets that are present, in nats.

  It factorises a matrix of features x features (the lemma of Woodbury). The distance is a sum of
  squares, so that no large terms cancel.

  Args:
    parameters: [targets, 2 + features]; see `joint`.
    y: [targets].
    present: [targets] bool.
    least: see `joint`.
  """
  mean, raw, features = parameters[:, 0], parameters[:, 1], parameters[:, 2:]
  deviation = jnp.where(present, least + jax.nn.softplus(raw), 1)
  scaled = jnp.where(present[:, None], features / deviation[:, None], 0)  # [targets, features]
  z = jnp.where(present, (y - mean) / deviation, 0)
  factor = cholesky(jnp.eye(features.shape[1], dtype=z.dtype) + scaled.T @ scaled)
  shared = solve_upper(factor, solve_lower(factor, scaled.T @ z))  # the likeliest common causes
  distance = jnp.square(z - scaled @ shared).sum() + jnp.square(shared).sum()
  logs = jnp.where(present, jnp.log(deviation), 0).sum() + jnp.log(jnp.diagonal(factor)).sum()
  return -0.5 * (distance + present.sum() * jnp.log(2 * jnp.pi)) - logs
