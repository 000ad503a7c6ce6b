"""The end of a plateau is where the gain rises, not where it is noisy."""

import numpy as np

from metakit.onset import WINDOW, can_tell, onset


def lines(gains, loss=2.3):
  return [{'step': 10 * (i + 1), 'train/gain': g, 'train/loss': loss} for i, g in enumerate(gains)]


def test_the_onset_is_where_the_mean_gain_exceeds_a_twentieth_of_the_loss():
  noise = np.random.default_rng(0).normal(scale=0.1, size=200)
  rising = noise + np.where(np.arange(200) < 120, 0.0, 1.0)
  step = onset([{'step': 5, 'validation/gain': 9.0}, *lines(rising)])
  assert 1200 < step <= 1200 + 10 * WINDOW
  exact = np.where(np.arange(200) < 120, 0.0, 2.0)
  assert onset(lines(exact)) == 10 * (120 + 2)  # 2 of 20 values are a tenth, 1 a twentieth


def test_where_training_is_easier_validation_tells():
  """Training gains at once; on validation tasks there is a plateau."""
  training = lines([1.0] * 200, loss=0.5)

  def validated(values, ci95=0.02):
    named = {'validation/accuracy_ci95': ci95}
    return [
      {'step': 100 * (i + 1), 'validation/accuracy': a, **named} for i, a in enumerate(values)
    ]

  rising = [0.1] * 5 + [0.16] * 6 + [0.18] * 9
  assert onset(training + validated(rising)) == 10 * WINDOW
  assert onset(training + validated(rising), chance=0.1) == 1200
  assert onset(training + validated(rising, ci95=0.05), chance=0.1) is None
  assert onset(training + validated([0.5]), chance=0.1) == 100
  assert can_tell(training) and not can_tell(training, chance=0.1)
  assert can_tell(validated([0.1]), chance=0.1) and not can_tell(validated([0.1]))


def test_noise_is_no_onset():
  assert onset(lines(np.random.default_rng(0).normal(scale=0.1, size=200))) is None


def test_nothing_logged_is_no_onset():
  assert onset([]) is onset(lines([1.0] * (WINDOW - 1))) is None
  assert onset([{'step': 1, 'train/loss': 1.0}] * 50) is None
