"""Sinusoids and lines (Finn, Xu, Levine 2018, arXiv:1806.02817, section 5)."""

import math

import jax
import jax.numpy as jnp

from metakit.episodes import draws
from metakit.episodes.functions import FunctionClass, uniform_inputs
from metakit.types import Key


def sine_line(
  lines: float = 0.5, *, slope: float = 3.0, low: float = -5.0, high: float = 5.0
) -> FunctionClass:
  """Lines y = a x + b, a and b ~ U(-slope, slope), or sinusoids y = A sin(x + phase).

  A ~ U(0.1, 5) and phase ~ U(0, pi). In the paper half of them are lines, and y has noise of
  deviation 0.3. No closed posterior is known.

  Args:
    lines: the share of lines.
    slope: the largest slope and intercept.
    low: the lowest input.
    high: the highest input.

  Raises:
    ValueError: if the share is not between 0 and 1, a slope not positive, or the range empty.

  >>> line = {'is_line': jnp.array(True), 'scale': jnp.array(2.0), 'shift': jnp.array(1.0)}
  >>> sine_line().values(line, jnp.array([[0.0], [3.0]])).tolist()
  [1.0, 7.0]
  """
  if not (0 <= lines <= 1 and slope > 0 and low < high):
    raise ValueError(
      f'lines={lines} must be a share from 0 to 1, slope={slope} positive and low={low} < '
      f'high={high}'
    )

  def draw(key: Key) -> dict[str, jax.Array]:
    kind_key, scale_key, shift_key = jax.random.split(key, 3)
    is_line = draws.uniform(kind_key) < lines
    scale, shift = draws.uniform(scale_key), draws.uniform(shift_key)
    evenly = lambda share: slope * (2 * share - 1)
    return {
      'is_line': is_line,
      'scale': jnp.where(is_line, evenly(scale), 0.1 + 4.9 * scale),
      'shift': jnp.where(is_line, evenly(shift), math.pi * shift),
    }

  def values(function: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    scale, shift = function['scale'], function['shift']
    line, wave = scale * x[:, 0] + shift, scale * jnp.sin(x[:, 0] + shift)
    return jnp.where(function['is_line'], line, wave)

  return FunctionClass(draw, values, uniform_inputs(low, high), None, 'sine_line')
