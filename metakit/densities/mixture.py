"""Mixtures of normal distributions.

Christopher Bishop, Mixture Density Networks, Aston University NCRG/94/004, 1994. The posterior of a
mixture of Gaussian priors is one too, so exact references have this density
(metakit.learners.bayes_density).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri
from jax.scipy.stats import norm

from metakit.densities.gaussian import LEAST, check_least, raw_of
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
  check_least(least)
  parts = lambda parameters: _parts(parameters, components, least)
  of = lambda function: lambda parameters, *value: function(parts(parameters), *value)
  return Density(
    name='mixture',
    size=3 * components,
    log_density=of(log_density),
    mean=of(mean),
    variance=of(variance),
    cdf=of(cdf),
    quantile=of(quantile),
    divergence=lambda parameters, reference: divergence(parts(parameters), parts(reference)),
    crps=of(crps),
    expected_improvement=of(expected_improvement),
  )


class Parts(NamedTuple):
  """The components of mixtures.

  Attributes:
    log_weight: [..., components], normalised.
    mean: [..., components].
    deviation: [..., components].
  """

  log_weight: jax.Array
  mean: jax.Array
  deviation: jax.Array


def log_density(parts: Parts, y: jax.Array) -> jax.Array:
  """Returns log p(y), in nats."""
  each = norm.logpdf(_standard(parts, y)) - jnp.log(parts.deviation)
  return jax.nn.logsumexp(parts.log_weight + each, axis=-1)


def mean(parts: Parts) -> jax.Array:
  """Returns E[Y]."""
  return _average(parts, parts.mean)


def variance(parts: Parts) -> jax.Array:
  """Returns Var[Y]."""
  around = parts.mean - mean(parts)[..., None]
  return _average(parts, jnp.square(around) + jnp.square(parts.deviation))


def cdf(parts: Parts, y: jax.Array) -> jax.Array:
  """Returns P(Y <= y)."""
  return _average(parts, ndtr(_standard(parts, y)))


def expected_improvement(parts: Parts, best: jax.Array) -> jax.Array:
  """Returns E[max(Y - best, 0)]."""
  z = _standard(parts, best)
  return _average(parts, parts.deviation * (norm.pdf(z) - z * ndtr(-z)))


def quantile(parts: Parts, level: jax.Array) -> jax.Array:
  """Returns the y with cdf(y) = level.

  It lies between the quantiles of the components, and halving the interval finds it.
  """
  level = jnp.asarray(level)
  each = parts.mean + parts.deviation * ndtri(level)[..., None]

  def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    low, high = ends
    middle = (low + high) / 2
    below = cdf(parts, middle) < level
    return jnp.where(below, middle, low), jnp.where(below, high, middle)

  low, high = jax.lax.fori_loop(0, HALVINGS, halve, (each.min(-1), each.max(-1)))
  return (low + high) / 2


def crps(parts: Parts, y: jax.Array) -> jax.Array:
  """Returns the CRPS of y (Grimit et al. 2006, Q. J. R. Meteorol. Soc. 132, eq. 5)."""
  weight, square = jnp.exp(parts.log_weight), jnp.square(parts.deviation)
  pairs = lambda combine, a: combine(a[..., :, None], a[..., None, :])
  apart = pairs(jnp.subtract, parts.mean), jnp.sqrt(pairs(jnp.add, square))
  of_pairs = pairs(jnp.multiply, weight) * _distance(*apart)
  of_y = weight * _distance(jnp.asarray(y)[..., None] - parts.mean, parts.deviation)
  return of_y.sum(-1) - of_pairs.sum((-1, -2)) / 2


def divergence(parts: Parts, reference: Parts) -> jax.Array:
  """Returns KL(reference || parts), in nats, by Gauss and Hermite's rule for each component."""
  points, weights = (jnp.asarray(each, parts.mean.dtype) for each in (POINTS, WEIGHTS))
  y = reference.mean[..., None] + reference.deviation[..., None] * points  # [..., parts, points]
  at_all = lambda mixture: Parts(*(leaf[..., None, None, :] for leaf in mixture))
  excess = log_density(at_all(reference), y) - log_density(at_all(parts), y)
  return _average(reference, (excess * weights).sum(-1))


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


def _parts(parameters: jax.Array, components: int, least: float) -> Parts:
  logits, means, raws = (parameters[..., n * components : (n + 1) * components] for n in range(3))
  return Parts(jax.nn.log_softmax(logits), means, least + jax.nn.softplus(raws))


def _standard(parts: Parts, y: jax.Array) -> jax.Array:
  """Returns how many deviations y is above the mean of each component, [..., components]."""
  return (jnp.asarray(y)[..., None] - parts.mean) / parts.deviation


def _average(parts: Parts, values: jax.Array) -> jax.Array:
  """Returns the mean of values [..., components], by the weights of the components."""
  return (jnp.exp(parts.log_weight) * values).sum(-1)


def _distance(mean: jax.Array, deviation: jax.Array) -> jax.Array:
  """Returns E|Y| of a normal distribution."""
  z = mean / deviation
  return mean * (2 * ndtr(z) - 1) + 2 * deviation * norm.pdf(z)
