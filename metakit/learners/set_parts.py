"""What neural processes share: pairs of x and y, and sums over the examples that are there."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metakit.densities import gaussian, objective_of
from metakit.learners.in_context import flat, targets
from metakit.types import Examples, Objective

NORMAL: Objective = objective_of(gaussian())  # what a neural process predicts unless told otherwise


def pairs(examples: Examples, num_outputs: int) -> jax.Array:
  """Returns each x with its y, [examples, inputs + num_outputs]. Class labels become one-hot.

  >>> pairs(Examples(jnp.ones((2, 3)), jnp.array([0, 1])), num_outputs=2)[:, 3:].tolist()
  [[1.0, 0.0], [0.0, 1.0]]
  """
  return jnp.concatenate([flat(examples.x), targets(examples, num_outputs, 1.0)], axis=1)


def weights_of(examples: Examples, like: jax.Array) -> jax.Array:
  """Returns the weights [examples], of the type of another array; 1 where there are none.

  >>> weights_of(Examples(jnp.ones((2, 3)), None), like=jnp.ones(1)).tolist()
  [1.0, 1.0]
  """
  if examples.weight is None:
    return jnp.ones(examples.x.shape[0], like.dtype)
  return jnp.maximum(jnp.asarray(examples.weight), 0).astype(like.dtype)


def weighted_sum(values: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the sum [width] of values [examples, width], and the sum [] of their weights.

  >>> [part.tolist() for part in weighted_sum(jnp.array([[2.0], [5.0]]), jnp.array([1.0, 0.0]))]
  [[2.0], 1.0]
  """
  kept = jnp.where(weight[:, None] > 0, values, 0)  # 0 * nan would be nan
  return weight @ kept, weight.sum()


def mean_of(total: jax.Array, weight: jax.Array) -> jax.Array:
  """Returns the mean of what `weighted_sum` summed; 0 if nothing was there.

  >>> [mean_of(jnp.array([6.0]), jnp.array(number)).tolist() for number in (3.0, 2.0)]
  [[2.0], [3.0]]
  """
  return total / jnp.maximum(weight, jnp.finfo(total.dtype).tiny)


def check_pool(objective: Objective) -> Callable[[jax.Array], jax.Array]:
  """Returns what makes one prediction of several; raises ValueError if an objective has none.

  >>> check_pool(NORMAL)(jnp.zeros((3, 5, 2))).shape
  (5, 2)
  """
  if objective.pool is None:
    raise ValueError(
      'the objective cannot make one prediction of several, which a latent variable needs; use '
      'gaussian, or a learner without one (cnp, convcnp, tnp)'
    )
  return objective.pool
