"""Convolution and pooling in the forms that stay fast and right under vmap, grad and scan.

On a CPU, XLA turns the weight gradient of a convolution inside a loop, and every convolution with
per-task kernels (a grouped convolution), into code tens of times slower than a matrix product. So
a convolution is written there as one: shifted slices side by side, times the kernel.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax


def as_float(x: jax.Array) -> jax.Array:
  """Casts uint8 images to float32 in [0, 1], other integers to float32; floats pass unchanged."""
  if x.dtype == jnp.uint8:
    return x.astype(jnp.float32) / 255
  return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.float32)


def as_images(x: jax.Array) -> jax.Array:
  """As `as_float`, for networks of images.

  Raises:
    ValueError: if x is not [examples, height, width, channels].
  """
  if x.ndim != 4:
    raise ValueError(
      f'a convolutional network needs images [examples, height, width, channels], not {x.shape}; '
      'add an axis of channels to images without one, or use mlp for other data'
    )
  return as_float(x)


def patches(x: jax.Array, size: int, stride: int) -> jax.Array:
  """Returns the patches that a 'SAME' convolution sees.

  Args:
    x: [n, height, width, channels].
    size: kernel height and width.
    stride: step between patches.

  Returns:
    [n, ceil(height / stride), ceil(width / stride), size * size * channels].
  """
  _, height, width, _ = x.shape
  rows, columns = -(-height // stride), -(-width // stride)
  pads = [max((out - 1) * stride + size - n, 0) for out, n in ((rows, height), (columns, width))]
  x = jnp.pad(x, ((0, 0), *((p // 2, p - p // 2) for p in pads), (0, 0)))
  stop = lambda start, out: start + (out - 1) * stride + 1
  slices = [
    x[:, i : stop(i, rows) : stride, j : stop(j, columns) : stride]
    for i in range(size)
    for j in range(size)
  ]
  return jnp.concatenate(slices, axis=-1)


def convolution_as_matmul(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
  """A 'SAME' convolution as one matrix product; x [n, h, w, c], kernel [s, s, c, features]."""
  size, _, channels, features = kernel.shape
  columns = patches(x, size, stride)  # [n, rows, columns, size * size * channels]
  flat = columns.reshape(-1, size * size * channels) @ kernel.reshape(-1, features)
  return flat.reshape(*columns.shape[:-1], features)


def convolution(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
  """A 'SAME' convolution, NHWC x HWIO, in the form that is fast on the default backend."""
  if jax.default_backend() == 'cpu':
    return convolution_as_matmul(x, kernel, stride)
  numbers = ('NHWC', 'HWIO', 'NHWC')
  return lax.conv_general_dilated(x, kernel, (stride, stride), 'SAME', dimension_numbers=numbers)


class Convolution(nn.Module):
  """A square 'SAME' convolution layer.

  Attributes:
    features: output channels.
    size: kernel height and width.
    stride: step.
    use_bias: adds a bias per channel.
  """

  features: int
  size: int = 3
  stride: int = 1
  use_bias: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (self.size, self.size, x.shape[-1], self.features)
    kernel = self.param('kernel', nn.initializers.he_normal(), shape)
    x = convolution(x, kernel.astype(x.dtype), self.stride)
    if not self.use_bias:
      return x
    return x + self.param('bias', nn.initializers.zeros, (self.features,)).astype(x.dtype)


def max_pool(x: jax.Array) -> jax.Array:
  """2x2 max-pooling with stride 2; odd last rows and columns are dropped.

  Written as a chain of where(a >= b): the tie test of a `max` over a reshaped axis compares
  recomputed values under jit and vmap on a CPU, and its gradient is silently wrong.

  Raises:
    ValueError: if there is no whole 2x2 window.
  """
  n, height, width, channels = x.shape
  rows, columns = height // 2, width // 2
  if not rows * columns:
    raise ValueError(
      f'{height}x{width} positions are too few for 2x2 max-pooling; use larger images or less depth'
    )
  x = x[:, : rows * 2, : columns * 2].reshape(n, rows, 2, columns, 2, channels)
  larger = lambda a, b: jnp.where(a >= b, a, b)
  upper = larger(x[:, :, 0, :, 0], x[:, :, 0, :, 1])
  lower = larger(x[:, :, 1, :, 0], x[:, :, 1, :, 1])
  return larger(upper, lower)
