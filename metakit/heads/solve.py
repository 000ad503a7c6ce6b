"""The minimum of a smooth convex function of one task, differentiable by its optimality."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Loss = Callable[[jax.Array], jax.Array]  # x [...] -> scalar

# Residual of a Newton step, as a share of the slope. The error of the solution is then smaller than
# that which Newton's method makes in any case.
ENOUGH = 1e-3
HALVINGS = 40  # after so many a step is smaller than rounding
DECREASE = 0.1  # share of the decrease that the slope promises


class Place(NamedTuple):
  """Where a descent is.

  Attributes:
    x: [...].
    value: value of the loss, [].
    slope: its gradient, [...].
  """

  x: jax.Array
  value: jax.Array
  slope: jax.Array


def minimise(loss: Loss, start: jax.Array, steps: int, *, tolerance: float) -> jax.Array:
  """Returns the minimum, found by Newton's method with conjugate gradients and a line search.

  Steps that do not lower the loss, or are not finite, are not taken. The derivative with respect to
  whatever `loss` holds is that of the solution of grad loss = 0, found by conjugate gradients,
  whatever steps led there.

  Jorge Nocedal, Stephen J. Wright, Numerical Optimization, 2006, algorithm 7.1; the acceptance of
  steps where the loss changes by rounding alone is the approximate Wolfe condition of William W.
  Hager, Hongchao Zhang, A New Conjugate Gradient Method, SIAM J. Optim. 2005, eq. 1.6.

  Args:
    loss: x [...] -> scalar, convex.
    start: where to start.
    steps: at most so many.
    tolerance: the length of a step, as a share of that of x, after which to stop. Unlike a length
      of the slope it does not depend on the units of the loss or of x.
  """
  plain, held = jax.closure_convert(loss, start)
  still = jax.lax.stop_gradient(held)
  return at_minimum(loss, descend(lambda x: plain(x, *still), start, steps, tolerance=tolerance))


def at_minimum(loss: Loss, minimum: jax.Array, least: jax.Array | float = 0.0) -> jax.Array:
  """Returns a minimum that was found, with its derivative, see `minimise`.

  Args:
    loss: convex.
    minimum: its minimum.
    least: added to the curvature in the derivative: the rounding of a curvature that may vanish.
  """
  minimum = jax.lax.stop_gradient(minimum)
  slope = jax.grad(loss)
  curvature = lambda v: jax.jvp(slope, (minimum,), (v,))[1] + jax.lax.stop_gradient(least) * v
  step = _conjugate(curvature, slope(minimum), 10 * float(jnp.finfo(minimum.dtype).eps))
  # What is subtracted is zero, but its derivative is not.
  return minimum - (step - jax.lax.stop_gradient(step))


def _conjugate(
  curvature: Callable[[jax.Array], jax.Array], right: jax.Array, tolerance: float
) -> jax.Array:
  def solve(product, right):
    # The right-hand side is scaled, since squares of less than 1e-19 vanish in float32. A power of
    # two changes no digit.
    _, exponent = jnp.frexp(jnp.abs(right).max())
    scaled = jnp.ldexp(right, -exponent)
    found = jax.scipy.sparse.linalg.cg(product, scaled, tol=tolerance, maxiter=right.size)[0]
    return jnp.ldexp(found, exponent)

  return jax.lax.custom_linear_solve(curvature, right, solve, symmetric=True)


def descend(loss: Loss, start: jax.Array, steps: int, *, tolerance: float) -> jax.Array:
  """Returns the minimum, which has no derivative. Args as `minimise`."""
  at = lambda x: Place(x, *jax.value_and_grad(loss)(x))

  def on(carry):
    _, step, going = carry
    return going & (step < steps)

  def advance(carry):
    here, step, _ = carry
    _, curvature = jax.linearize(jax.grad(loss), here.x)
    move = -_conjugate(curvature, here.slope, ENOUGH)
    there, share = _search(at, here, move)
    arrived = share * _length(move) <= tolerance * _length(there.x)
    still = jnp.abs(there.value - here.value) <= _rounding(here)
    stuck = still & (_length(there.slope) >= _length(here.slope))
    return there, step + 1, ~(arrived | stuck)

  first = at(start), jnp.int32(0), jnp.bool_(True)
  return jax.lax.while_loop(on, advance, first)[0].x


def _search(
  at: Callable[[jax.Array], Place], here: Place, move: jax.Array
) -> tuple[Place, jax.Array]:
  """Returns the first of `move`, half of it, ... that lowers the loss, and which share it is.

  Where none does it is the place itself, and 0.
  """
  promised = jnp.vdot(here.slope, move)

  def lowers(there: Place, share: jax.Array) -> jax.Array:
    plain = there.value <= here.value + DECREASE * share * promised
    flat = (there.value <= here.value + _rounding(here)) & (
      jnp.vdot(there.slope, move) <= (2 * DECREASE - 1) * promised
    )
    finite = jnp.isfinite(there.value) & jnp.isfinite(there.slope).all()
    return finite & (plain | flat)

  def halve(carry):
    share, count, _ = carry
    return share / 2, count + 1, at(here.x + share / 2 * move)

  one = jnp.ones((), here.x.dtype)
  share, _, there = jax.lax.while_loop(
    lambda carry: (carry[1] < HALVINGS) & ~lowers(carry[2], carry[0]),
    halve,
    (one, jnp.int32(0), at(here.x + move)),
  )
  good = lowers(there, share)
  taken = jax.tree.map(lambda a, b: jnp.where(good, a, b), there, here)
  return taken, jnp.where(good, share, 0)


def _rounding(place: Place) -> jax.Array:
  return 16 * jnp.finfo(place.value.dtype).eps * jnp.abs(place.value)


def _length(x: jax.Array) -> jax.Array:
  return jnp.linalg.norm(x.ravel())
