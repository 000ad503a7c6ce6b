"""Pairs of linear functions, each of which is the other's transpose, as primitives of JAX.

On a CPU two kinds of transposes that XLA makes are slow: those that scatter into zeros (pooling),
and sums over all axes but the last (normalisation). Here the transpose is written by hand. Any
derivative of a function of a pair, forward or reverse, is again a function of the pair, also under
vmap.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Function = Callable[..., jax.Array]


def transposes(
  name: str, forward: Function, backward: Function, **platforms: tuple[Function, Function]
) -> tuple[Function, Function]:
  """Returns two functions, linear in their first argument, each the transpose of the other.

  Args:
    name: name of the primitives.
    forward: (x, *fixed, **static) -> y, linear in x; the fixed arrays have no derivative. All
      arrays may have further axes in front, the same for all; it acts on each entry of those alone.
    backward: (y, *fixed, **static) -> x, its transpose.
    **platforms: other forms of forward and backward with the same values, by platform ('cpu', ...).
  """
  pair = Primitive(name), Primitive(f'{name}_transpose')
  for i, primitive in enumerate(pair):
    _define(primitive, pair[1 - i], (forward, backward)[i])
    for platform, functions in platforms.items():
      lowering = mlir.lower_fun(functions[i], multiple_results=False)
      mlir.register_lowering(primitive, lowering, platform=platform)
  return pair[0].bind, pair[1].bind


def _define(primitive: Primitive, partner: Primitive, function: Function) -> None:
  def shape(*operands: Any, **static: Any) -> Any:
    out = jax.eval_shape(lambda *arrays: function(*arrays, **static), *operands)
    return jax.core.ShapedArray(out.shape, out.dtype)

  def derivative(primals: Any, tangents: Any, **static: Any) -> Any:
    y = primitive.bind(*primals, **static)
    if isinstance(tangents[0], ad.Zero):
      return y, ad.Zero(jax.typeof(y).to_tangent_aval())
    return y, primitive.bind(tangents[0], *primals[1:], **static)

  def transpose(cotangent: Any, x: Any, *fixed: Any, **static: Any) -> Any:
    nothing = isinstance(cotangent, ad.Zero)
    along = ad.Zero(x.aval) if nothing else partner.bind(cotangent, *fixed, **static)
    return [along, *[None] * len(fixed)]

  def batch(arrays: Any, axes: Any, **static: Any) -> Any:
    size = next(a.shape[axis] for a, axis in zip(arrays, axes, strict=True) if axis is not None)
    front = lambda a, axis: (
      jnp.broadcast_to(a, (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
    )
    return primitive.bind(*map(front, arrays, axes), **static), 0

  primitive.def_impl(function)  # outside of jit
  primitive.def_abstract_eval(shape)
  ad.primitive_jvps[primitive] = derivative
  ad.primitive_transposes[primitive] = transpose
  batching.primitive_batchers[primitive] = batch
  mlir.register_lowering(primitive, mlir.lower_fun(function, multiple_results=False))
