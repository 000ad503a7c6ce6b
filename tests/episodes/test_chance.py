"""Whether drawn numbers follow a claimed distribution; used by the sampler tests, tested here."""

import numpy as np
from scipy import stats

SMALLEST_P = 1e-4  # keys are fixed, so a right sampler passes for ever


def equally_likely(draws, outcomes):
  """Chi-square p-value of integer draws [n] being uniform on 0 to outcomes - 1."""
  return follows(draws, np.full(outcomes, 1 / outcomes))


def follows(draws, probabilities):
  """Chi-square p-value of integer draws [n] having these probabilities; 0 if one is impossible."""
  draws, probabilities = np.asarray(draws).ravel(), np.asarray(probabilities, np.float64)
  if draws.min() < 0 or draws.max() >= len(probabilities):
    return 0.0
  expected = probabilities * len(draws)
  possible = expected > 0
  assert expected[possible].min() >= 5, 'too few draws for a chi-square test'
  observed = np.bincount(draws, minlength=len(expected))
  if observed[~possible].any():
    return 0.0
  return float(stats.chisquare(observed[possible], expected[possible]).pvalue)


def uniform_on(draws, low, high):
  """Kolmogorov-Smirnov p-value of real draws [n] being uniform on low to high."""
  unit = (np.asarray(draws, np.float64).ravel() - low) / (high - low)
  return float(stats.kstest(unit, 'uniform').pvalue)


def standard_errors_apart(ours, theirs):
  """How many standard errors the means of two independent samples lie apart, per column."""
  ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
  error = np.sqrt(ours.var(axis=0) / len(ours) + theirs.var(axis=0) / len(theirs))
  return np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) / np.maximum(error, 1e-12)


def test_fair_draws_pass():
  rng = np.random.default_rng(0)
  assert equally_likely(rng.integers(0, 10, 20000), 10) > SMALLEST_P
  assert uniform_on(rng.uniform(2, 5, 20000), 2, 5) > SMALLEST_P
  assert standard_errors_apart(rng.normal(size=20000), rng.normal(size=20000)) < 4


def test_a_tenth_more_of_one_outcome_fails():
  biased = np.r_[1.1, np.ones(10)] / 11.1
  draws = np.random.default_rng(0).choice(11, 40000, p=biased)
  assert equally_likely(draws, 11) < SMALLEST_P


def test_an_unreachable_or_impossible_outcome_fails():
  draws = np.random.default_rng(0).integers(0, 9, 20000)
  assert equally_likely(draws, 10) < SMALLEST_P
  assert equally_likely(draws, 8) == 0.0
  assert follows(draws, np.r_[0.0, np.full(8, 1 / 8)]) == 0.0


def test_a_slightly_narrow_range_fails():
  draws = np.random.default_rng(0).uniform(0, 0.97, 20000)
  assert uniform_on(draws, 0, 1) < SMALLEST_P


def test_a_shifted_mean_fails():
  rng = np.random.default_rng(0)
  assert standard_errors_apart(rng.normal(size=20000), rng.normal(0.1, 1, size=20000)) > 5
