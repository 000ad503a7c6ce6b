"""The smallest maximum norm: against a grid, against the truth, and where nothing fits."""

import jax
import numpy as np
import pytest

from metakit.episodes import functions as f
from metakit.learners.minimum_linf import minimum_linf, solve
from metakit.types import Examples

KEY, LEARNER = jax.random.key(0), minimum_linf()


def fit(support):
  return np.asarray(jax.jit(LEARNER.adapt)(KEY, {}, support))


def test_it_fits_with_the_smallest_maximum():
  """One equation a w = y has the solution y / sum |a| sign(a)."""
  a, y = np.array([[1.0, -2.0, 0.5]], np.float32), np.array([[7.0]], np.float32)
  np.testing.assert_allclose(fit(Examples(a, y)), [2.0, -2.0, 2.0], rtol=1e-5)


def test_it_finds_most_sign_vectors_from_two_thirds_of_the_examples():
  sampler = f.functions(f.sign_vectors(20), 14)
  episodes = jax.vmap(sampler)(jax.random.split(KEY, 30))
  found = np.asarray(jax.vmap(lambda s: LEARNER.adapt(KEY, {}, s))(episodes.support))
  exact = np.abs(found - episodes.info['function']).max(1) < 1e-3
  assert exact.mean() > 0.8
  few = jax.vmap(lambda s: LEARNER.adapt(KEY, {}, jax.tree.map(lambda a: a[:5], s)))
  exact = np.abs(np.asarray(few(episodes.support)) - episodes.info['function']).max(1) < 1e-3
  assert exact.mean() < 0.2


@pytest.mark.slow
@pytest.mark.parametrize(
  ('examples', 'published'), [(0, 20.59), (5, 14.81), (10, 6.396), (15, 0.151)]
)
def test_its_errors_on_sign_vectors_are_the_published_ones(examples, published):
  """Panwar et al. 2024, the curve of the released notebook: 1,280 prompts of 20 inputs."""
  prompts, theirs = 1000, 1280
  sampler = f.functions(f.sign_vectors(20), 15)
  episodes = jax.tree.map(np.asarray, jax.vmap(sampler)(jax.random.split(KEY, prompts)))
  there = np.arange(15) < examples
  weights = [solve(x, y[:, 0], there) for x, y in zip(*episodes.support[:2], strict=True)]
  predicted = np.einsum('nqi,ni->nq', episodes.query.x, np.array(weights))
  errors = np.square(predicted - episodes.query.y[..., 0])[:, 0]
  assert abs(errors.mean() - published) < 4 * errors.std() * (1 / prompts + 1 / theirs) ** 0.5


def test_without_an_exact_fit_it_is_least_squares():
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(8, 3)).astype('f'), rng.normal(size=(8, 1)).astype('f')
  weight = np.array([1, 1, 1, 1, 1, 1, 0, 0], np.float32)
  expected = np.linalg.lstsq(x[:6], y[:6, 0], rcond=None)[0]
  np.testing.assert_allclose(fit(Examples(x, y, weight)), expected, atol=1e-5)
  learned = LEARNER.predict(fit(Examples(x, y, weight)), x)
  np.testing.assert_allclose(learned[:, 0], x @ expected, atol=1e-5)


def test_without_examples_it_is_0():
  x, y = np.ones((2, 3), np.float32), np.ones((2, 1), np.float32)
  np.testing.assert_allclose(fit(Examples(x, y, np.zeros(2, np.float32))), 0, atol=1e-9)
