"""The dual of the support vector machine, by its optimality conditions and finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.heads.crammer_singer import _inside, _problem, _split, crammer_singer
from tests.heads.made import blobs, in_float64

# Classes far apart, then many examples that overlap: no bound is met by the former, half by these.
APART, OVERLAPPING = blobs(shots=3, features=12, spread=0.3), blobs(shots=9, features=3, spread=3.0)
BOTH = pytest.mark.parametrize('episode', [APART, OVERLAPPING], ids=['apart', 'overlapping'])


def problem_of(episode, strength=5.0):
  """gram, labels and caps; the second example is absent."""
  x, y = episode.support.x, episode.support.y
  labels = np.eye(3)[y] * (np.arange(len(y)) != 1)[:, None]
  return x @ x.T + 1e-3 * np.eye(len(x)), labels, strength * labels


@functools.cache
def solvers():
  """{solver: (gram, labels, caps) -> (alpha, whether it has converged)}."""

  def split(*given):
    alpha, converged = _split(_problem(*given))
    return alpha.T, converged

  def inside(*given):
    problem = _problem(*given)
    return _inside(problem, jnp.zeros_like(problem.labels), jnp.bool_(False)).T, True

  return {'split': jax.jit(split), 'inside': jax.jit(inside)}


def lacking(gram, labels, caps, alpha):
  """How far a solution is from optimality: a duality gap, as a share, and what breaks a bound."""
  descent = labels - gram @ alpha
  gap = ((caps - alpha) * (descent - descent.min(1, keepdims=True))).sum() / (labels * alpha).sum()
  return gap, (alpha - caps).max(), np.abs(alpha.sum(1)).max()


@BOTH
@in_float64
def test_each_solver_comes_to_the_optimum(episode):
  given = problem_of(episode)
  for name, solve in solvers().items():
    alpha, converged = map(np.asarray, solve(*given))
    if converged:
      assert max(lacking(*given, alpha)) < 1e-9, name
      assert not alpha[1].any(), name  # the absent example
  assert solvers()['split'](*given)[1] == (episode is APART)


@BOTH
def test_what_is_returned_is_optimal_in_float32(episode):
  given = problem_of(episode)
  alpha = np.asarray(jax.jit(crammer_singer)(*map(np.float32, given)), np.float64)
  assert max(lacking(*given, alpha)) < 1e-3


@in_float64
def test_slopes_of_kernel_labels_and_caps_are_finite_differences():
  """Where some variables are at their bounds."""
  given, rng = problem_of(OVERLAPPING), np.random.default_rng(0)
  aim, away = rng.normal(size=given[1].shape), rng.normal(size=given[0].shape)
  ways = (
    (away + away.T) / 2 * 1e-2,
    given[1] * rng.normal(size=aim.shape),
    given[1] * rng.random(aim.shape),
  )
  run = jax.jit(jax.value_and_grad(lambda *given: (aim * crammer_singer(*given)).sum(), (0, 1, 2)))
  slopes, step = run(*given)[1], 1e-6

  def changes(part, size):
    return run(*(v + size * ways[i] * (i == part) for i, v in enumerate(given)))[0]

  found = [(changes(part, step) - changes(part, -step)) / (2 * step) for part in range(3)]
  exact = [(slope * way).sum() for slope, way in zip(slopes, ways, strict=True)]
  np.testing.assert_allclose(exact, found, rtol=1e-4, atol=1e-6)
