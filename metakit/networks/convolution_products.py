"""A convolution and its gradients as matrix products.

x is [examples, height, width, channels], the kernel [size, size, channels, features], and y
[examples, rows, columns, features]. With one more axis in front of both operands, each task has its
own kernel.
"""

import math
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

FEW_CHANNELS = 8  # with fewer channels, one product of whole patches costs less than three products


class Geometry(NamedTuple):
  """What the shapes of two arrays of a 'SAME' convolution do not say about the third.

  Attributes:
    height: height of the input.
    width: width of the input.
    size: size of the square kernel.
    stride: step.
  """

  height: int
  width: int
  size: int
  stride: int

  @property
  def outputs(self) -> tuple[int, int]:
    """Rows and columns of the output."""
    return -(-self.height // self.stride), -(-self.width // self.stride)

  @property
  def pads(self) -> list[tuple[int, int]]:
    """Zeros before and after the rows, and the columns, of the input."""
    sizes = zip(self.outputs, (self.height, self.width), strict=True)
    total = [max((out - 1) * self.stride + self.size - n, 0) for out, n in sizes]
    return [(pad // 2, pad - pad // 2) for pad in total]


def patches(x: jax.Array, g: Geometry) -> jax.Array:
  """Returns the patches that the convolution sees: [..., rows, columns, size * size * channels]."""
  rows, columns = g.outputs
  x = jnp.pad(x, [*[(0, 0)] * (x.ndim - 3), *g.pads, (0, 0)])
  stop = lambda start, out: start + (out - 1) * g.stride + 1
  slices = [
    x[..., i : stop(i, rows) : g.stride, j : stop(j, columns) : g.stride, :]
    for i in range(g.size)
    for j in range(g.size)
  ]
  return jnp.concatenate(slices, axis=-1)


def _by_patches(x: jax.Array, kernel: jax.Array, g: Geometry) -> jax.Array:
  columns, tasks = patches(x, g), kernel.shape[:-4]
  flat = columns.reshape(*tasks, -1, columns.shape[-1]) @ _flat(kernel, 3)
  return flat.reshape(*columns.shape[:-1], kernel.shape[-1])


def _to_kernel_by_patches(x: jax.Array, y: jax.Array, g: Geometry) -> jax.Array:
  kernel = jnp.swapaxes(_flat(patches(x, g), 3), -1, -2) @ _flat(y, 3)
  return kernel.reshape(*x.shape[:-4], g.size, g.size, x.shape[-1], y.shape[-1])


def _flat(a: jax.Array, axes: int) -> jax.Array:
  """Merges `axes` axes before the last into one."""
  return a.reshape(*a.shape[: -axes - 1], -1, a.shape[-1])


def copied(g: Geometry, channels: int, features: int) -> int:
  """Returns how many numbers a product of one example copies, with its result."""
  if _whole_patches(g, channels):
    return math.prod(g.outputs) * (g.size**2 * channels + features)
  return g.height * g.width * g.size * (channels + features)


def _whole_patches(g: Geometry, channels: int) -> bool:
  return g.stride > 1 or g.size == 1 or channels < FEW_CHANNELS


def as_products(x: jax.Array, kernel: jax.Array, g: Geometry) -> jax.Array:
  """Returns the convolution of x with a kernel."""
  if _whole_patches(g, x.shape[-1]):
    return _by_patches(x, kernel, g)
  return _rows_and_columns(x, kernel, g.pads[0][0])


def to_kernel_as_products(x: jax.Array, y: jax.Array, g: Geometry) -> jax.Array:
  """Returns the gradient of the kernel, of x and the gradient y of the output."""
  if _whole_patches(g, x.shape[-1]):
    return _to_kernel_by_patches(x, y, g)
  return _rows_and_columns_to_kernel(x, y, g.size, g.pads[0][0])


def to_input_as_products(y: jax.Array, kernel: jax.Array, g: Geometry) -> jax.Array:
  """Returns the gradient of x, of the gradient y of the output and the kernel."""
  if g.stride > 1:
    x = jax.ShapeDtypeStruct((*y.shape[:-3], g.height, g.width, kernel.shape[-2]), y.dtype)
    return jax.linear_transpose(lambda x: _by_patches(x, kernel, g), x)(y)[0]
  # The gradient is a convolution with the kernel turned by 180 degrees.
  turned = jnp.swapaxes(kernel[..., ::-1, ::-1, :, :], -1, -2)
  return _rows_and_columns(y, turned, g.size - 1 - g.pads[0][0])


def _rows_and_columns(x: jax.Array, kernel: jax.Array, before: int) -> jax.Array:
  """A convolution of stride 1 in one product, with `before` zeros in front of rows and columns.

  The product treats the columns of a kernel together; its rows are summed afterwards. With a kernel
  of three rows this moves a third of the memory that `patches` moves. Memory is what limits a
  product with 64 channels.
  """
  size, (channels, features) = kernel.shape[-4], kernel.shape[-2:]
  x = lax.optimization_barrier(x)  # without it XLA computes x again for each shifted copy
  columns = jnp.concatenate([_shift(x, -2, i - before) for i in range(size)], -1)
  kernel = kernel.reshape(*kernel.shape[:-4], size, size * channels, features)
  kernel = jnp.swapaxes(kernel, -3, -2).reshape(*kernel.shape[:-3], -1, size * features)
  y = (_flat(columns, 3) @ kernel).reshape(*x.shape[:-1], size, features)
  return reduce(jnp.add, [_shift(y[..., i, :], -3, i - before) for i in range(size)])


def _rows_and_columns_to_kernel(x: jax.Array, y: jax.Array, size: int, before: int) -> jax.Array:
  """As `_rows_and_columns`: columns of x side by side, times rows of y side by side."""
  channels, features = x.shape[-1], y.shape[-1]
  x, y = lax.optimization_barrier((x, y))
  columns = jnp.concatenate([_shift(x, -2, i - before) for i in range(size)], -1)
  rows = jnp.concatenate([_shift(y, -3, before - i) for i in range(size)], -1)
  kernel = jnp.swapaxes(_flat(columns, 3), -1, -2) @ _flat(rows, 3)
  kernel = kernel.reshape(*x.shape[:-4], size * channels, size, features)
  return jnp.swapaxes(kernel, -3, -2).reshape(*x.shape[:-4], size, size, channels, features)


def _shift(x: jax.Array, axis: int, by: int) -> jax.Array:
  """x[i + by] along an axis, zero beyond its ends."""
  length = x.shape[axis]
  by = max(-length, min(by, length))
  part = lax.slice_in_dim(x, max(by, 0), length + min(by, 0), axis=axis)
  pads = [(0, 0)] * x.ndim
  pads[axis] = max(-by, 0), max(by, 0)
  return jnp.pad(part, pads)
