"""A transformer that makes one feature vector of those of several experts."""

from typing import Any

import jax
import jax.numpy as jnp

from metakit.models import Model
from metakit.networks.attention import softmax_attention
from metakit.networks.transformer import Block
from metakit.types import Key, Params


def over_experts(heads: int = 4) -> Model:
  """One pre-norm block over the experts, the same for each example, then their mean.

  Args:
    heads: of attention. They must divide the number of features.

  Returns:
    A Model of (features [experts, examples, width], present [experts] bool). Its outputs are
    [examples, width]. An expert that is not present has no effect.

  Raises:
    ValueError: at init, if heads do not divide the width.

  >>> model, z = over_experts(heads=2), jax.ShapeDtypeStruct((3, 5, 8), 'float32')
  >>> present = jnp.array([True, False, True])
  >>> params = jax.eval_shape(model.init, jax.random.key(0), z, present)
  >>> jax.eval_shape(model.apply, params, z, present).shape
  (5, 8)
  """

  def of_width(width: int) -> Block:
    if heads < 1 or width % heads:
      raise ValueError(
        f'heads={heads} does not divide the {width} features of an expert; use a divisor of {width}'
      )
    return Block(softmax_attention(causal=False), heads, 2 * width, None)

  def given(z: jax.Array, present: jax.Array) -> tuple[Any, ...]:
    asked, seen = jnp.zeros((0, z.shape[-1]), z.dtype), jnp.zeros(0, jnp.int32)
    return (z, asked), None, seen, present

  def init(key: Key, features: jax.Array, present: jax.Array) -> Params:
    z = jnp.zeros((features.shape[0], features.shape[2]), features.dtype)
    return of_width(features.shape[2]).init(key, *given(z, present))

  def apply(
    params: Params, features: jax.Array, present: jax.Array, weight: Any = None
  ) -> jax.Array:
    del weight  # examples do not influence one another
    block = of_width(features.shape[2])
    read = lambda z: block.apply(params, *given(z, present))[0][0]
    read_all = jax.vmap(read, in_axes=1, out_axes=1)(features)
    share = present / jnp.maximum(present.sum(), 1)
    return jnp.einsum('m,mef->ef', share.astype(read_all.dtype), read_all)

  return Model(init, apply)
