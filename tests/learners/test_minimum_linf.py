"""The smallest maximum norm: against a grid, against the truth, and where nothing fits."""

import jax
import numpy as np

from metakit.episodes import functions as f
from metakit.learners.minimum_linf import minimum_linf
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
