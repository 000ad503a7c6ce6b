"""MetaOptNet: a support vector machine head, differentiated by its optimality.

Kwonjoon Lee, Subhransu Maji, Avinash Ravichandran, Stefano Soatto, Meta-Learning with
Differentiable Convex Optimization, CVPR 2019, arXiv:1904.03758. Implemented: the dual of the
Crammer-Singer machine (eqs. 6 and 7) by a quadratic-programming solver (qpax, a primal-dual
interior point method), and a learned scale of the outputs (eq. 12).
"""

from typing import Any

import jax
import jax.numpy as jnp

from metakit.heads.common import (
  ABSENT,
  check_positive,
  check_ways,
  inductive_head,
  members,
  precise,
  product,
)
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Objective, Params


def svm(
  ways: int,
  strength: float = 0.1,
  jitter: float = 1e-3,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """A multiclass linear support vector machine.

  With S support examples its dual has S times `ways` variables, and a solution costs their cube.

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
  """
  check_ways(ways)
  check_positive(strength=strength, jitter=jitter)
  solve = _solver()

  def init(key: Key, episode: Episode) -> Params:
    del key, episode
    return {'scale': jnp.float32(1)}

  def fit(key: Key, params: Params, support: Examples) -> Fitted:
    del key
    support = support._replace(x=precise(support.x))
    member = members(support, ways)
    present = member.sum(0) > 0
    dual = dual_solution(solve, support.x, jnp.sign(member), strength * member, jitter)
    return product(support.x.T, dual), params['scale'], present

  def classify(fitted: Fitted, z: jax.Array) -> jax.Array:
    weights, scale, present = fitted
    return jnp.where(present, scale * product(z, weights), ABSENT)

  return inductive_head(fit, classify, init, objective)


def dual_solution(
  solve: Any, x: jax.Array, labels: jax.Array, caps: jax.Array, jitter: float
) -> jax.Array:
  """Returns the dual variables alpha [examples, ways]: weights are x' alpha.

  They minimise 1/2 sum_k |x' alpha_k|^2 - sum labels alpha, where alpha <= caps and the rows of
  alpha sum to 0.

  Args:
    solve: qpax.solve_qp_primal.
    x: [examples, features].
    labels: [examples, ways] one-hot; a row of zeros leaves an example out.
    caps: C times labels.
    jitter: see `svm`.
  """
  examples, ways = labels.shape
  gram = product(x, x.T) + jitter * jnp.eye(examples, dtype=x.dtype)
  kernel = jnp.kron(gram, jnp.eye(ways, dtype=x.dtype))
  rows = jnp.kron(jnp.eye(examples, dtype=x.dtype), jnp.ones((1, ways), x.dtype))
  bounds = jnp.eye(examples * ways, dtype=x.dtype)
  zero = jnp.zeros(examples, x.dtype)
  given = kernel, -labels.ravel(), rows, zero, bounds, caps.ravel()
  # Derivatives are those of a problem relaxed by kappa, off by a fifth with qpax's default of 1e-3.
  tolerance = max(float(jnp.finfo(x.dtype).eps), 1e-11)
  return solve(*given, solver_tol=tolerance, target_kappa=tolerance / 10).reshape(labels.shape)


def _solver() -> Any:
  try:
    import qpax
  except ImportError:
    raise ValueError("the svm head needs qpax; pip install 'metakit[svm]'") from None
  return qpax.solve_qp_primal
