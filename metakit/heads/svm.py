"""MetaOptNet: a support vector machine head, differentiated by its optimality.

Kwonjoon Lee, Subhransu Maji, Avinash Ravichandran, Stefano Soatto, Meta-Learning with
Differentiable Convex Optimization, CVPR 2019, arXiv:1904.03758. Implemented: the dual of the
Crammer-Singer machine (eqs. 6 and 7), whose solution is differentiated by its optimality
(metakit.heads.crammer_singer), and a learned scale of the outputs (eq. 12).
"""

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
from metakit.heads.crammer_singer import crammer_singer
from metakit.linear_algebra import with_ridge
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Objective, Params


def svm(
  ways: int,
  strength: float = 0.1,
  jitter: float = 1e-3,
  *,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """A multiclass linear support vector machine.

  A solution costs the cube of the support examples, and some thirty products of their square and
  `ways`. Where classes of many examples overlap it costs the cube for each class and some ten
  steps. In float32 that leaves slacks of 3e-4 of its units: where also C times the squared length
  of features is above 1e4, normalise features (how=l2n), lower C, or use float64.

  Args:
    ways: classes of an episode.
    strength: C, of the hinge losses.
    jitter: added to the diagonal of the kernel, so that it is not singular; released code of the
      paper adds 1, which is not small beside features of length 1.
    objective: the training loss.

  Returns:
    A head; fitted = (weights [features, ways], scale, present [ways]).

  Raises:
    ValueError: if the strength is not positive, or ways are below 2.

  >>> x, y = jax.ShapeDtypeStruct((10, 64), 'float32'), jax.ShapeDtypeStruct((10,), 'int32')
  >>> adapt = svm(ways=5).adapt
  >>> jax.eval_shape(adapt, jax.random.key(0), {'scale': 1.0}, Examples(x, y))[0].shape
  (64, 5)
  """
  check_ways(ways)
  check_positive(strength=strength, jitter=jitter)

  def init(key: Key, episode: Episode) -> Params:
    del key, episode
    return {'scale': jnp.float32(1)}

  def fit(key: Key, params: Params, support: Examples) -> Fitted:
    del key
    member = members(support, ways)
    present = member.sum(0) > 0
    dual = dual_solution(support.x, jnp.sign(member), caps=strength * member, jitter=jitter)
    return product(support.x.T, dual), params['scale'], present

  def classify(fitted: Fitted, z: jax.Array) -> jax.Array:
    weights, scale, present = fitted
    return jnp.where(present, scale * product(z, weights), ABSENT)

  return inductive_head(fit, classify, init, objective=objective)


def dual_solution(x: jax.Array, labels: jax.Array, *, caps: jax.Array, jitter: float) -> jax.Array:
  """Returns the dual variables alpha [examples, ways]: weights are x' alpha.

  They minimise 1/2 sum_k |x' alpha_k|^2 - sum labels alpha, where alpha <= caps and the rows of
  alpha sum to 0.

  The solver is given the same problem in other units: alpha is
  `unit` times a variable of size 1, as is the kernel.

  Args:
    x: [examples, features].
    labels: [examples, ways] one-hot; a row of zeros leaves an example out.
    caps: C times labels.
    jitter: see `svm`.
  """
  square = (labels.sum(-1) * jnp.square(x).sum(-1)).sum() / jnp.maximum(labels.sum(), 1)
  largest = jnp.maximum(caps.max(), jnp.finfo(x.dtype).tiny)
  unit = jax.lax.stop_gradient(1 / (square + jitter + 1 / largest))
  gram = unit * with_ridge(product(x, x.T), jitter)
  return unit * crammer_singer(gram, labels, caps / unit)
