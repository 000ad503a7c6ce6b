"""Sinusoid regression (Finn et al. 2017, MAML, arXiv:1703.03400, section 5.1)."""

import math

import jax
import jax.numpy as jnp

from metakit.episodes import draws
from metakit.sources import EpisodeSource
from metakit.types import Episode, Examples, Key


def sinusoid(
  shots: int = 10,
  queries: int = 10,
  *,
  amplitude: tuple[float, float] = (0.1, 5.0),
  phase: tuple[float, float] = (0.0, math.pi),
  x_range: tuple[float, float] = (-5.0, 5.0),
  noise: float = 0.0,
) -> EpisodeSource:
  """Regression episodes y = A sin(x - phase), a new sine in each.

  Amplitude, phase (radians) and every x are uniform on their ranges. The sign of the phase is that
  of the authors' data_generator.py; the paper gives only the ranges.

  Args:
    shots: support examples.
    queries: query examples.
    amplitude: lowest and highest amplitude; equal ends fix it.
    phase: lowest and highest phase, in radians.
    x_range: lowest and highest x, of support and query.
    noise: standard deviation of the Gaussian noise on y, of support and query; 0 in the paper.

  Returns:
    A source: x and y float32, support [shots, 1], query [queries, 1];
    info['amplitude'] [] and info['phase'] [].

  Raises:
    ValueError: if shots or queries is not positive, a range is empty or not finite, or noise is
      negative or not finite.

  >>> episode = sinusoid(shots=3, amplitude=(2.0, 2.0), phase=(0.0, 0.0))(jax.random.key(0))
  >>> bool(jnp.allclose(episode.support.y, 2 * jnp.sin(episode.support.x)))
  True
  """
  _check(shots, queries, noise, amplitude=amplitude, phase=phase, x_range=x_range)

  @jax.jit  # one program, so that noise is added with the same rounding outside of a jit as inside
  def plan(key: Key) -> Episode:
    keys = jax.random.split(key, 4)
    a = draws.uniform(keys[0], minval=amplitude[0], maxval=amplitude[1])
    p = draws.uniform(keys[1], minval=phase[0], maxval=phase[1])
    size = (shots + queries, 1)
    x = draws.uniform(keys[2], size, minval=x_range[0], maxval=x_range[1])
    y = a * jnp.sin(x - p)
    if noise:
      y += noise * draws.normal(keys[3], size)
    support, query = Examples(x[:shots], y[:shots]), Examples(x[shots:], y[shots:])
    return Episode(support, query, {'amplitude': a, 'phase': p})

  return EpisodeSource(plan)


def _check(shots: int, queries: int, noise: float, **ranges: tuple[float, float]) -> None:
  for name, value in (('shots', shots), ('queries', queries)):
    if value < 1:
      raise ValueError(f'{name}={value} is not positive; use {name}>=1')
  for name, (low, high) in ranges.items():
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
      raise ValueError(f'{name}=({low}, {high}) is no range; give (lowest, highest)')
  if not (math.isfinite(noise) and noise >= 0):
    raise ValueError(f'noise={noise} is no standard deviation; use noise>=0')
