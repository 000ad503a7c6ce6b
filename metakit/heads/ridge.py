"""R2-D2: a ridge regression head, differentiated through its closed form.

Luca Bertinetto, João F. Henriques, Philip H. S. Torr, Andrea Vedaldi, Meta-Learning with
Differentiable Closed-Form Solvers, ICLR 2019, arXiv:1805.08136. Implemented: ridge regression on
one-hot labels by Woodbury's identity (eqs. 4 and 6), with a learned strength of the penalty and a
learned scale and bias of the outputs (eq. 7).
"""

import jax
import jax.numpy as jnp

from metakit.heads.common import (
  ABSENT,
  check_positive,
  check_ways,
  inductive_head,
  product,
  weight_of,
)
from metakit.linear_algebra import is_wide, solve_positive, with_ridge
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Objective, Params


def ridge(
  ways: int,
  penalty: float = 1.0,
  learned: bool = True,
  *,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Regresses one-hot labels on features.

  Args:
    ways: classes of an episode.
    penalty: lambda, of the squared weights; where it starts if it is learned.
    learned: whether the penalty, scale and bias are meta-learned.
    objective: the training loss.

  Returns:
    A head; fitted = (weights [features, ways], scale, bias, present [ways]).

  Raises:
    ValueError: if the penalty is not positive (the system may be singular), or ways below 2.

  >>> support = Examples(jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([0, 1]))
  >>> head = ridge(ways=2, penalty=3.0, learned=False)
  >>> weights = jax.jit(head.adapt)(jax.random.key(0), {}, support)[0]
  >>> [f'{weight:.2f}' for weight in weights.diagonal()]  # 1 / (1 + penalty)
  ['0.25', '0.25']
  """
  check_ways(ways)
  check_positive(penalty=penalty)

  def init(key: Key, episode: Episode) -> Params:
    del key, episode
    start = {
      'log_penalty': jnp.log(jnp.float32(penalty)),
      'scale': jnp.float32(1),
      'bias': jnp.float32(0),
    }
    return start if learned else {}

  def fit(key: Key, params: Params, support: Examples) -> Fitted:
    del key  # nothing is drawn
    dtype = support.x.dtype
    strength = (
      jnp.exp(params['log_penalty']).astype(dtype) if learned else jnp.asarray(penalty, dtype)
    )
    targets = jax.nn.one_hot(support.y, ways, dtype=dtype)
    weights = ridge_weights(support.x, targets, weight_of(support, dtype), penalty=strength)
    scale, bias = (params['scale'], params['bias']) if learned else (1.0, 0.0)
    present = (targets * weight_of(support, dtype)[:, None]).sum(0) > 0
    return weights, scale, bias, present

  def classify(fitted: Fitted, z: jax.Array) -> jax.Array:
    weights, scale, bias, present = fitted
    return jnp.where(present, scale * product(z, weights) + bias, ABSENT)

  return inductive_head(fit, classify, init, objective=objective)


def ridge_weights(
  x: jax.Array, targets: jax.Array, weight: jax.Array, *, penalty: jax.Array | float
) -> jax.Array:
  """Returns argmin_W sum_i weight_i |x_i W - t_i|^2 + penalty |W|^2, [features, outputs].

  The smaller of the two systems is solved: of as many unknowns as examples, or as features.

  Args:
    x: [examples, features].
    targets: [examples, outputs].
    weight: [examples].
    penalty: positive.
  """
  root = jnp.sqrt(weight)[:, None]
  x, targets = root * x, root * targets
  if is_wide(x):
    return product(x.T, solve_ridge(product(x, x.T), penalty, targets))
  return solve_ridge(product(x.T, x), penalty, product(x.T, targets))


def solve_ridge(gram: jax.Array, penalty: jax.Array | float, right: jax.Array) -> jax.Array:
  """Returns (gram + penalty I)^-1 right, see metakit.linear_algebra.with_ridge."""
  return solve_positive(with_ridge(gram, penalty), right)
