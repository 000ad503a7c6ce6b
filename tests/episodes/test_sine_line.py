"""Sinusoids and lines: their shapes, and how often each is drawn."""

import jax
import numpy as np
import pytest
from scipy import stats

from metakit.episodes.functions import functions
from metakit.episodes.sine_line import sine_line


def test_a_share_are_lines_and_the_others_sinusoids():
  source = functions(sine_line(0.3), shots=3, queries=4)
  episodes = jax.device_get(jax.jit(jax.vmap(source))(jax.random.split(jax.random.key(0), 1000)))
  drawn, x = episodes.info['function'], episodes.query.x[..., 0]
  is_line, scale, shift = drawn['is_line'], drawn['scale'][:, None], drawn['shift'][:, None]
  expected = np.where(is_line[:, None], scale * x + shift, scale * np.sin(x + shift))
  np.testing.assert_allclose(episodes.query.y[..., 0], expected, atol=1e-4)
  assert stats.binomtest(int(is_line.sum()), 1000, 0.3).pvalue > 1e-3
  for name, low, width in (('scale', 0.1, 4.9), ('shift', 0, np.pi)):
    assert stats.kstest(drawn[name][~is_line], stats.uniform(low, width).cdf).pvalue > 1e-3
    assert stats.kstest(drawn[name][is_line], stats.uniform(-3, 6).cdf).pvalue > 1e-3
  assert stats.kstest(x.ravel(), stats.uniform(-5, 10).cdf).pvalue > 1e-3


@pytest.mark.parametrize('given', [{'lines': 1.5}, {'lines': -0.5}, {'slope': 0}, {'low': 5.0}])
def test_a_share_beyond_1_and_empty_ranges_are_refused(given):
  with pytest.raises(ValueError, match='must be a share from 0 to 1'):
    sine_line(**given)
