"""Which arrays networks and learners take, and in which form."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def as_array(x: Any) -> Any:
  """Returns an input in the form that JAX computes with.

  NumPy arrays get the machine's byte order and, without x64, 32 bits. Other inputs are unchanged.

  Raises:
    ValueError: for a list of numbers, or an array of objects or texts.
  """
  if isinstance(x, list | tuple) and any(np.ndim(leaf) == 0 for leaf in jax.tree.leaves(x)):
    raise ValueError(
      f'an input is a {type(x).__name__} of {len(x)}; give one array [examples, ...], '
      'numpy.asarray(x) for instance'
    )
  if not isinstance(x, np.ndarray):
    return x
  try:
    return jnp.asarray(x if x.dtype.isnative else x.astype(x.dtype.newbyteorder('=')))
  except TypeError as error:
    raise ValueError(
      f'an input is an array of {x.dtype}, which is no number; give integers or floats '
      '[examples, ...]'
    ) from error


def as_float(x: jax.Array) -> jax.Array:
  """Casts uint8 images to float32 in [0, 1], other integers to float32; floats pass unchanged."""
  x = as_array(x)
  if x.dtype == jnp.uint8:
    return x.astype(jnp.float32) / 255
  return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.float32)


def native(tree: Any) -> Any:
  """Returns the pytree with all NumPy arrays in the machine's byte order."""
  foreign = lambda leaf: isinstance(leaf, np.ndarray) and not leaf.dtype.isnative
  swap = lambda leaf: leaf.astype(leaf.dtype.newbyteorder('=')) if foreign(leaf) else leaf
  return jax.tree.map(swap, tree)


def shape_of(x: Any) -> str:
  """Returns the shape of an input, or its type if it has no shape."""
  return str(tuple(x.shape)) if hasattr(x, 'shape') else type(x).__name__
