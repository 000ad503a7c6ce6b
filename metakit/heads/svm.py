"""MetaOptNet: a support vector machine head, differentiated by its optimality.

Kwonjoon Lee, Subhransu Maji, Avinash Ravichandran, Stefano Soatto, Meta-Learning with
Differentiable Convex Optimization, CVPR 2019, arXiv:1904.03758. Implemented: the dual of the
Crammer-Singer machine (eqs. 6 and 7) by a quadratic-programming solver (qpax, a primal-dual
interior point method), and a learned scale of the outputs (eq. 12).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metakit.heads.common import (
  ABSENT,
  check_positive,
  check_ways,
  inductive_head,
  members,
  product,
)
from metakit.linear_algebra import EXACT, one_by_one, solve_positive, with_ridge
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Objective, Params

Solver = Callable[..., jax.Array]


def svm(
  ways: int,
  strength: float = 0.1,
  jitter: float = 1e-3,
  *,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """A multiclass linear support vector machine.

  With S support examples its dual has S times `ways` variables, and a solution costs their cube.
  In float32 the solver leaves slacks of 3e-4 of its units: where classes overlap and C times the
  squared length of features is above 1e4, normalise features (how=l2n), lower C, or use float64.

  Args:
    ways: classes of an episode.
    strength: C, of the hinge losses.
    jitter: added to the diagonal of the kernel, so that it is not singular; released code of the
      paper adds 1, which is not small beside features of length 1.
    objective: the training loss.

  Returns:
    A head; fitted = (weights [features, ways], scale, present [ways]).

  Raises:
    ValueError: if the strength is not positive, ways are below 2, or qpax is not installed.

  >>> x, y = jax.ShapeDtypeStruct((10, 64), 'float32'), jax.ShapeDtypeStruct((10,), 'int32')
  >>> adapt = svm(ways=5).adapt
  >>> jax.eval_shape(adapt, jax.random.key(0), {'scale': 1.0}, Examples(x, y))[0].shape
  (64, 5)
  """
  check_ways(ways)
  check_positive(strength=strength, jitter=jitter)
  solve = _solver()

  def init(key: Key, episode: Episode) -> Params:
    del key, episode
    return {'scale': jnp.float32(1)}

  def fit(key: Key, params: Params, support: Examples) -> Fitted:
    del key
    member = members(support, ways)
    present = member.sum(0) > 0
    dual = dual_solution(solve, support.x, jnp.sign(member), caps=strength * member, jitter=jitter)
    return product(support.x.T, dual), params['scale'], present

  def classify(fitted: Fitted, z: jax.Array) -> jax.Array:
    weights, scale, present = fitted
    return jnp.where(present, scale * product(z, weights), ABSENT)

  return inductive_head(fit, classify, init, objective=objective)


def dual_solution(
  solve: Solver, x: jax.Array, labels: jax.Array, *, caps: jax.Array, jitter: float
) -> jax.Array:
  """Returns the dual variables alpha [examples, ways]: weights are x' alpha.

  They minimise 1/2 sum_k |x' alpha_k|^2 - sum labels alpha, where alpha <= caps and the rows of
  alpha sum to 0.

  The solver's tolerance is absolute, so that it is given the same problem in other units: alpha is
  `unit` times a variable of size 1, as is the kernel.

  Args:
    solve: see `_solver`.
    x: [examples, features].
    labels: [examples, ways] one-hot; a row of zeros leaves an example out.
    caps: C times labels.
    jitter: see `svm`.
  """
  square = (labels.sum(-1) * jnp.square(x).sum(-1)).sum() / jnp.maximum(labels.sum(), 1)
  largest = jnp.maximum(caps.max(), jnp.finfo(x.dtype).tiny)
  unit = jax.lax.stop_gradient(1 / (square + jitter + 1 / largest))
  gram = unit * with_ridge(product(x, x.T), jitter)
  return unit * solve(gram, labels, caps / unit)


def _solver() -> Solver:
  """Returns a solver of the scaled dual, (gram, labels, caps) -> alpha [examples, ways].

  On a CPU, tasks under vmap are solved one after the other, see metakit.linear_algebra.
  """
  try:
    import qpax
  except ImportError:
    raise ValueError("the svm head needs qpax; pip install 'metakit[svm]'") from None

  def minimum(gram: jax.Array, labels: jax.Array, caps: jax.Array) -> jax.Array:
    tolerance = max(float(jnp.finfo(gram.dtype).eps), 1e-11)
    problem = _program(gram, labels, caps)
    return qpax.solve_qp_primal(*problem, solver_tol=tolerance).reshape(labels.shape)

  def forward(*problem: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    alpha = one_by_one(minimum)(*problem)
    return alpha, (*problem, alpha)

  solve = jax.custom_vjp(one_by_one(minimum))
  solve.defvjp(forward, _pullback)
  return solve


def _program(gram: jax.Array, labels: jax.Array, caps: jax.Array) -> tuple[jax.Array, ...]:
  """Returns (Q, q, A, b, G, h) of: minimise 1/2 v'Qv + q'v where Av = b and Gv <= h."""
  examples, ways = labels.shape
  kernel = jnp.kron(gram, jnp.eye(ways, dtype=gram.dtype))
  rows = jnp.kron(jnp.eye(examples, dtype=gram.dtype), jnp.ones((1, ways), gram.dtype))
  most = jnp.maximum(caps.ravel(), 1)
  bounds, least = jnp.diag(1 / most), caps.ravel() / most
  return kernel, -labels.ravel(), rows, jnp.zeros(examples, gram.dtype), bounds, least


def _pullback(
  kept: tuple[jax.Array, ...], slope: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns the slopes of gram, labels and caps, from that of the solution.

  Variables at their bound stay there, and the others solve linear equations (Brandon Amos, J. Zico
  Kolter, OptNet, ICML 2017, arXiv:1703.00443, section 3). A variable is at its bound if it is
  nearer to it than its multiplier is to 0. All variables of an absent example are.
  """
  gram, labels, caps, alpha = kept
  examples, ways = labels.shape
  descent = labels - product(gram, alpha)
  multiplier = descent - descent.min(-1, keepdims=True)
  free = ((caps - alpha >= multiplier) & (labels.sum(-1, keepdims=True) > 0)).astype(gram.dtype)
  number = jnp.maximum(free.sum(-1), 1)[:, None, None]
  # Onto moves of the free variables of each example that leave their sum as it is.
  onto = jax.vmap(jnp.diag)(free) - free[:, :, None] * free[:, None] / number
  system = jnp.einsum('st,skm,tml->sktl', gram, onto, onto, precision=EXACT)
  rest = jnp.eye(ways, dtype=gram.dtype) - onto
  system += jnp.einsum('st,skl->sktl', jnp.eye(examples, dtype=gram.dtype), rest)
  project = lambda v: jnp.einsum('skl,sl->sk', onto, v, precision=EXACT)
  size = examples * ways
  move = project(
    solve_positive(system.reshape(size, size), project(slope).ravel()).reshape(slope.shape)
  )
  left = slope - product(gram, move)
  level = (free * left).sum(-1, keepdims=True) / number[..., 0]
  bound = jnp.where((free == 0) & (free.sum(-1, keepdims=True) > 0), left - level, 0)
  both = product(move, alpha.T)
  return -(both + both.T) / 2, move, bound
