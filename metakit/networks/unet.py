"""A U-Net on a grid of one or two axes (Ronneberger et al. 2015, arXiv:1505.04597).

On an axis of points a convolution is one matrix product of shifted copies, since XLA's gradients of
a kernel are slow within a loop on a CPU (metakit.networks.convolution, which has images).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from metakit.networks.convolution import Convolution


class UNet(nn.Module):
  """Convolutions on ever coarser grids, and back; with ReLU between them.

  Attributes:
    width: channels of all layers.
    levels: how often the grid is halved; its sizes must be multiples of 2^levels.
    size: kernel points of each axis.
  """

  width: int
  levels: int
  size: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[..., channels] on a grid -> [..., width] on the same grid."""
    dense = lambda x: nn.Dense(self.width)(x)
    layer = lambda x: nn.relu(self._convolve(x))
    x, skipped = dense(x), []
    for _ in range(self.levels):
      x = x + layer(x)
      skipped.append(x)
      x = dense(halved(x))
    x = x + layer(x)
    for fine in reversed(skipped):
      x = dense(jnp.concatenate([doubled(x), fine], axis=-1))
      x = x + layer(x)
    return x

  def _convolve(self, x: jax.Array) -> jax.Array:
    if x.ndim == 3:
      return Convolution(self.width, self.size)(x[None])[0]
    return nn.Dense(self.width)(shifted(x, self.size))


def shifted(x: jax.Array, size: int) -> jax.Array:
  """Returns what a convolution of `size` points sees, [points, size * channels]; 0 beyond the ends.

  >>> shifted(jnp.array([[1.0], [2.0]]), size=3).tolist()
  [[0.0, 1.0, 2.0], [1.0, 2.0, 0.0]]
  """
  before = (size - 1) // 2
  padded = jnp.pad(x, [(before, size - 1 - before), (0, 0)])
  return jnp.concatenate([padded[i : i + x.shape[0]] for i in range(size)], axis=-1)


def halved(x: jax.Array) -> jax.Array:
  """Puts neighbours side by side: half as many points on each axis, more channels.

  >>> halved(jnp.arange(4.0)[:, None]).tolist()
  [[0.0, 1.0], [2.0, 3.0]]
  """
  if x.ndim == 2:
    return x.reshape(x.shape[0] // 2, -1)
  rows, columns, channels = x.shape
  x = x.reshape(rows // 2, 2, columns // 2, 2, channels)
  return jnp.moveaxis(x, 2, 1).reshape(rows // 2, columns // 2, -1)


def doubled(x: jax.Array) -> jax.Array:
  """Repeats each point: twice as many on each axis.

  >>> doubled(jnp.array([[1.0], [2.0]])).tolist()
  [[1.0], [1.0], [2.0], [2.0]]
  """
  for axis in range(x.ndim - 1):
    x = jnp.repeat(x, 2, axis=axis)
  return x
