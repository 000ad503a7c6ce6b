"""Kernels of Gaussian processes, of variance 1.

Those of the synthetic data of Gordon et al. 2020 (arXiv:1910.13556, appendix C.2), with the
settings of Bruinsma's neuralprocesses package where the length scale is 0.25.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Kernel = Callable[[jax.Array, jax.Array], jax.Array]  # (x [n, inputs], x [m, inputs]) -> [n, m]


def squared_distances(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns |a - b|^2 of each pair, [n, m].

  >>> squared_distances(jnp.array([[0.0]]), jnp.array([[1.0], [3.0]])).tolist()
  [[1.0, 9.0]]
  """
  return jnp.square(a[:, None] - b[None]).sum(-1)


def eq(length_scale: float) -> Kernel:
  """exp(-d^2 / (2 l^2)).

  >>> f'{eq(1.0)(jnp.zeros((1, 1)), jnp.ones((1, 1)))[0, 0]:.4f}'
  '0.6065'
  """
  return lambda a, b: jnp.exp(-squared_distances(a, b) / (2 * length_scale**2))


def matern52(length_scale: float) -> Kernel:
  """(1 + r + r^2 / 3) exp(-r), r = sqrt(5) d / l.

  >>> f'{matern52(1.0)(jnp.zeros((1, 1)), jnp.ones((1, 1)))[0, 0]:.4f}'
  '0.5240'
  """

  def kernel(a: jax.Array, b: jax.Array) -> jax.Array:
    r = jnp.sqrt(5 * squared_distances(a, b)) / length_scale
    return (1 + r + jnp.square(r) / 3) * jnp.exp(-r)

  return kernel


def weakly_periodic(length_scale: float) -> Kernel:
  """exp(-d^2 / (2 (2 l)^2)) exp(-2 sum_i sin^2(pi d_i / l)): a period of l, forgotten over 2 l.

  >>> k = weakly_periodic(1.0)(jnp.zeros((1, 1)), jnp.array([[0.5], [1.0]]))
  >>> [f'{value:.4f}' for value in k[0]]  # half a period away, and a period away
  ['0.1312', '0.8825']
  """

  def kernel(a: jax.Array, b: jax.Array) -> jax.Array:
    waves = jnp.square(jnp.sin((a[:, None] - b[None]) * (jnp.pi / length_scale))).sum(-1)
    return eq(2 * length_scale)(a, b) * jnp.exp(-2 * waves)

  return kernel


KERNELS = {'eq': eq, 'matern52': matern52, 'weakly_periodic': weakly_periodic}
