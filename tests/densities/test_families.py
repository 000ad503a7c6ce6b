"""Laws of every family: its closed forms are the integrals that they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.densities import bar, gaussian, joint, mixture, quantiles

RANDOM = np.random.default_rng(0)
BORDERS = np.cumsum([-3.0, 0.5, 0.1, 1.0, 2.0, 0.4])
LEVELS = (0.05, 0.3, 0.5, 0.9)
# name: (density, parameters of three distributions).
FAMILIES = {
  'gaussian': (gaussian(), np.array([[0.3, -1.0], [-2.0, 0.5], [1.0, 1.0]])),
  'bar': (bar(BORDERS), RANDOM.normal(size=(3, 5))),
  'bar of two': (bar([-1.0, 0.5, 1.0]), np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])),
  'quantile': (quantiles(LEVELS), RANDOM.normal(size=(3, 4))),
  'mixture': (mixture(3), RANDOM.normal(size=(3, 9))),
  'joint': (joint(2).density, RANDOM.normal(size=(3, 4))),
}
Y = np.array([0.0, -1.2, 1.7])
ASKED = np.array([0.03, 0.4, 0.97])
NODES = np.unique(np.concatenate([np.linspace(-25, 25, 8001), BORDERS, [-1.0, 0.5, 1.0]]))
MIDDLES, WIDTHS = (NODES[1:] + NODES[:-1]) / 2, np.diff(NODES)


@pytest.fixture(scope='module', params=FAMILIES)
def family(request):
  """(name, all functions of three distributions in float64, by one program)."""
  density, parameters = FAMILIES[request.param]

  def all_of(parameters, y, levels, middles, nodes):
    wide = parameters[:, None]
    found = {
      'log_density': density.log_density(wide, middles),
      'cdf': density.cdf(wide, nodes),
      'mean': density.mean(parameters),
      'variance': density.variance(parameters),
      'quantile': density.quantile(wide, levels),
      'crps': density.crps(parameters, y),
      'expected_improvement': density.expected_improvement(parameters, y),
      'divergence': density.divergence(parameters, parameters[::-1]),
      'outside': density.quantile(parameters, jnp.array([-0.1, 1.1, jnp.nan])),
    }
    return found | {'back': density.cdf(wide, found['quantile'])}

  with jax.enable_x64(True):
    arrays = (jnp.asarray(each, jnp.float64) for each in (parameters, Y, ASKED, MIDDLES, NODES))
    found = jax.tree.map(np.asarray, jax.jit(all_of)(*arrays))
  return request.param, found


def mass(found):
  """The probability of each cell, [3, cells]. The quantiles' edges are no nodes, but close."""
  return np.exp(found['log_density']) * WIDTHS


def close(name, ours, theirs):
  """Cells that hold an edge of a quantile are off by their width, 0.006, at most."""
  np.testing.assert_allclose(ours, theirs, atol=4e-3 if name == 'quantile' else 2e-5)


def test_a_cdf_is_the_integral_of_its_density(family):
  name, found = family
  integral = np.pad(np.cumsum(mass(found), axis=1), [(0, 0), (1, 0)])
  close(name, found['cdf'], integral)
  close(name, mass(found).sum(1), np.ones(3))


def test_moments_are_integrals(family):
  name, found = family
  close(name, found['mean'], (mass(found) * MIDDLES).sum(1))
  around = np.square(MIDDLES - found['mean'][:, None]) + WIDTHS**2 / 12
  close(name, found['variance'], (mass(found) * around).sum(1))


def test_a_quantile_inverts_the_cdf(family):
  _, found = family
  np.testing.assert_allclose(found['back'], np.broadcast_to(ASKED, (3, 3)), atol=1e-9)
  assert np.isnan(found['outside']).all()


def test_expected_improvement_is_its_integral(family):
  name, found = family
  over = np.maximum(MIDDLES - Y[:, None], 0)
  close(name, found['expected_improvement'], (mass(found) * over).sum(1))


def test_crps_is_the_distance_of_cdfs(family):
  """Gneiting and Raftery 2007, eq. 20, with the cdf in the middle of each cell."""
  name, found = family
  middle = (found['cdf'][:, 1:] + found['cdf'][:, :-1]) / 2
  close(name, found['crps'], (np.square(middle - (Y[:, None] <= MIDDLES)) * WIDTHS).sum(1))


def test_a_divergence_is_the_excess_of_the_expected_loss(family):
  name, found = family
  true, log_p = mass(found)[::-1], found['log_density']
  if name == 'quantile':
    edges = np.sort(FAMILIES[name][1], axis=1)
    expected = np.stack([pinball(edges[i], true[i]) for i in range(3)])
    best = np.stack([pinball(edges[::-1][i], true[i]) for i in range(3)])
    close(name, found['divergence'], expected - best)
  else:
    excess = np.where(true > 1e-12, log_p[::-1] - log_p, 0)
    np.testing.assert_allclose(found['divergence'], (true * excess).sum(1), atol=2e-3)


def pinball(quantiles_of, weights):
  """Twice the mean over levels of the expected loss under the weights of MIDDLES."""
  error = MIDDLES[:, None] - quantiles_of
  losses = np.maximum(np.array(LEVELS) * error, (np.array(LEVELS) - 1) * error)
  return 2 * (weights @ losses).mean()
