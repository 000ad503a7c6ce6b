"""A quadratic near the loss of a task, from the iterates of a descent.

Minyoung Kim, Timothy Hospedales, A Hierarchical Bayesian Model for Few-Shot Meta Learning, ICLR
2024, arXiv:2306.09702, take mean and inverse variance of the iterates of stochastic gradient
Langevin dynamics (Max Welling, Yee Whye Teh, ICML 2011). Only sums over the iterates are kept, so
memory does not grow with their number.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from metakit.learners.normal_inverse_wishart import Quadratic
from metakit.meta_gradient.inner import Inner
from metakit.types import Params

CURVATURES = ('variance', 'slope')
# (start, data, scale, kick) -> the quadratic, and the moments that it is made of.
Approximate = Callable[..., tuple[Quadratic, 'Moments']]


class Moments(NamedTuple):
  """Of iterates and their gradients, so far; iterates are counted from the start of the descent.

  Attributes:
    number: how many there are [].
    point: mean of the iterates [d].
    slope: mean of the gradients [d].
    square: sum of squared differences of the iterates from their mean [d].
    product: sum of the products with those of the gradients [d].
  """

  number: jax.Array
  point: jax.Array
  slope: jax.Array
  square: jax.Array
  product: jax.Array


def _observe(so_far: Moments, point: jax.Array, slope: jax.Array, use: jax.Array) -> Moments:
  """Welford's update, so that no iterate has to be kept; `use` [] is 0 for one that is not used."""
  count = so_far.number + use
  share = use / jnp.maximum(count, 1)
  away = point - so_far.point
  mean = so_far.point + share * away
  mean_slope = so_far.slope + share * (slope - so_far.slope)
  square = so_far.square + use * away * (point - mean)
  product = so_far.product + use * away * (slope - mean_slope)
  return Moments(count, mean, mean_slope, square, product)


def approximating(
  inner: Inner,
  steps: int,
  *,
  curvature: str = 'variance',
  burn_in: int = 0,
  most: float = 1e3,
) -> Approximate:
  """Returns (start, data, scale, kick=None) -> (Quadratic, Moments) of `scale` times a loss.

  Nothing is to be differentiated through it. `kick` (weights, step) -> weights adds noise.

  Args:
    inner: the inner problem, whose loss that is.
    steps: steps of the descent.
    curvature: 'variance': the precision is the inverse variance of the iterates, and the minimum is
      their mean. 'slope': both are those of the line through gradient over iterate, for each weight
      by itself. This is exact for a quadratic that is diagonal.
    burn_in: first iterates that do not count.
    most: the largest precision.

  Raises:
    ValueError: for an unknown curvature, or if no iterate is left.

  >>> import optax
  >>> from metakit.meta_gradient.inner import by_optax
  >>> inner = by_optax(lambda fast, slow, data, step: 2 * (fast - data) ** 2, optax.sgd(0.1))
  >>> run = jax.jit(approximating(inner, 3, curvature='slope'))
  >>> quadratic, _ = run(jnp.zeros(()), jnp.array(5.0), 1.0)
  >>> f'{quadratic.precision[0]:.3f}, {quadratic.linear[0] / quadratic.precision[0]:.3f}'
  '4.000, 5.000'
  """
  if curvature not in CURVATURES:
    raise ValueError(f'curvature={curvature!r} is unknown; use one of {", ".join(CURVATURES)}')
  if not 0 <= burn_in < steps:
    raise ValueError(f'burn_in={burn_in} of {steps} steps leaves no iterate; use 0 to {steps - 1}')
  after = curvature == 'variance'  # the gradient at the last iterate is not known
  flat = lambda tree: in_full(ravel_pytree(tree)[0])

  def run(
    start: Params, data: Any, scale: Any, kick: Callable[..., Params] | None = None
  ) -> tuple[Quadratic, Moments]:
    origin = flat(start)

    def step(carry: Any, number: jax.Array) -> tuple[Any, None]:
      weights, state, moments = carry
      slope = jax.grad(inner.loss)(weights, {}, data, number)
      moved, state = inner.update(slope, state, weights, {}, number)
      moved = moved if kick is None else kick(moved, number)
      point = flat(moved if after else weights) - origin
      use = (number >= burn_in).astype(origin.dtype)
      return (moved, state, _observe(moments, point, flat(slope), use)), None

    none = jnp.zeros_like(origin)
    begin = start, inner.init(start, {}), Moments(none.sum(), none, none, none, none)
    moments = jax.lax.scan(step, begin, jnp.arange(steps))[0][2]
    make = _by_variance if after else _by_slope
    return make(origin + moments.point, moments, scale=scale, most=most), moments

  return run


def _by_variance(point: jax.Array, moments: Moments, *, scale: Any, most: float) -> Quadratic:
  del scale  # the noise of the descent knows it
  precision = 1 / jnp.maximum(moments.square / moments.number, 1 / most)
  return Quadratic(precision, precision * point)


def _by_slope(point: jax.Array, moments: Moments, *, scale: Any, most: float) -> Quadratic:
  tiny = jnp.finfo(point.dtype).tiny
  slope = scale * moments.product / jnp.maximum(moments.square, tiny)
  precision = jnp.clip(slope, 0, most)
  return Quadratic(precision, precision * point - scale * moments.slope)


def in_full(flat: jax.Array) -> jax.Array:
  """Returns numbers in single precision at least, in which many can be summed.

  >>> in_full(jnp.ones(2, jnp.bfloat16)).dtype
  dtype('float32')
  """
  return flat.astype(jnp.promote_types(flat.dtype, jnp.float32))
