"""The end of a plateau is where the gain rises, not where it is noisy."""

import numpy as np

from experiments.plateau import WINDOW, can_tell, onset


def lines(gains, loss=2.3):
  return [{'step': 10 * (i + 1), 'train/gain': g, 'train/loss': loss} for i, g in enumerate(gains)]


def test_the_onset_is_where_the_mean_gain_exceeds_a_twentieth_of_the_loss():
  noise = np.random.default_rng(0).normal(scale=0.1, size=200)
  rising = noise + np.where(np.arange(200) < 120, 0.0, 1.0)
  step = onset([{'step': 5, 'validation/gain': 9.0}, *lines(rising)])
  assert 1200 < step <= 1200 + 10 * WINDOW
  exact = np.where(np.arange(200) < 120, 0.0, 2.0)
  assert onset(lines(exact)) == 10 * (120 + 2)  # 2 of 20 values are a tenth, 1 a twentieth


def test_of_biased_training_validation_tells():
  """Training on easier episodes gains at once; on those of validation there is a plateau."""
  training = lines([1.0] * 200, loss=0.5)

  def validated(gains, ci95=0.02):
    named = {'validation/loss': 2.3, 'validation/gain_ci95': ci95}
    return [{'step': 100 * (i + 1), 'validation/gain': g, **named} for i, g in enumerate(gains)]

  rising = [0.1] * 11 + [0.3] * 9
  assert onset(training + validated(rising)) == 10 * WINDOW
  assert onset(training + validated(rising), biased=True) == 1200
  assert onset(training + validated(rising, ci95=0.25), biased=True) is None  # 0.115 is asked
  assert onset(training + validated([0.1] * 20), biased=True) is None
  assert can_tell(training) and not can_tell(training, biased=True)
  assert can_tell(validated([0.1]), biased=True) and not can_tell(validated([0.1]))


def test_noise_is_no_onset():
  assert onset(lines(np.random.default_rng(0).normal(scale=0.1, size=200))) is None


def test_nothing_logged_is_no_onset():
  assert onset([]) is onset(lines([1.0] * (WINDOW - 1))) is None
  assert onset([{'step': 1, 'train/loss': 1.0}] * 50) is None
