"""Exact posterior densities against direct linear algebra and enumeration, in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from metakit.densities import objective_of
from metakit.episodes import functions as f
from metakit.episodes.function_combinators import mix_classes
from metakit.learners.bayes import bayes
from metakit.learners.bayes_density import bayes_density, posterior_density
from metakit.types import Examples

KEY = jax.random.key(0, impl='threefry2x32')
NOISE = 0.5
MIXED = mix_classes([f.dense(3), f.sign_vectors(3)], [1, 3])
CLASSES = {
  'one Gaussian': f.dense(3),
  'two Gaussians': f.gaussian_mixture(3, distance=1.0),
  'functions': f.sign_vectors(3),
  'a process': f.gaussian_process(),
  'classes': MIXED,
}


@pytest.fixture(scope='module', params=CLASSES)
def asked(request):
  """(name, support, query, what the learner says in float64), some examples absent."""
  function_class = CLASSES[request.param]
  episode = jax.jit(f.functions(function_class, 6, 3, noise=NOISE))(KEY)
  support, query = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), episode[:2])
  learner, density = bayes_density(function_class, NOISE), posterior_density(function_class)
  mean = bayes(function_class, NOISE)

  def ask(support, query):
    absent = jnp.array([1.0, 1, 0, 1, 1, 1])
    shown = support._replace(weight=absent)
    outputs = learner.predict(learner.adapt(KEY, {}, shown), query.x)
    one_by_one = learner.prefixes(KEY, {}, support)
    return {
      'log_density': density.log_density(outputs, query.y[:, 0]),
      'variance': density.variance(outputs),
      'mean': density.mean(outputs),
      'mean by bayes': mean.predict(mean.adapt(KEY, {}, shown), query.x)[:, 0],
      'steps': density.log_density(one_by_one, support.y[:, 0]),
      'loss': objective_of(density)(outputs, query)[0],
    }

  with jax.enable_x64(True):
    found = jax.tree.map(np.asarray, jax.jit(ask)(support, query))
  return request.param, support, query, found


def components(name, x):
  """The prior as (log weight, mean, covariance) of the values at x, each a normal distribution."""
  if name == 'a process':
    return [(0.0, np.zeros(len(x)), np.exp(-np.square(x - x.T) / 2))]
  signs = [np.array(s) for s in itertools.product([-1.0, 1.0], repeat=3)]
  listed = [(-3 * np.log(2), x @ w, np.zeros((len(x), len(x)))) for w in signs]
  dense = [(0.0, np.zeros(len(x)), x @ x.T)]
  if name == 'one Gaussian':
    return dense
  if name == 'functions':
    return listed
  if name == 'two Gaussians':
    spread = np.array([1e-8, 1, 1])
    ends = (np.array([end, 0, 0]) for end in (1.0, -1.0))
    return [(-np.log(2), x @ mean, (x * spread) @ x.T) for mean in ends]
  shares = np.log([0.25, 0.75])
  both = zip(shares, (dense, listed), strict=True)
  return [(share + weight, *rest) for share, part in both for weight, *rest in part]


def evidence(name, x, y):
  """log p(y), by SciPy."""
  noisy = lambda covariance: covariance + NOISE**2 * np.eye(len(y))
  return np.logaddexp.reduce(
    [
      weight + stats.multivariate_normal(mean, noisy(covariance)).logpdf(y)
      for weight, mean, covariance in components(name, x)
    ]
  )


def test_a_density_is_the_ratio_of_two_evidences(asked):
  """p(y | examples) = p(examples, y) / p(examples), with the absent example left out."""
  name, support, query, found = asked
  there = np.array([0, 1, 3, 4, 5])
  x, y = support.x[there], support.y[there, 0]
  expected = [
    evidence(name, np.append(x, query.x[i : i + 1], axis=0), np.append(y, query.y[i]))
    - evidence(name, x, y)
    for i in range(3)
  ]
  np.testing.assert_allclose(found['log_density'], expected, atol=1e-6)
  np.testing.assert_allclose(found['loss'], -np.mean(expected), atol=1e-6)


def test_one_step_densities_multiply_to_the_evidence(asked):
  name, support, _, found = asked
  expected = [evidence(name, support.x[:k], support.y[:k, 0]) for k in range(1, 7)]
  np.testing.assert_allclose(np.cumsum(found['steps']), expected, atol=1e-6)


def test_the_mean_is_that_of_the_bayes_predictor(asked):
  _, _, _, found = asked
  np.testing.assert_allclose(found['mean'], found['mean by bayes'], atol=1e-6)


def test_the_variance_of_one_gaussian_is_in_closed_form(asked):
  name, support, query, found = asked
  if name != 'one Gaussian':
    return
  x = support.x[[0, 1, 3, 4, 5]]
  covariance = np.linalg.inv(np.eye(3) + x.T @ x / NOISE**2)
  expected = NOISE**2 + np.einsum('qi,ij,qj->q', query.x, covariance, query.x)
  np.testing.assert_allclose(found['variance'], expected, rtol=1e-6)


@pytest.mark.parametrize(
  ('make', 'said'),
  [
    (lambda: bayes_density(f.dense(3), 0.0), 'noise=0.0: the density of a target without noise'),
    (lambda: bayes_density(f.decision_trees(3), 0.1), 'no exact posterior is known for the class'),
    (lambda: bayes_density(f.sign_vectors(13), 0.1), 'has 8,192 components, more than 4,096'),
  ],
)
def test_what_has_no_density_is_refused(make, said):
  with pytest.raises(ValueError, match=said):
    make()


def test_targets_of_two_numbers_are_refused():
  learner = bayes_density(f.dense(3), 0.1)
  with pytest.raises(ValueError, match='the references predict one output'):
    learner.adapt(KEY, {}, Examples(np.zeros((4, 3)), np.zeros((4, 2))))
