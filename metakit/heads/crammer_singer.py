"""The dual of Crammer and Singer's support vector machine, by a solver that uses its structure.

Its quadratic form is the kernel, once for each class: so one factor serves all classes and steps.

- First the alternating direction method of multipliers: Stephen Boyd, Neal Parikh, Eric Chu, Borja
  Peleato, Jonathan Eckstein, Distributed Optimization and Statistical Learning via the Alternating
  Direction Method of Multipliers, 2011, section 5, over-relaxed (3.19). A step is one product with
  the inverse of the kernel plus a diagonal, and a projection in closed form.
- Where that has not converged after `STEPS` steps (many examples of few features, whose classes
  overlap), a primal-dual interior point method: Sanjay Mehrotra, On the Implementation of a
  Primal-Dual Interior Point Method, SIAM J. Optim. 1992. A step factorises a matrix of examples for
  each class, and one for their sums.

Arrays are [ways, examples], so that sums over classes add whole rows.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metakit.linear_algebra import EXACT, cholesky, one_by_one, solve_lower

STEPS, INTERIOR_STEPS = 300, 60
RELAXATION = 1.6
STIFFNESS = 0.4  # of the splitting, as a share of the mean eigenvalue of the kernel
INSIDE = 0.99  # share of the way to the nearest bound
CLOSE = 32  # change of a step at which it ends, in units of rounding

Solver = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


class Problem(NamedTuple):
  """Minimise 1/2 sum_k a_k' gram a_k - sum labels a, where a <= caps and sum_k a_k = 0.

  Attributes:
    gram: [examples, examples], positive definite, and 1 on the diagonal of absent examples.
    labels: [ways, examples] one-hot; zeros where an example is absent.
    caps: [ways, examples], not negative, and 0 but for the label.
    present: [examples].
  """

  gram: jax.Array
  labels: jax.Array
  caps: jax.Array
  present: jax.Array


class Inside(NamedTuple):
  """A place of the interior point method.

  Attributes:
    alpha: [ways, examples].
    room: caps - alpha, positive.
    multiplier: of alpha <= caps, positive.
    level: [examples], the multipliers of the sums.
    step: how many steps were made.
    going: whether there are more to come.
  """

  alpha: jax.Array
  room: jax.Array
  multiplier: jax.Array
  level: jax.Array
  step: jax.Array
  going: jax.Array


@jax.custom_vjp
def crammer_singer(gram: jax.Array, labels: jax.Array, caps: jax.Array) -> jax.Array:
  """Returns the dual variables [examples, ways], differentiable by their optimality.

  Args:
    gram: [examples, examples], positive definite.
    labels: [examples, ways] one-hot; a row of zeros leaves an example out.
    caps: [examples, ways], C times labels.

  >>> found = jax.jit(crammer_singer)(jnp.eye(2), jnp.eye(2), 9 * jnp.eye(2))
  >>> found.round(3).tolist()  # their weights tell the classes apart by a margin of 1
  [[0.5, -0.5], [-0.5, 0.5]]
  """
  problem = _problem(gram, labels, caps)
  alpha, converged = _split(problem)
  return _inside(problem, alpha, converged).T


def _problem(gram: jax.Array, labels: jax.Array, caps: jax.Array) -> Problem:
  present = labels.sum(-1) > 0
  there = jnp.where(present[:, None] & present, gram, 0)
  there += jnp.diag(jnp.where(present, 0, 1).astype(gram.dtype))
  return Problem(there, labels.T, caps.T, present)


def _split(problem: Problem) -> tuple[jax.Array, jax.Array]:
  """Returns the solution [ways, examples] of the splitting, and whether it has converged."""
  gram, labels, caps, present = problem
  count = jnp.maximum(present.sum(), 1)
  stiffness = STIFFNESS * jnp.where(present, jnp.diagonal(gram), 0).sum() / count
  inverse = _inverse(gram + stiffness * jnp.eye(gram.shape[0], dtype=gram.dtype))
  # What is the same for all classes has no effect, and would converge slowly.
  right = jnp.where(present, labels - labels.mean(0), 0)
  close, size = CLOSE * jnp.finfo(gram.dtype).eps, jnp.linalg.norm(right)

  def on(carry):
    _, _, step, converged = carry
    return (step < STEPS) & ~converged

  def advance(carry):
    before, scaled, step, _ = carry
    free = jnp.matmul(right + stiffness * (before - scaled), inverse, precision=EXACT)
    relaxed = RELAXATION * free + (1 - RELAXATION) * before + scaled
    alpha = _nearest(relaxed, caps)
    apart = jnp.linalg.norm(free - alpha) <= close * jnp.linalg.norm(alpha)
    moved = stiffness * jnp.linalg.norm(alpha - before) <= close * size
    return alpha, relaxed - alpha, step + 1, apart & moved

  start = jnp.zeros_like(labels), jnp.zeros_like(labels), jnp.int32(0), jnp.bool_(False)
  alpha, _, _, converged = jax.lax.while_loop(on, advance, start)
  return alpha, converged


def _nearest(v: jax.Array, caps: jax.Array) -> jax.Array:
  """Returns the nearest points to v [ways, examples] that are at most caps, and sum to 0.

  They are min(v + t, caps), where t makes the sum 0. A class is below its cap if t is smaller than
  where that is reached, and there the sum is positive, since it rises with t.
  """
  reached = jnp.minimum(v[None] + (caps - v)[:, None], caps[None]).sum(1)
  below = reached > 0
  total = jnp.where(below, v, caps).sum(0)
  level = total / jnp.maximum(below.sum(0), 1)
  return jnp.where(below, v - level, caps)


@one_by_one  # few tasks need it
def _inside(problem: Problem, alpha: jax.Array, converged: jax.Array) -> jax.Array:
  """Returns the solution [ways, examples] of the interior point method; `alpha` if converged."""
  gram, labels, caps, present = problem
  pairs = labels.shape[0] * jnp.maximum(present.sum(), 1)
  accuracy = jnp.maximum(jnp.finfo(gram.dtype).eps, 1e-13)
  there = jnp.broadcast_to(present, labels.shape)

  def on(place: Inside) -> jax.Array:
    return place.going & (place.step < INTERIOR_STEPS)

  def advance(place: Inside) -> Inside:
    _, room, multiplier, level, _, _ = place
    lacking = labels - jnp.matmul(place.alpha, gram, precision=EXACT) - multiplier - level
    solve = _moves(gram, there, jnp.where(there, multiplier / room, 1))

    def direction(product: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
      """With which the products of room and multiplier change by so much."""
      rest = jnp.where(there, product / room, 0)
      move, rise = solve(lacking - rest, -place.alpha.sum(0))
      return move, rest + jnp.where(there, multiplier / room, 0) * move, rise

    products = room * multiplier
    move, change, _ = direction(-products)
    share = _share(room, -move, multiplier, change)
    ahead = (room - share * move) * (multiplier + share * change)
    mean = lambda products: jnp.where(there, products, 0).sum() / pairs
    aim = mean(products) * (mean(ahead) / mean(products)) ** 3
    move, change, rise = direction(aim - products + move * change)
    share = INSIDE * _share(room, -move, multiplier, change)
    room, multiplier = room - share * move, multiplier + share * change
    after = Inside(
      place.alpha + share * move,
      room,
      multiplier,
      level + share * rise,
      place.step + 1,
      place.going,
    )
    good = jnp.isfinite(after.alpha).all() & jnp.isfinite(multiplier).all() & (share > 1e-3)
    kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), after, place)
    value = (labels * kept.alpha).sum()
    return kept._replace(going=good & (pairs * mean(room * multiplier) > accuracy * value))

  total = caps.sum(0)
  room = jnp.where(there, total / len(caps), 1)
  first = jnp.where(there, caps - room, 0)
  slope = labels - jnp.matmul(first, gram, precision=EXACT)
  level = slope.min(0) - 1
  start = Inside(first, room, jnp.where(there, slope - level, 1), level, jnp.int32(0), ~converged)
  found = jax.lax.while_loop(on, advance, start)
  return jnp.where(converged, alpha, _nearest(found.alpha, caps))


def _share(room: jax.Array, away: jax.Array, multiplier: jax.Array, change: jax.Array) -> jax.Array:
  """Returns which share of a step, at most 1, leaves room and multipliers positive."""
  least = jnp.minimum((away / room).min(), (change / multiplier).min())
  return jnp.minimum(1, jnp.where(least < 0, -1 / least, 1))


def _moves(
  gram: jax.Array, free: jax.Array, stiffness: jax.Array
) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
  """Returns a solver of moves v [ways, examples], 0 where not free, and levels [examples].

  (right, sums) -> (v, level), where gram v_k + stiffness_k v_k + level = right_k in the free rows
  of each class k, and sum_k v_k = sums.

  Args:
    gram: [examples, examples].
    free: [ways, examples] bool.
    stiffness: [ways, examples], not negative.
  """

  def inverse_of(free: jax.Array, stiffness: jax.Array) -> jax.Array:
    both = free[:, None] & free
    system = jnp.where(both, gram, 0) + jnp.diag(jnp.where(free, stiffness, 1))
    return jnp.where(both, _inverse(system), 0)

  inverses = jax.vmap(inverse_of)(free, stiffness)
  idle = jnp.diag((~free.any(0)).astype(gram.dtype))
  of_levels = _inverse(inverses.sum(0) + idle)
  times = lambda v: jnp.einsum('kst,kt->ks', inverses, v, precision=EXACT)

  def solve(right: jax.Array, sums: jax.Array) -> tuple[jax.Array, jax.Array]:
    moved = times(right)
    level = jnp.matmul(of_levels, moved.sum(0) - sums, precision=EXACT)
    return moved - times(jnp.broadcast_to(level, right.shape)), level

  return solve


def _inverse(matrix: jax.Array) -> jax.Array:
  """Returns the inverse of a positive definite matrix [n, n]."""
  root = solve_lower(cholesky(matrix), jnp.eye(matrix.shape[0], dtype=matrix.dtype))
  return jnp.matmul(root.T, root, precision=EXACT)


def _forward(*problem: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
  alpha = crammer_singer(*problem)
  return alpha, (*problem, alpha)


def _pullback(
  kept: tuple[jax.Array, ...], slope: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns the slopes of gram, labels and caps, from that of the solution.

  Variables at their bound stay there, and the others solve linear equations (Brandon Amos, J. Zico
  Kolter, OptNet, ICML 2017, arXiv:1703.00443, section 3). A variable is at its bound if it is
  nearer to it than its multiplier is to 0. All variables of an absent example are.
  """
  gram, labels, caps, alpha = kept
  descent = labels - jnp.matmul(gram, alpha, precision=EXACT)
  multiplier = descent - descent.min(-1, keepdims=True)
  free = (caps - alpha >= multiplier) & (labels.sum(-1, keepdims=True) > 0)
  solve = _moves(gram, free.T, jnp.zeros_like(alpha.T))
  move = solve(slope.T, jnp.zeros_like(slope[:, 0]))[0].T
  left = slope - jnp.matmul(gram, move, precision=EXACT)
  number = jnp.maximum(free.sum(-1, keepdims=True), 1)
  level = jnp.where(free, left, 0).sum(-1, keepdims=True) / number
  bound = jnp.where(~free & free.any(-1, keepdims=True), left - level, 0)
  both = jnp.matmul(move, alpha.T, precision=EXACT)
  return -(both + both.T) / 2, move, bound


crammer_singer.defvjp(_forward, _pullback)
