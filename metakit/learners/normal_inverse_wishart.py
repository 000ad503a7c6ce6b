"""The normal-inverse-Wishart distribution over the weights of tasks, with diagonal scale matrices.

The model of NIW-Meta (metakit.learners.niw_meta). Tasks draw their weights theta ~ N(mu, Sigma), d
numbers, and what is known of (mu, Sigma) is

  mu | Sigma ~ N(m0, Sigma / l0),    Sigma ~ inverse Wishart(V0, n0),    n0 > d - 1.

Here V0 = n0 diag(variance), since E[Sigma^-1] = n0 V0^-1 is then the inverse of `variance`, which
does not change if n0 does. All vectors are flat, [d].
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln


class NormalInverseWishart(NamedTuple):
  """A distribution of (mu, Sigma).

  Attributes:
    mean: m0 [d].
    variance: the diagonal of V0 / n0 [d].
    excess: n0 - (d - 1) [], which is positive. (In single precision it would be lost in n0.)
    strength: l0 []; infinite if mu is known to be m0.
  """

  mean: jax.Array
  variance: jax.Array
  excess: jax.Array
  strength: jax.Array

  @property
  def freedom(self) -> jax.Array:
    """n0, the degrees of freedom."""
    return self.excess + (len(self.mean) - 1)


class Normal(NamedTuple):
  """Independent normal distributions of the weights of a task: mean [d] and variance [d]."""

  mean: jax.Array
  variance: jax.Array


class Quadratic(NamedTuple):
  """The function 1/2 theta^T A theta - b^T theta + constant, for -log p(data | theta).

  Attributes:
    precision: the diagonal of A [d], not negative.
    linear: b [d]. Where A is positive, the minimum is at b / A.
  """

  precision: jax.Array
  linear: jax.Array


def mode(prior: NormalInverseWishart) -> Normal:
  """Returns N(mu, Sigma) of the most likely (mu, Sigma): mu = m0, Sigma = V0 / (n0 + d + 2).

  >>> one = NormalInverseWishart(jnp.zeros(1), jnp.ones(1), jnp.array(3.0), jnp.inf)
  >>> float(mode(one).variance[0])  # of n0 = 3, d = 1
  0.5
  """
  n0, d = prior.freedom, len(prior.mean)
  return Normal(prior.mean, prior.variance * n0 / (n0 + d + 2))


def local_posterior(prior: NormalInverseWishart, quadratic: Quadratic) -> Normal:
  """Returns the q(theta) that minimises the ELBO of a task: V = (A + n0 V0^-1)^-1, m = V (...).

  The mean is m = V (b + n0 V0^-1 m0). This is the posterior of a task with the prior
  N(m0, variance) and a Gaussian likelihood. In this form the variance may be 0.

  >>> prior = NormalInverseWishart(jnp.zeros(1), jnp.ones(1), jnp.array(3.0), jnp.inf)
  >>> posterior = local_posterior(prior, Quadratic(jnp.ones(1), jnp.ones(1)))
  >>> float(posterior.mean[0]), float(posterior.variance[0])  # half the way to 1
  (0.5, 0.5)
  """
  variance = prior.variance / (1 + quadratic.precision * prior.variance)
  pull = quadratic.linear - quadratic.precision * prior.mean
  return Normal(prior.mean + variance * pull, variance)


def local_divergence(posterior: Normal, prior: NormalInverseWishart) -> jax.Array:
  """Returns E[KL(posterior || N(mu, Sigma))] over (mu, Sigma) of the prior, in nats [].

  >>> sure = NormalInverseWishart(jnp.zeros(1), jnp.ones(1), jnp.array(1e6), jnp.inf)
  >>> f'{local_divergence(Normal(jnp.ones(1), jnp.ones(1)), sure):.3f}'  # of two normal densities
  '0.500'
  """
  relative = posterior.variance / prior.variance
  away = jnp.square(posterior.mean - prior.mean) / prior.variance
  each = relative - jnp.log(relative) + away - 1 + 1 / prior.strength
  return 0.5 * (each.sum() + _spread(prior))


def divergence(posterior: NormalInverseWishart, prior: NormalInverseWishart) -> jax.Array:
  """Returns KL(posterior || prior) of two such distributions of as many weights, in nats [].

  >>> one = NormalInverseWishart(jnp.zeros(2), jnp.ones(2), jnp.array(3.0), jnp.array(1.0))
  >>> float(divergence(one, one))
  0.0
  """
  n0, nu0, ratio = posterior.freedom, prior.freedom, prior.strength / posterior.strength
  away = prior.strength * jnp.square(posterior.mean - prior.mean) / posterior.variance
  of_mean = 0.5 * (away + ratio - 1 - jnp.log(ratio)).sum()
  scale = (nu0 * prior.variance) / (n0 * posterior.variance)  # V0 of the prior over V0
  traces = 0.5 * (n0 * (scale - 1) - nu0 * jnp.log(scale)).sum()
  return of_mean + traces + _of_freedom(posterior.excess, prior.excess, len(prior.mean))


def _halves(excess: jax.Array, d: int) -> jax.Array:
  """Returns (n0 + 1 - j) / 2 for j = 1 .. d, the arguments of a multivariate gamma function."""
  return 0.5 * (excess + jnp.arange(d, dtype=excess.dtype))


def _spread(prior: NormalInverseWishart) -> jax.Array:
  """Returns E[log |Sigma|] - log |diag(variance)|, a sum of positive numbers that falls with n0."""
  halves = _halves(prior.excess, len(prior.mean))
  return (jnp.log(0.5 * prior.freedom) - digamma(halves)).sum()


def _of_freedom(n0: jax.Array, nu0: jax.Array, d: int) -> jax.Array:
  """Returns what KL of two Wishart distributions of one scale is, by their excesses."""
  ours, theirs = _halves(n0, d), _halves(nu0, d)
  return (0.5 * (n0 - nu0) * digamma(ours) + gammaln(theirs) - gammaln(ours)).sum()
