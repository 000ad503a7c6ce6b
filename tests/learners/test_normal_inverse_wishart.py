"""The normal-inverse-Wishart model against SciPy's densities, draws, and stationary points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from metakit.learners.normal_inverse_wishart import (
  Normal,
  NormalInverseWishart,
  Quadratic,
  divergence,
  local_divergence,
  local_posterior,
  mode,
)

D, DRAWS = 2, 40_000


def distribution(mean, variance, excess, strength):
  return NormalInverseWishart(*map(np.asarray, (mean, variance, excess, strength)))


ONE = distribution([0.3, -1.0], [0.5, 2.0], 6.0, 3.0)
OTHER = distribution([-0.2, 0.1], [1.5, 1.0], 4.5, 0.7)
TASK = Normal(np.array([0.9, -0.4]), np.array([0.2, 0.6]))
QUADRATIC = Quadratic(np.array([3.0, 0.0]), np.array([1.0, -0.5]))


def scale(known):
  """V0."""
  return (known.excess + D - 1) * np.diag(known.variance)


def log_density(known, mu, sigma):
  """Of many (mu [n, d], sigma [n, d, d]), by SciPy and by the formula of a normal density."""
  wishart = stats.invwishart(known.excess + D - 1, scale(known))
  away = mu - known.mean
  square = np.einsum('ni,nij,nj->n', away, np.linalg.inv(sigma), away) * known.strength
  spread = np.linalg.slogdet(2 * np.pi * sigma / known.strength)[1]
  return wishart.logpdf(np.moveaxis(sigma, 0, -1)) - 0.5 * (square + spread)


@pytest.fixture(scope='module')
def draws():
  rng = np.random.default_rng(0)
  sigma = stats.invwishart(ONE.excess + D - 1, scale(ONE)).rvs(DRAWS, rng)
  factor = np.linalg.cholesky(sigma / ONE.strength)
  return ONE.mean + np.einsum('nij,nj->ni', factor, rng.normal(size=(DRAWS, D))), sigma


@pytest.fixture(scope='module')
def computed():
  """Everything in float64, in one program."""

  def elbo(task):
    squares = 0.5 * QUADRATIC.precision * (task.mean**2 + task.variance)
    return (squares - QUADRATIC.linear * task.mean).sum() + local_divergence(task, ONE)

  def joint(mu, sigma):
    """The logarithm of the density of ONE but for a constant."""
    inverse, n0 = jnp.linalg.inv(sigma), ONE.freedom
    away = ONE.strength * (mu - ONE.mean) @ inverse @ (mu - ONE.mean)
    trace, spread = jnp.trace(scale(ONE) @ inverse), jnp.linalg.slogdet(sigma)[1]
    return -0.5 * ((n0 + D + 2) * spread + trace + away)

  def all_of(task):
    posterior, best = local_posterior(ONE, QUADRATIC), mode(ONE)
    sure = ONE._replace(variance=jnp.zeros(D))
    return {
      'local': local_divergence(task, ONE),
      'divergence': divergence(ONE, OTHER),
      'same': divergence(ONE, ONE),
      'slope of the elbo': jax.grad(elbo)(posterior),
      'slope of the density': jax.grad(joint, (0, 1))(best.mean, jnp.diag(best.variance)),
      'posterior': posterior,
      'of a sure prior': local_posterior(sure, QUADRATIC),
    }

  with jax.enable_x64(True):
    return jax.tree.map(np.asarray, jax.jit(all_of)(TASK))


def assert_is_the_mean_of(value, draws):
  assert abs(value - draws.mean()) < 4 * draws.std() / len(draws) ** 0.5
  assert draws.std() / len(draws) ** 0.5 < 0.02 * abs(value)  # it could tell


def test_the_divergence_of_a_task_is_its_mean_over_draws(draws, computed):
  mu, sigma = draws
  inverse, away = np.linalg.inv(sigma), mu - TASK.mean
  traces = np.einsum('nii,i->n', inverse, TASK.variance)
  squares = np.einsum('ni,nij,nj->n', away, inverse, away)
  spread = np.linalg.slogdet(sigma)[1] - np.log(TASK.variance).sum()
  assert_is_the_mean_of(computed['local'], 0.5 * (traces + squares - D + spread))


def test_the_divergence_of_two_is_its_mean_over_draws(draws, computed):
  assert_is_the_mean_of(
    computed['divergence'], log_density(ONE, *draws) - log_density(OTHER, *draws)
  )
  assert abs(computed['same']) < 1e-12


def test_no_other_posterior_has_a_lower_bound(computed):
  for slope in jax.tree.leaves(computed['slope of the elbo']):
    np.testing.assert_allclose(slope, 0, atol=1e-12)


def test_the_mode_is_where_the_density_is_flat(computed):
  for slope in computed['slope of the density']:
    np.testing.assert_allclose(slope, 0, atol=1e-12)


def test_the_posterior_is_that_of_a_normal_prior_and_likelihood(computed):
  precision = QUADRATIC.precision + 1 / ONE.variance
  np.testing.assert_allclose(computed['posterior'].variance, 1 / precision, rtol=1e-12)
  mean = (QUADRATIC.linear + ONE.mean / ONE.variance) / precision
  np.testing.assert_allclose(computed['posterior'].mean, mean, rtol=1e-12)
  np.testing.assert_array_equal(computed['of a sure prior'].mean, ONE.mean)
  np.testing.assert_array_equal(computed['of a sure prior'].variance, 0)
