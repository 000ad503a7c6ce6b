"""Transfer from each to each, against loops, and its prediction without the new target."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from metakit.transfer import (
  Ranking,
  energy_distances,
  judge_ranking,
  predict_transfer,
  through_pivots,
  transfer_matrix,
)

RNG = np.random.default_rng(0)
TRANSFER, LIKENESS = RNG.random((6, 6)), RNG.random((6, 6))


@pytest.mark.parametrize('at_once', [None, 1, 2])
def test_the_matrix_is_that_of_loops(at_once):
  """Ridge regressions of four tasks, scored on five."""
  x, y = RNG.normal(size=(5, 20, 3)), RNG.normal(size=(5, 20))
  train = lambda task: jnp.linalg.solve(task[0].T @ task[0] + jnp.eye(3), task[0].T @ task[1])
  score = lambda w, task: -jnp.mean((task[0] @ w - task[1]) ** 2)
  sources, targets = (x[:4], y[:4]), (x, y)
  measure = jax.jit(
    lambda one, other: transfer_matrix(train, score, one, targets=other, at_once=at_once)
  )
  for s, row in enumerate(np.asarray(measure(sources, targets))):
    w = np.linalg.solve(x[s].T @ x[s] + np.eye(3), x[s].T @ y[s])
    expected = [-np.mean((x[t] @ w - y[t]) ** 2) for t in range(5)]
    np.testing.assert_allclose(row, expected, rtol=1e-4)


def test_pivots_are_the_sum_of_the_paper():
  guess = RNG.random(6)
  for s, found in enumerate(through_pivots(TRANSFER, guess)):
    halves = [(TRANSFER[s, p] + guess[p]) / 2 for p in range(6) if p != s]
    assert found == pytest.approx(0.7 * np.mean(halves) + 0.3 * guess[s])


def test_a_prediction_never_sees_the_new_target():
  """Its row and its column may hold anything; only the likeness to it counts."""
  hidden = TRANSFER.copy()
  hidden[2], hidden[:, 2] = 1e6, -1e6
  one, other = predict_transfer(TRANSFER, LIKENESS), predict_transfer(hidden, LIKENESS)
  np.testing.assert_array_equal(one[:, 2], other[:, 2])
  assert np.isnan(one.diagonal()).all() and np.abs(one - other)[:, 3][:2].min() > 1


def test_the_first_guess_is_a_line_in_likeness():
  scaled = predict_transfer(TRANSFER, 100 - 7 * LIKENESS, weight=0)
  np.testing.assert_allclose(scaled, predict_transfer(TRANSFER, LIKENESS, weight=0))
  rest = np.delete(np.arange(6), 1)
  pairs = [(s, t) for s in rest for t in rest if s != t]
  line = stats.linregress(*([m[pair] for pair in pairs] for m in (LIKENESS, TRANSFER)))
  expected = line.intercept + line.slope * LIKENESS[rest, 1]
  np.testing.assert_allclose(predict_transfer(TRANSFER, LIKENESS, weight=0)[rest, 1], expected)


def test_without_likeness_sources_are_ranked_by_what_they_do_elsewhere():
  found = predict_transfer(TRANSFER, np.zeros((6, 6)))[:, 0]
  elsewhere = [np.mean([TRANSFER[s, p] for p in range(1, 6) if p != s]) for s in range(1, 6)]
  assert found[1:].argsort().tolist() == np.argsort(elsewhere).tolist()


def test_rankings_are_judged_as_in_the_paper():
  measured, predicted = np.array([5.0, 4.0, 3.0, 2.0]), np.array([1.0, 3.0, 2.0, 0.0])
  found = judge_ranking(predicted, measured, k=2)  # chosen: the second and the third
  expected = stats.spearmanr(predicted, measured).statistic
  assert found == pytest.approx(Ranking(expected, 1 / 2, (4.5 - 3.5) / 4.5))


def test_energy_distances_are_those_of_scipy():
  """SciPy has the root of half of it, in one dimension."""
  one, other = RNG.normal(size=30), RNG.normal(1, 2, size=30)
  found = energy_distances(np.stack([one, other])[..., None])
  assert found[0, 1] ** 0.5 == pytest.approx(stats.energy_distance(one, other))


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: through_pivots(TRANSFER, [0.5]), 'one for each of 6 tasks'),
    (lambda: through_pivots(TRANSFER, np.ones(6), weight=2), 'weight=2 must be between 0 and 1'),
    (lambda: through_pivots([[0.5]], [0.5]), 'two tasks or more'),
    (lambda: predict_transfer(TRANSFER[:3, :3], LIKENESS[:3, :3]), 'at least four'),
    (lambda: judge_ranking([0.5, 0.1], [0.5, 0.1], k=3), 'k of them at most'),
    (lambda: energy_distances([[1.0]]), 'give .sets, examples, numbers.'),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
