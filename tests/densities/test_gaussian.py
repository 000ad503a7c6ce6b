"""The closed forms of the normal distribution against SciPy and numerical integrals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from metakit.densities import gaussian, objective_of
from metakit.types import Examples

NORMAL = gaussian()
PARAMETERS = np.array([[0.3, -1.0], [-2.0, 0.5], [1.0, 3.0]])
Y = np.array([0.0, -1.0, 6.0])


@pytest.fixture(scope='module')
def computed():
  """Every function in float64, in one program."""
  with jax.enable_x64(True):

    def all_of(parameters, y):
      functions = NORMAL._asdict()
      both = ('log_density', 'cdf', 'crps', 'expected_improvement')
      return {
        **{name: functions[name](parameters, y) for name in both},
        'mean': NORMAL.mean(parameters),
        'variance': NORMAL.variance(parameters),
        'quantile': NORMAL.quantile(parameters, jnp.array([0.05, 0.5, 0.9])),
        'divergence': NORMAL.divergence(parameters, parameters[::-1]),
        'pool': NORMAL.pool(parameters),
      }

    return jax.tree.map(np.asarray, jax.jit(all_of)(jnp.asarray(PARAMETERS), jnp.asarray(Y)))


def distributions():
  return [stats.norm(m, 1e-3 + np.log1p(np.exp(raw))) for m, raw in PARAMETERS]


def test_functions_are_those_of_scipy(computed):
  d = distributions()
  for name, values in {
    'log_density': [each.logpdf(y) for each, y in zip(d, Y, strict=True)],
    'cdf': [each.cdf(y) for each, y in zip(d, Y, strict=True)],
    'mean': [each.mean() for each in d],
    'variance': [each.var() for each in d],
    'quantile': [each.ppf(level) for each, level in zip(d, (0.05, 0.5, 0.9), strict=True)],
  }.items():
    np.testing.assert_allclose(computed[name], values, rtol=1e-6, err_msg=name)


def test_what_several_say_together_has_the_moments_of_their_mixture(computed):
  means, variances = computed['mean'], computed['variance']
  raw = computed['pool'][1]
  assert computed['pool'][0] == pytest.approx(means.mean(), rel=1e-12)
  deviation = 1e-3 + np.log1p(np.exp(raw))
  assert deviation**2 == pytest.approx((variances + means**2).mean() - means.mean() ** 2, rel=1e-9)


def test_a_density_is_pooled_number_by_number():
  outputs = np.repeat([[[0.0, 0.5, 7.0, -0.5]]], 2, axis=0)  # two networks of one mind
  with jax.enable_x64(True):
    np.testing.assert_allclose(objective_of(NORMAL).pool(jnp.asarray(outputs)), outputs[0])


def test_scores_are_their_integrals(computed):
  for i, (each, y) in enumerate(zip(distributions(), Y, strict=True)):
    low, high = each.mean() - 12 * each.std(), each.mean() + 12 * each.std()
    area = lambda f, a, b: integrate.quad(f, a, b, limit=200)[0]
    crps = area(lambda t, d=each: d.cdf(t) ** 2, low, y)
    crps += area(lambda t, d=each: d.sf(t) ** 2, y, high)
    np.testing.assert_allclose(computed['crps'][i], crps, rtol=1e-6)
    improvement = area(lambda t, d=each, b=y: (t - b) * d.pdf(t), y, max(high, y))
    np.testing.assert_allclose(computed['expected_improvement'][i], improvement, atol=1e-7)
    other = distributions()[::-1][i]
    relative = area(
      lambda t, d=each, o=other: o.pdf(t) * (o.logpdf(t) - d.logpdf(t)),
      other.mean() - 12 * other.std(),
      other.mean() + 12 * other.std(),
    )
    np.testing.assert_allclose(computed['divergence'][i], relative, rtol=1e-6, atol=1e-9)


def test_a_target_of_two_numbers_has_two_densities():
  objective = objective_of(NORMAL)
  outputs, y = PARAMETERS.reshape(1, 6)[:, :4], np.array([[0.0, -1.0]])
  loss, _ = objective(jnp.asarray(outputs, jnp.float32), Examples(None, jnp.asarray(y)))
  wanted = -np.mean([each.logpdf(v) for each, v in zip(distributions()[:2], y[0], strict=True)])
  np.testing.assert_allclose(loss, wanted, rtol=1e-5)
  np.testing.assert_allclose(objective.point(outputs)[0], [0.3, -2.0])


def test_a_deviation_has_a_floor():
  with pytest.raises(ValueError, match='least=0 must be positive'):
    gaussian(least=0)
  assert np.isfinite(NORMAL.log_density(jnp.array([0.0, -1e9]), 0.0))
