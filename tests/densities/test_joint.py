"""The joint density against SciPy's, and mixtures at their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from metakit.densities import gaussian, joint, mixture, mixture_parameters, objective_of
from metakit.densities.joint import joint_log_density
from metakit.types import Examples

OUTPUTS = np.random.default_rng(0).normal(size=(5, 5))
Y = np.random.default_rng(1).normal(size=(5, 1))


def judged(objective, outputs, y, weight=None):
  with jax.enable_x64(True):
    wide = lambda leaf: None if leaf is None else jnp.asarray(leaf, jnp.float64)
    run = jax.jit(lambda *arrays: objective(arrays[0], Examples(None, *arrays[1:]))[0])
    return float(run(wide(outputs), wide(y), wide(weight)))


def expected(outputs, y):
  deviation = 1e-3 + np.log1p(np.exp(outputs[:, 1]))
  covariance = outputs[:, 2:] @ outputs[:, 2:].T + np.diag(deviation**2)
  return -stats.multivariate_normal(outputs[:, 0], covariance).logpdf(y[:, 0]) / len(y)


def test_a_joint_density_is_that_of_scipy():
  assert judged(joint(3), OUTPUTS, Y) == pytest.approx(expected(OUTPUTS, Y), rel=1e-10)


def test_targets_that_are_absent_are_left_out():
  weight = np.array([1.0, 0, 1, 1, 0])
  y = np.where(weight[:, None] > 0, Y, np.nan)
  there = weight > 0
  wanted = expected(OUTPUTS[there], Y[there])
  assert judged(joint(3), OUTPUTS, y, weight) == pytest.approx(wanted, rel=1e-10)
  found = jax.jit(joint_log_density)(OUTPUTS.astype(np.float32), y[:, 0], there)
  assert float(found) == pytest.approx(-3 * wanted, rel=1e-4)  # without the objective


def test_without_features_it_is_the_gaussian():
  alone = np.concatenate([OUTPUTS[:, :2], np.zeros((5, 1))], axis=1)
  assert judged(joint(1), alone, Y) == pytest.approx(
    judged(objective_of(gaussian()), OUTPUTS[:, :2], Y), rel=1e-10
  )


def test_its_marginal_has_the_diagonal_of_the_covariance():
  family = joint(3).density
  variance = (1e-3 + np.log1p(np.exp(OUTPUTS[:, 1]))) ** 2 + np.square(OUTPUTS[:, 2:]).sum(1)
  np.testing.assert_allclose(family.variance(OUTPUTS), variance, rtol=1e-5)


def test_a_mixture_of_one_is_the_gaussian_and_parameters_come_back():
  one = mixture_parameters(jnp.zeros(1), jnp.array([0.3]), jnp.array([2.0]))
  assert float(mixture(1).variance(one)) == pytest.approx(4.0, rel=1e-5)
  small = mixture_parameters(jnp.zeros(1), jnp.zeros(1), jnp.array([1e-3]), least=1e-6)
  assert float(mixture(1, least=1e-6).variance(small)) == pytest.approx(1e-6, rel=1e-3)
  assert judged(objective_of(mixture(1)), np.pad(OUTPUTS[:, :2], [(0, 0), (1, 0)]), Y) == (
    pytest.approx(judged(objective_of(gaussian()), OUTPUTS[:, :2], Y), rel=1e-10)
  )


@pytest.mark.parametrize(
  ('make', 'said'),
  [
    (lambda: joint(0), 'features=0 are too few'),
    (lambda: joint(least=0), 'least=0 must be positive'),
    (lambda: mixture(0), 'components=0 are too few'),
  ],
)
def test_sizes_without_sense_are_refused(make, said):
  with pytest.raises(ValueError, match=said):
    make()
