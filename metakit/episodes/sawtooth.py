"""Sawtooth waves (Gordon et al. 2020, arXiv:1910.13556, appendix C.2)."""

import jax

from metakit.episodes import draws
from metakit.episodes.functions import FunctionClass, uniform_inputs
from metakit.types import Key


def sawtooth(
  lowest: float = 2.0, highest: float = 4.0, *, low: float = -2.0, high: float = 2.0
) -> FunctionClass:
  """Sawtooth waves y = (f (s x - o)) mod 1, of frequency f, direction s = -1 or 1 and offset o.

  f ~ U(lowest, highest) and o ~ U(0, 1 / f), with the settings of Bruinsma's neuralprocesses
  package, in which a direction is a random unit vector. No closed posterior is known.

  Args:
    lowest: the lowest frequency, in waves a unit of x.
    highest: the highest frequency.
    low: the lowest input.
    high: the highest input.

  Raises:
    ValueError: if a frequency is not positive or a range empty.

  >>> import jax.numpy as jnp
  >>> saw = sawtooth()
  >>> wave = {'frequency': jnp.array(2.0), 'direction': jnp.array(1.0), 'phase': jnp.array(0.5)}
  >>> saw.values(wave, jnp.array([[0.25], [0.5]])).tolist()
  [0.0, 0.5]
  """
  if not (0 < lowest <= highest and low < high):
    raise ValueError(
      f'lowest={lowest} and highest={highest} must be frequencies, the lower one first, and '
      f'low={low} < high={high}'
    )

  def draw(key: Key) -> dict[str, jax.Array]:
    frequency_key, direction_key, phase_key = jax.random.split(key, 3)
    return {
      'frequency': draws.uniform(frequency_key, minval=lowest, maxval=highest),
      'direction': draws.signs(direction_key, ()),
      'phase': draws.uniform(phase_key),  # f o, which is uniform from 0 to 1
    }

  def values(wave: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return (wave['frequency'] * wave['direction'] * x[:, 0] - wave['phase']) % 1

  return FunctionClass(draw, values, uniform_inputs(low, high), None, 'sawtooth')
