"""The implicit derivative of an inner minimum.

Aravind Rajeswaran, Chelsea Finn, Sham Kakade, Sergey Levine, Meta-Learning with Implicit Gradients,
NeurIPS 2019, arXiv:1909.04630. The inner loop minimises

    g(fast, slow) = loss + proximal / 2 |fast - start|^2.

At a minimum the gradient of g is zero, whatever slow is. So the implicit function theorem gives the
gradients. Let v be the cotangent of the minimum, and u the solution of (d^2 g / dfast^2) u = v:

- the gradient with respect to slow is -(d^2 g / dslow dfast)^T u;
- the gradient with respect to start is u times the proximal strength, (I + H / lambda)^{-1} v
  (lemma 1 of the paper).

Nothing of the loop is kept. Conjugate gradients solve the linear system, as in the paper, or a
Neumann series does (Lorraine, Vicol, Duvenaud, AISTATS 2020, arXiv:1911.02590). What shapes only
the path to the minimum, such as learning rates, has no gradient.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.scipy.sparse.linalg import cg

from metakit.meta_gradient.inner import Data, Fast, Inner, Mode, Slow, Solution, Solve, anchored
from metakit.meta_gradient.loops import constant, join_floats, no_tangent, split_floats
from metakit.types import Key

# (matrix-vector product, v) -> u with product(u) = v, approximately.
LinearSolver = Callable[[Callable[[Any], Any], Any], Any]


def conjugate_gradient(iterations: int = 10, tolerance: float = 1e-10) -> LinearSolver:
  """Solves by conjugate gradients that start at 0; the system should be positive definite.

  Args:
    iterations: the most that are done; each is one Hessian-vector product.
    tolerance: the residual at which to stop, relative to v.

  Raises:
    ValueError: for no iteration.

  >>> product = lambda v: jnp.array([1.0, 4.0]) * v
  >>> solution = jax.jit(lambda v: conjugate_gradient(2)(product, v))(jnp.array([1.0, 1.0]))
  >>> [f'{value:.2f}' for value in solution]
  ['1.00', '0.25']
  """
  _check(iterations)

  return lambda product, v: cg(product, v, tol=tolerance, maxiter=iterations)[0]


def neumann(iterations: int = 10, rate: float = 0.1) -> LinearSolver:
  """rate * sum_i (I - rate * product)^i v, the first `iterations` terms.

  Args:
    iterations: terms; each but the first is one Hessian-vector product.
    rate: less than 2 over the largest eigenvalue; otherwise the series diverges.

  Raises:
    ValueError: for no iteration.

  >>> solve = lambda terms: neumann(terms, rate=0.2)(lambda v: 4 * v, jnp.float32(1))
  >>> [f'{solve(terms):.3f}' for terms in (1, 2, 10)]  # towards 1 / 4
  ['0.200', '0.240', '0.250']
  """
  _check(iterations)

  def solve(product: Callable[[Any], Any], v: Any) -> Any:
    def add(carry: Any, _: None) -> Any:
      term, total = carry
      term = jax.tree.map(lambda a, b: a - rate * b, term, product(term))
      return (term, jax.tree.map(jnp.add, total, term)), None

    (_, total), _ = jax.lax.scan(add, (v, v), None, length=iterations - 1)
    return jax.tree.map(lambda a: rate * a, total)

  return solve


def _check(iterations: int) -> None:
  if iterations < 1:
    raise ValueError(f'iterations={iterations} solves nothing; use 1 or more')


def implicit(solver: LinearSolver | None = None) -> Mode:
  """The derivative of the inner minimum, exact as far as the inner loop has converged.

  Args:
    solver: solver of the linear system; conjugate_gradient() by default.

  Returns:
    A Mode. It raises ValueError for an Inner with a readout, or without a proximal term. Without
    that term the minimum would not depend on where the loop starts, and the system might have no
    solution.

  >>> from metakit.meta_gradient import by_optax
  >>> inner = by_optax(lambda fast, slow, data, step: fast**2, optax.sgd(0.2), proximal=1.0)
  >>> end = lambda start: implicit()(inner)(None, start, {}, None, 9).fast
  >>> f'{jax.jit(jax.grad(end))(1.0):.3f}'  # the minimum is at a third of the start
  '0.333'
  """
  solver = solver or conjugate_gradient()

  def build(inner: Inner) -> Solve:
    if not inner.proximal:
      raise ValueError(
        'mode implicit differentiates the minimum of a proximal inner loss, and this learner has '
        'none; use proximal > 0 (imaml), or mode mixed'
      )
    if inner.readout is not None:
      raise ValueError(
        'mode implicit knows the end of the inner loop alone, and this learner reads every step; '
        'use mode mixed'
      )
    return _implicit(inner, solver)

  return build


def _implicit(inner: Inner, solver: LinearSolver) -> Solve:
  loss, loop = anchored(inner), constant(inner)

  def solve(key: Key, fast: Fast, slow: Slow, data: Data, steps: int) -> Solution:
    @jax.custom_vjp
    def minimum(start, slow, data):
      return loop(key, start, slow, data, steps).fast

    def forward(start, slow, data):
      end = minimum(start, slow, data)
      return end, (end, start, slow, data)

    def backward(kept, cotangent):
      product, pulled = _system(loss, *kept)
      return pulled(solver(product, cotangent))

    minimum.defvjp(forward, backward)
    end = minimum(fast, slow, data)

    def pull(cotangent):
      product, pulled = _system(loss, *jax.lax.stop_gradient((end, fast, slow, data)))
      u = solver(product, cotangent)
      left = optax.tree.sub(product(u), cotangent)
      least = jnp.finfo(jnp.float32).tiny
      norm = jnp.maximum(optax.tree.norm(cotangent), least)
      return pulled(u)[:2], optax.tree.norm(left) / norm

    return Solution(end, pull=pull)

  return solve


def _system(
  loss: Callable[..., jax.Array], end: Fast, start: Fast, slow: Slow, data: Data
) -> tuple[Callable[[Fast], Fast], Callable[[Fast], tuple[Any, Any, Any]]]:
  """Returns the product with the Hessian, and u -> cotangents of start, slow and data."""
  floats, others = split_floats(((slow, start), data))

  def slope(end: Fast, floats: Any) -> Fast:
    fixed, data = join_floats(floats, others)
    return jax.grad(loss)(end, fixed, data, None)

  def pulled(u: Fast) -> tuple[Any, Any, Any]:
    (mixed,) = jax.vjp(lambda f: slope(end, f), floats)[1](u)
    negative = jax.tree.map(jnp.negative, mixed)
    (for_slow, for_start), for_data = join_floats(negative, jax.tree.map(no_tangent, others))
    return for_start, for_slow, for_data

  return _derivative(lambda e: slope(e, floats), end), pulled


def _derivative(slope: Callable[[Fast], Fast], end: Fast) -> Callable[[Fast], Fast]:
  """Returns the product with the derivative of `slope` at `end`, a Hessian.

  What does not depend on the factor is computed once for all products.
  """
  return jax.linearize(slope, end)[1]
