"""A convolution that stays fast and right under vmap, grad and scan.

A convolution is bilinear. So are its gradients with respect to the input and to the kernel. These
three functions are primitives here. The derivatives of each are given by the other two, however
often they are taken.

The batching rule depends on which operands have the axis of a vmap. If one operand has it, the axis
is folded into examples, channels or features. If both have it (each task has its own kernel), the
primitive keeps it as an axis of tasks. XLA alone would make a grouped convolution of it.

What runs on each platform:
  cpu: matrix products only, in blocks of examples (metakit.networks.blocks). XLA's grouped
    convolutions are tens of times slower there, and so are its gradients of the kernel in a loop.
  tpu: XLA's convolution, grouped where there is an axis of tasks.
  others (GPU): XLA's convolution for one kernel, matrix products where there is an axis of tasks.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from metakit.inputs import as_float
from metakit.networks.blocks import over_examples, over_tasks
from metakit.networks.convolution_products import (
  Geometry,
  as_products,
  copied,
  patches,
  to_input_as_products,
  to_kernel_as_products,
)
from metakit.networks.normalisation import Moments, covariances

NUMBERS = ('NHWC', 'HWIO', 'NHWC')
# If a patch has at most so many numbers, moments of patches cost less than those of the output.
FEW_TAPS = 32


def as_images(x: jax.Array) -> jax.Array:
  """As `as_float`; raises ValueError unless x is [examples, height, width, channels]."""
  x = as_float(x)
  if x.ndim != 4:
    raise ValueError(
      f'a convolutional network needs images [examples, height, width, channels], not {x.shape}; '
      'add an axis of channels to images without one, or use mlp for other data'
    )
  return x


# The three functions in XLA's form, for one kernel. x [n, h, w, c], kernel [s, s, c, f],
# y [n, rows, columns, f].


def _native(x: jax.Array, kernel: jax.Array, g: Geometry) -> jax.Array:
  steps = g.stride, g.stride
  return lax.conv_general_dilated(x, kernel, steps, g.pads, dimension_numbers=NUMBERS)


def _native_to_input(y: jax.Array, kernel: jax.Array, g: Geometry) -> jax.Array:
  x = jax.ShapeDtypeStruct((y.shape[0], g.height, g.width, kernel.shape[2]), y.dtype)
  return jax.linear_transpose(lambda x: _native(x, kernel, g), x)(y)[0]


def _native_to_kernel(x: jax.Array, y: jax.Array, g: Geometry) -> jax.Array:
  kernel = jax.ShapeDtypeStruct((g.size, g.size, x.shape[3], y.shape[3]), x.dtype)
  return jax.linear_transpose(lambda kernel: _native(x, kernel, g), kernel)(y)[0]


class Role(NamedTuple):
  """One of the three functions, as a primitive.

  Attributes:
    name: name of the primitive.
    shape: (first, second, geometry) -> shape of the result.
    native: XLA's form, of one kernel.
    products: as matrix products.
    folds: for each operand, a pair of axes: of the operand and of the result. If this operand alone
      has the axis of a vmap, that axis is folded into them.
    sums: whether the result is a sum over examples.
  """

  name: str
  shape: Callable[[Any, Any, Geometry], tuple[int, ...]]
  native: Callable[..., jax.Array]
  products: Callable[..., jax.Array]
  folds: tuple[tuple[int, int], tuple[int, int]]
  sums: bool = False


ROLES = (
  Role(
    'convolution',
    lambda x, kernel, g: (*x.shape[:-3], *g.outputs, kernel.shape[-1]),
    _native,
    as_products,
    ((-4, -4), (-1, -1)),  # examples; features
  ),
  Role(
    'convolution_to_input',
    lambda y, kernel, g: (*y.shape[:-3], g.height, g.width, kernel.shape[-2]),
    _native_to_input,
    to_input_as_products,
    ((-4, -4), (-2, -1)),  # examples; channels
  ),
  Role(
    'convolution_to_kernel',
    lambda x, y, g: (*x.shape[:-4], g.size, g.size, x.shape[-1], y.shape[-1]),
    _native_to_kernel,
    to_kernel_as_products,
    ((-1, -2), (-1, -1)),  # channels; features
    sums=True,
  ),
)


def _in_blocks(role: Role, first: jax.Array, second: jax.Array, g: Geometry) -> jax.Array:
  """Computes the products of a role for some examples, or tasks, after the others."""
  channels = first.shape[-1] if role.sums else second.shape[-2]
  each = first.dtype.itemsize * copied(g, channels, second.shape[-1])
  kernel = first.dtype.itemsize * g.size**2 * channels * second.shape[-1]
  blocks = lambda a, b: over_examples(
    lambda a, b: role.products(a, b, g), a, b, each=each, again=kernel, sums=role.sums
  )
  if first.ndim == 4:
    return blocks(first, second)
  run = lambda a, b: blocks(a[0], b[0])[None] if len(a) == 1 else role.products(a, b, g)
  return over_tasks(run, first, second, each=first.shape[1] * each)


def _define(role: Role) -> Primitive:
  primitive = Primitive(role.name)
  has_tasks = lambda first: first.ndim == 5

  def generic(first, second, *, geometry):
    run = role.products if has_tasks(first) else role.native
    return run(first, second, geometry)

  def grouped(first, second, *, geometry):
    run = jax.vmap(role.native, (0, 0, None)) if has_tasks(first) else role.native
    return run(first, second, geometry)

  def in_blocks(first, second, *, geometry):
    return _in_blocks(role, first, second, geometry)

  forms = {None: generic, 'tpu': grouped, 'cpu': in_blocks}
  for platform, function in forms.items():
    lowering = mlir.lower_fun(function, multiple_results=False)
    mlir.register_lowering(primitive, lowering, platform=platform)
  primitive.def_impl(  # outside of jit
    lambda *pair, geometry: forms.get(jax.default_backend(), generic)(*pair, geometry=geometry)
  )
  primitive.def_abstract_eval(
    lambda first, second, *, geometry: jax.core.ShapedArray(
      role.shape(first, second, geometry), first.dtype
    )
  )
  batching.primitive_batchers[primitive] = partial(_batch, primitive, role.folds)
  return primitive


def _batch(
  primitive: Primitive, folds: Any, operands: Any, axes: Any, *, geometry: Geometry
) -> Any:
  """The batching rule: see the head of this file."""
  if None in axes:
    mapped = 0 if axes[1] is None else 1
    axis, out_axis = folds[mapped]
    operand = jnp.moveaxis(operands[mapped], axes[mapped], axis - 1)
    size = operand.shape[axis - 1]
    folded = list(operands)
    folded[mapped] = _merge(operand, axis)
    out = primitive.bind(*folded, geometry=geometry)
    position = out.ndim + out_axis
    return out.reshape(*out.shape[:position], size, -1, *out.shape[position + 1 :]), position
  first, second = (jnp.moveaxis(a, axis, 0) for a, axis in zip(operands, axes, strict=True))
  lead = first.shape[:-4]
  tasks = (a.reshape(-1, *a.shape[-4:]) for a in (first, second))
  out = primitive.bind(*tasks, geometry=geometry)
  return out.reshape(*lead, *out.shape[1:]), 0


def _merge(a: jax.Array, axis: int) -> jax.Array:
  """Merges an axis, counted from the end, with the one before it."""
  start = a.ndim + axis
  return a.reshape(*a.shape[: start - 1], -1, *a.shape[start + 1 :])


_forward, _to_input, _to_kernel = (_define(role) for role in ROLES)
for _primitive, _for_first, _for_second in (
  (
    _forward,
    lambda ct, x, k, geometry: _to_input.bind(ct, k, geometry=geometry),
    lambda ct, x, k, geometry: _to_kernel.bind(x, ct, geometry=geometry),
  ),
  (
    _to_input,
    lambda ct, y, k, geometry: _forward.bind(ct, k, geometry=geometry),
    lambda ct, y, k, geometry: _to_kernel.bind(ct, y, geometry=geometry),
  ),
  (
    _to_kernel,
    lambda ct, x, y, geometry: _to_input.bind(y, ct, geometry=geometry),
    lambda ct, x, y, geometry: _forward.bind(x, ct, geometry=geometry),
  ),
):
  ad.defbilinear(
    _primitive,
    lambda ct, a, b, *, geometry, rule=_for_first: rule(ct, a, b, geometry),
    lambda ct, a, b, *, geometry, rule=_for_second: rule(ct, a, b, geometry),
  )


def convolution(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
  """A 'SAME' convolution, fast on every backend, for any number of derivatives and vmaps.

  Args:
    x: [examples, height, width, channels].
    kernel: [size, size, channels, features], of the type of x.
    stride: step.

  Raises:
    ValueError: if the shapes or types do not fit.
  """
  square = kernel.ndim == 4 and kernel.shape[0] == kernel.shape[1]
  if x.ndim != 4 or not square or x.shape[-1] != kernel.shape[2] or x.dtype != kernel.dtype:
    raise ValueError(
      f'images {x.shape} {x.dtype} and kernel {kernel.shape} {kernel.dtype}; give [examples, '
      'height, width, channels] and [size, size, channels, features] of one type'
    )
  geometry = Geometry(x.shape[1], x.shape[2], kernel.shape[0], stride)
  return _forward.bind(x, kernel, geometry=geometry)


def output_moments(
  x: jax.Array, kernel: jax.Array, stride: int = 1, *, weight: jax.Array | None = None
) -> Moments | None:
  """Returns the mean and variance of every feature of a convolution, without computing its output.

  The output is linear in the patches of the input. So its moments are k^T mean and
  k^T covariance k, with the mean and covariance of the patches. Where a patch has few numbers, this
  spares most of what normalisation reads and writes. That is so in the first layer of a network of
  images, whose activations are the largest.

  Args:
    x: [examples, height, width, channels].
    kernel: [size, size, channels, features].
    stride: step.
    weight: [examples]; 0 means absent.

  Returns:
    Mean and variance, each [features]; None where a patch is more than FEW_TAPS numbers.
  """
  size, _, channels, features = kernel.shape
  if size * size * channels > FEW_TAPS:
    return None
  seen = patches(x, Geometry(x.shape[1], x.shape[2], size, stride))
  mean, covariance = covariances(seen, weight)
  flat = kernel.astype(x.dtype).astype(mean.dtype).reshape(-1, features)
  return mean @ flat, jnp.sum(flat * (covariance @ flat), 0)


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
    kernel = self.param('kernel', nn.initializers.he_normal(), shape, jnp.float32)
    x = convolution(x, kernel.astype(x.dtype), self.stride)
    if not self.use_bias:
      return x
    bias = self.param('bias', nn.initializers.zeros, (self.features,), jnp.float32)
    return x + bias.astype(x.dtype)

  def moments(self, x: jax.Array, weight: jax.Array | None = None) -> Moments | None:
    """Returns `output_moments` of this layer, for a normalisation of its output.

    The layer must have been called before. With a bias the result is None.
    """
    if self.use_bias:
      return None
    return output_moments(x, self.get_variable('params', 'kernel'), self.stride, weight=weight)
