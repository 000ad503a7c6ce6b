"""The normal distribution with a learned deviation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri
from jax.scipy.stats import norm

from metakit.types import Density

LEAST = 1e-3  # of a deviation: targets of no noise would otherwise have an infinite density


def gaussian(least: float = LEAST) -> Density:
  """Returns the normal distribution, of parameters (mean, raw): deviation least + softplus(raw).

  Args:
    least: the least deviation, in units of y.

  Raises:
    ValueError: if it is not positive.

  >>> normal = gaussian()
  >>> float(normal.quantile(jnp.array([1.0, 0.0]), 0.5))  # the median is the mean
  1.0
  """
  check_least(least)

  def moments(parameters: jax.Array) -> tuple[jax.Array, jax.Array]:
    return parameters[..., 0], least + jax.nn.softplus(parameters[..., 1])

  def pool(parameters: jax.Array) -> jax.Array:
    """Of all normal distributions, that with the moments of a mixture is nearest to it (KL)."""
    mean, deviation = moments(parameters)
    variance = jnp.square(deviation).mean(0) + mean.var(0)
    return jnp.stack([mean.mean(0), raw_of(jnp.sqrt(variance), least)], axis=-1)

  return normal('gaussian', 2, moments)._replace(pool=pool)


def raw_of(deviation: jax.Array, least: float) -> jax.Array:
  """Returns the raw parameter of a deviation; one that is not above `least` is hardly above it."""
  above = jnp.maximum(deviation - least, jnp.finfo(deviation.dtype).eps * least)
  return above + jnp.log(-jnp.expm1(-above))  # the inverse of softplus


def check_least(least: float) -> None:
  """Raises ValueError unless the least deviation is positive."""
  if not least > 0:
    raise ValueError(f'least={least} must be positive, since a density of width 0 is infinite')


def normal(
  name: str, size: int, moments: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
) -> Density:
  """Returns the normal distribution with parameters of one's own.

  Args:
    name: its name.
    size: how many parameters it has.
    moments: parameters [..., size] -> (mean, deviation), each [...].
  """

  def away(parameters: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean, deviation = moments(parameters)
    return (y - mean) / deviation, deviation

  def log_density(parameters: jax.Array, y: jax.Array) -> jax.Array:
    z, deviation = away(parameters, y)
    return norm.logpdf(z) - jnp.log(deviation)

  def quantile(parameters: jax.Array, level: jax.Array) -> jax.Array:
    mean, deviation = moments(parameters)
    return mean + deviation * ndtri(level)

  def divergence(parameters: jax.Array, reference: jax.Array) -> jax.Array:
    (mean, deviation), (true_mean, true_deviation) = moments(parameters), moments(reference)
    ratio, z = true_deviation / deviation, (true_mean - mean) / deviation
    return 0.5 * (ratio**2 + z**2 - 1) - jnp.log(ratio)

  def crps(parameters: jax.Array, y: jax.Array) -> jax.Array:
    z, deviation = away(parameters, y)  # Gneiting and Raftery 2007, eq. 21
    return deviation * (z * (2 * ndtr(z) - 1) + 2 * norm.pdf(z) - jnp.pi**-0.5)

  def expected_improvement(parameters: jax.Array, best: jax.Array) -> jax.Array:
    z, deviation = away(parameters, best)
    return deviation * (norm.pdf(z) - z * ndtr(-z))

  return Density(
    name=name,
    size=size,
    log_density=log_density,
    mean=lambda parameters: moments(parameters)[0],
    variance=lambda parameters: jnp.square(moments(parameters)[1]),
    cdf=lambda parameters, y: ndtr(away(parameters, y)[0]),
    quantile=quantile,
    divergence=divergence,
    crps=crps,
    expected_improvement=expected_improvement,
  )
