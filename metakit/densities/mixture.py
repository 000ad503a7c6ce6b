"""Mixtures of normal distributions.

Christopher Bishop, Mixture Density Networks, Aston University NCRG/94/004, 1994. The posterior of a
mixture of Gaussian priors is one too, so exact references have this density
(metakit.learners.bayes_density).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jax.scipy.stats import norm

from metakit.densities.gaussian import LEAST, check_least, gaussian, raw_of
from metakit.types import Density

HALVINGS = 60  # of the interval that holds a quantile
POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(64)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def mixture(components: int, least: float = LEAST) -> Density:
  """Returns a mixture of normals, of parameters (logits, means, raws), each [components].

  A deviation is least + softplus(raw). A quantile is found by halving an interval. The divergence
  is an integral by Gauss and Hermite's rule, with 64 points for each component of the reference.

  Args:
    components: how many.
    least: the least deviation, in units of y.

  Raises:
    ValueError: for less than one component, or a least deviation that is not positive.

  >>> two = mixture(2)
  >>> apart = jnp.array([0.0, 0.0, -1.0, 1.0, -9.0, -9.0])
  >>> f'{two.variance(apart):.3f}'  # between the components, as there is none within
  '1.000'
  """
  if components < 1:
    raise ValueError(f'components={components} are too few; use 1 or more')
  one = gaussian(least)  # checks `least`
  parts_of = lambda parameters: _parts(parameters, components, least)

  def log_density(parameters: jax.Array, y: jax.Array) -> jax.Array:
    log_weight, mean, deviation = parts_of(parameters)
    z = (jnp.asarray(y)[..., None] - mean) / deviation
    return jax.nn.logsumexp(log_weight + norm.logpdf(z) - jnp.log(deviation), axis=-1)

  def mean(parameters: jax.Array) -> jax.Array:
    log_weight, means, _ = parts_of(parameters)
    return (jnp.exp(log_weight) * means).sum(-1)

  def variance(parameters: jax.Array) -> jax.Array:
    log_weight, means, deviation = parts_of(parameters)
    around = jnp.square(means - mean(parameters)[..., None]) + jnp.square(deviation)
    return (jnp.exp(log_weight) * around).sum(-1)

  def mixed(function: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable[..., jax.Array]:
    """Returns (parameters, y) -> the mean over components of function(z, deviation)."""

    def of_all(parameters: jax.Array, y: jax.Array) -> jax.Array:
      log_weight, means, deviation = parts_of(parameters)
      z = (jnp.asarray(y)[..., None] - means) / deviation
      return (jnp.exp(log_weight) * function(z, deviation)).sum(-1)

    return of_all

  cdf = mixed(lambda z, deviation: ndtr(z))
  improvement = mixed(lambda z, deviation: deviation * (norm.pdf(z) - z * ndtr(-z)))

  def quantile(parameters: jax.Array, level: jax.Array) -> jax.Array:
    level = jnp.asarray(level)
    _, means, deviation = parts_of(parameters)
    each = means + deviation * jax.scipy.special.ndtri(level)[..., None]

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
      low, high = ends
      middle = (low + high) / 2
      below = cdf(parameters, middle) < level
      return jnp.where(below, middle, low), jnp.where(below, high, middle)

    low, high = jax.lax.fori_loop(0, HALVINGS, halve, (each.min(-1), each.max(-1)))
    return (low + high) / 2

  def crps(parameters: jax.Array, y: jax.Array) -> jax.Array:
    """Grimit et al. 2006, Q. J. R. Meteorol. Soc. 132, eq. 5."""
    log_weight, means, deviation = parts_of(parameters)
    weight, apart = jnp.exp(log_weight), lambda a: a[..., :, None] - a[..., None, :]
    both = jnp.sqrt(jnp.square(deviation)[..., :, None] + jnp.square(deviation)[..., None, :])
    of_pairs = weight[..., :, None] * weight[..., None, :] * _distance(apart(means), both)
    of_y = weight * _distance(jnp.asarray(y)[..., None] - means, deviation)
    return of_y.sum(-1) - of_pairs.sum((-1, -2)) / 2

  def divergence(parameters: jax.Array, reference: jax.Array) -> jax.Array:
    log_weight, means, deviation = parts_of(reference)
    points, weights = (jnp.asarray(each, means.dtype) for each in (POINTS, WEIGHTS))
    y = means[..., None] + deviation[..., None] * points  # [..., components, points]
    wide = lambda parameters: parameters[..., None, None, :]
    excess = log_density(wide(reference), y) - log_density(wide(parameters), y)
    return (jnp.exp(log_weight) * (excess * weights).sum(-1)).sum(-1)

  return one._replace(
    name='mixture',
    size=3 * components,
    log_density=log_density,
    mean=mean,
    variance=variance,
    cdf=cdf,
    quantile=quantile,
    divergence=divergence,
    crps=crps,
    expected_improvement=improvement,
    pool=None,
  )


def mixture_parameters(
  log_weight: jax.Array, mean: jax.Array, deviation: jax.Array, *, least: float = LEAST
) -> jax.Array:
  """Returns the parameters [..., 3 * components] of a mixture.

  Args:
    log_weight: [..., components]; they need not be normalised.
    mean: [..., components].
    deviation: [..., components]; those that are not above `least` become hardly larger than it.
    least: that of the mixture.

  Raises:
    ValueError: if `least` is not positive.

  >>> one = mixture_parameters(jnp.zeros(1), jnp.array([3.0]), jnp.array([2.0]))
  >>> f'{mixture(1).variance(one):.3f}'
  '4.000'
  """
  check_least(least)
  raw = raw_of(deviation, least)
  return jnp.concatenate(jnp.broadcast_arrays(log_weight, mean, raw), axis=-1)


def _parts(
  parameters: jax.Array, components: int, least: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns log weights, means and deviations, each [..., components]."""
  logits, means, raws = (parameters[..., n * components : (n + 1) * components] for n in range(3))
  return jax.nn.log_softmax(logits), means, least + jax.nn.softplus(raws)


def _distance(mean: jax.Array, deviation: jax.Array) -> jax.Array:
  """Returns E|Y| of a normal distribution."""
  z = mean / deviation
  return mean * (2 * ndtr(z) - 1) + 2 * deviation * norm.pdf(z)
