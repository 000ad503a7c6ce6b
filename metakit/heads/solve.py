"""The minimum of a smooth convex function of one task, differentiable by its optimality."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax


def minimise(
  loss: Callable[[jax.Array], jax.Array], start: jax.Array, steps: int, tolerance: float
) -> jax.Array:
  """Returns the minimum, found by L-BFGS (optax).

  Its derivative with respect to whatever `loss` holds is that of the solution of grad loss = 0,
  found by conjugate gradients, whatever steps led there.

  Args:
    loss: x [...] -> scalar, convex.
    start: where to start.
    steps: at most so many.
    tolerance: of the length of the gradient, as a share of that at the start, at which to stop.
  """
  loss, held = jax.closure_convert(loss, start)
  still = jax.lax.stop_gradient(held)
  found = _descend(lambda x: loss(x, *still), start, steps, tolerance)
  found = found - _newton(loss, found, still)  # squares what error is left
  return found - _newton(loss, jax.lax.stop_gradient(found), held)  # 0, but for its derivative


def _newton(loss: Callable[..., jax.Array], x: jax.Array, held: Sequence[jax.Array]) -> jax.Array:
  """Returns the curvature's inverse times the slope at x."""
  slope = lambda x: jax.grad(loss)(x, *held)
  curvature = lambda v: jax.jvp(slope, (x,), (v,))[1]
  tolerance = 10 * jnp.finfo(x.dtype).eps
  return jax.scipy.sparse.linalg.cg(curvature, slope(x), tol=tolerance, maxiter=x.size)[0]


def _descend(
  loss: Callable[[jax.Array], jax.Array], start: jax.Array, steps: int, tolerance: float
) -> jax.Array:
  solver = optax.lbfgs()
  enough = tolerance * jnp.linalg.norm(jax.grad(loss)(start).ravel())

  def on(carry):
    _, state, step = carry
    slope = optax.tree.get(state, 'grad')
    return (step == 0) | ((step < steps) & (jnp.linalg.norm(slope.ravel()) > enough))

  def advance(carry):
    x, state, step = carry
    value, slope = optax.value_and_grad_from_state(loss)(x, state=state)
    updates, state = solver.update(slope, state, x, value=value, grad=slope, value_fn=loss)
    return optax.apply_updates(x, updates), state, step + 1

  return jax.lax.while_loop(on, advance, (start, solver.init(start), 0))[0]
