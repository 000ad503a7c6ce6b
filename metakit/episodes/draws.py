"""Random numbers of episodes, which are the same with and without float64.

JAX draws other numbers in float64 than in float32, and other integers in 64 bits than in 32. So all
numbers of an episode are drawn in 32 bits, and then converted to the precision of the process.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from metakit.types import Key


def normal(key: Key, shape: Sequence[int] = ()) -> jax.Array:
  """Returns standard normal numbers [shape]."""
  return _precise(jax.random.normal(key, shape, jnp.float32))


def uniform(
  key: Key, shape: Sequence[int] = (), minval: float = 0.0, maxval: float = 1.0
) -> jax.Array:
  """Returns numbers [shape] between minval and maxval."""
  return _precise(jax.random.uniform(key, shape, jnp.float32, minval, maxval))


def integers(key: Key, shape: Sequence[int], minval: Any, maxval: Any) -> jax.Array:
  """Returns int32 numbers [shape] from minval to maxval - 1."""
  return jax.random.randint(key, shape, minval, maxval, jnp.int32)


def coin(key: Key) -> jax.Array:
  """Returns True or False [], equally likely."""
  return jax.random.bernoulli(key, jnp.float32(0.5))


def signs(key: Key, shape: Sequence[int]) -> jax.Array:
  """Returns -1 or 1 [shape], equally likely."""
  return _precise(2 * jax.random.bernoulli(key, jnp.float32(0.5), shape) - 1)


def choice(key: Key, logits: jax.Array) -> jax.Array:
  """Returns int32 numbers drawn by the logits on the last axis."""
  return jax.random.categorical(key, jnp.asarray(logits, jnp.float32)).astype(jnp.int32)


def log_gamma(key: Key, concentration: float, shape: Sequence[int]) -> jax.Array:
  """Returns the logarithms of gamma-distributed numbers [shape]."""
  return _precise(jax.random.loggamma(key, concentration, shape, jnp.float32))


def _precise(x: jax.Array) -> jax.Array:
  return x.astype(jnp.result_type(float))
