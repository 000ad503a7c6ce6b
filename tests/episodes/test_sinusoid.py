"""Sinusoids: the ranges of the paper, the formula, noise as asked."""

import jax
import numpy as np
from scipy import stats

from metakit.episodes.sinusoid import sinusoid
from tests.episodes.test_chance import SMALLEST_P, uniform_on
from tests.episodes.test_few_shot import many


def test_amplitude_phase_and_x_are_uniform_on_the_ranges_of_the_paper():
  episodes = many(sinusoid(shots=2, queries=2), 20000)
  assert uniform_on(episodes.info['amplitude'], 0.1, 5.0) > SMALLEST_P
  assert uniform_on(episodes.info['phase'], 0.0, np.pi) > SMALLEST_P
  assert uniform_on(episodes.support.x, -5.0, 5.0) > SMALLEST_P
  assert uniform_on(episodes.query.x, -5.0, 5.0) > SMALLEST_P


def test_another_range_is_caught():
  episodes = many(sinusoid(amplitude=(0.2, 5.0), phase=(0.0, 3.0), x_range=(-5.0, 4.8)), 20000)
  assert uniform_on(episodes.info['amplitude'], 0.1, 5.0) < SMALLEST_P
  assert uniform_on(episodes.info['phase'], 0.0, np.pi) < SMALLEST_P
  assert uniform_on(episodes.support.x[:, 0], -5.0, 5.0) < SMALLEST_P


def test_amplitude_phase_support_and_query_are_independent():
  episodes = many(sinusoid(shots=1, queries=1), 20000)
  info = episodes.info
  columns = [info['amplitude'], info['phase'], episodes.support.x.ravel(), episodes.query.x.ravel()]
  correlation = np.corrcoef(np.stack(columns)) - np.eye(4)
  assert np.abs(correlation).max() < 4 / np.sqrt(20000)


def test_y_is_the_sine_of_the_sign_in_the_released_code():
  episodes = many(sinusoid(shots=3, queries=4), 100)
  a, phase = (episodes.info[name][:, None, None] for name in ('amplitude', 'phase'))
  for part, size in ((episodes.support, 3), (episodes.query, 4)):
    assert part.x.shape == part.y.shape == (100, size, 1)
    assert part.x.dtype == part.y.dtype == np.float32
    np.testing.assert_allclose(part.y, a * np.sin(part.x - phase), atol=1e-5)


def test_noise_is_normal_with_the_given_deviation_and_leaves_the_task_unchanged():
  clean, noisy = (many(sinusoid(shots=1, queries=1, noise=noise), 20000) for noise in (0.0, 0.3))
  np.testing.assert_array_equal(clean.support.x, noisy.support.x)
  for part in ('support', 'query'):
    residual = (getattr(noisy, part).y - getattr(clean, part).y).ravel()
    assert stats.kstest(residual / 0.3, 'norm').pvalue > SMALLEST_P
    assert stats.kstest(residual / 0.33, 'norm').pvalue < SMALLEST_P


def test_equal_ends_fix_a_parameter():
  episode = sinusoid(amplitude=(2.0, 2.0), phase=(1.0, 1.0))(jax.random.key(0))
  assert float(episode.info['amplitude']) == 2.0 and float(episode.info['phase']) == 1.0
