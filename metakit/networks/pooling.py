"""Max-pooling that stays fast and right under vmap, grad and scan."""

import jax
import jax.numpy as jnp
from jax import lax

from metakit.networks.linear import transposes


def max_pool(x: jax.Array, sign: jax.Array | None = None) -> jax.Array:
  """2x2 max-pooling with stride 2; odd last rows and columns are dropped.

  Args:
    x: [examples, height, width, channels].
    sign: [channels]; where it is negative, the smallest number of each window is taken.

  The place of the largest number of each window is kept in an array. A `max` over a reshaped axis
  would not do: under jit and vmap on a CPU its gradient compares values that were computed again,
  and is silently wrong.

  Raises:
    ValueError: if there is no whole 2x2 window.
  """
  height, width = x.shape[1:3]
  rows, columns = height // 2, width // 2
  if not rows * columns:
    raise ValueError(
      f'{height}x{width} positions are too few for 2x2 max-pooling; use larger images or less depth'
    )
  x = x[:, : rows * 2, : columns * 2]
  compared = lax.stop_gradient(x if sign is None else jnp.where(sign < 0, -x, x))
  return _pick(x, _largest(compared))


def _windows(x: jax.Array) -> list[jax.Array]:
  """Returns the four numbers of each 2x2 window, each [..., rows, columns, channels]."""
  *lead, height, width, channels = x.shape
  x = x.reshape(*lead, height // 2, 2, width // 2, 2, channels)
  return [x[..., i, :, j, :] for i in range(2) for j in range(2)]


def _largest(x: jax.Array) -> jax.Array:
  """Returns the place of the largest number of each window, 0 to 3; the first of equal ones."""
  a, b, c, d = _windows(x)
  number = lambda is_first, first: jnp.where(is_first, first, first + 1).astype(jnp.int8)
  upper = jnp.where(a >= b, a, b) >= jnp.where(c >= d, c, d)
  return jnp.where(upper, number(a >= b, 0), number(c >= d, 2))


def _picked(x: jax.Array, which: jax.Array) -> jax.Array:
  a, b, c, d = _windows(x)
  return jnp.where(which < 2, jnp.where(which == 0, a, b), jnp.where(which == 2, c, d))


def _placed(y: jax.Array, which: jax.Array) -> jax.Array:
  """The transpose of `_picked`: y at the places that were picked, and zero elsewhere."""
  *lead, rows, columns, channels = y.shape
  place = jnp.arange(4, dtype=which.dtype).reshape(2, 1, 2, 1)
  wide = lambda a: a[..., :, None, :, None, :]
  x = jnp.where(wide(which) == place, wide(y), jnp.zeros((), y.dtype))
  return x.reshape(*lead, rows * 2, columns * 2, channels)


_pick, _ = transposes('pick', _picked, _placed)
