"""Meta-Curvature.

Eunbyung Park, Junier B. Oliva, Meta-Curvature, NeurIPS 2019, arXiv:1902.03356. Implemented:
meta-learned matrices transform the inner gradient G of every layer before the step: MC(G) = G x_1
M_o x_2 M_i x_3 M_f (eq. 9). They start at the identity. M_o acts on output channels, M_i on input
channels and, in convolutions, M_f on the positions of the kernel. Vectors have M_o alone.

Changes in a task: the network.
"""

from typing import Any

import jax
import jax.numpy as jnp

from metakit.learners.descent import Descent, by_descent, by_update
from metakit.models import Model, learned
from metakit.objectives import cross_entropy
from metakit.roles import combine
from metakit.types import Episode, Examples, Key, MetaLearner, Objective, Params

USUAL = Descent(steps=1)


def meta_curvature(
  model: Model,
  descent: Descent = USUAL,
  *,
  inner_learning_rate: float = 0.1,
  objective: Objective = cross_entropy,
  statistics: str | None = None,
) -> MetaLearner:
  """MAML whose inner gradients are turned and scaled by learned matrices.

  The other arguments are those of `maml`.

  Args:
    descent: how it descends, without an optimizer.
    inner_learning_rate: rate of the transformed gradients.

  Returns:
    A MetaLearner whose params are {'start', 'curvature'}. The curvature has a tuple of matrices for
    every array of the network, one for each of its axes. The two axes of a kernel's positions count
    as one.

  Raises:
    ValueError: for a descent, statistics or a rate that do not fit.

  >>> from metakit.episodes import sinusoid
  >>> from metakit.networks import mlp
  >>> learner = meta_curvature(mlp(num_outputs=1, width=40, depth=1))
  >>> episode = jax.eval_shape(sinusoid(), jax.random.key(0))
  >>> params = jax.eval_shape(learner.init, jax.random.key(1), episode)
  >>> [tuple(matrix.shape for matrix in each) for each in params['curvature']]
  [((40, 40),), ((1, 1), (40, 40)), ((1, 1),), ((40, 40), (1, 1))]
  """
  if inner_learning_rate <= 0:
    raise ValueError(f'inner_learning_rate={inner_learning_rate} is not positive')

  def init(key: Key, episode: Episode) -> Params:
    start = model.init(key, episode.support.x)
    identities = lambda leaf: tuple(jnp.eye(n, dtype=leaf.dtype) for n in modes(leaf.shape))
    weights = learned(model, start, episode.support.x)[0]
    curvature = [identities(leaf) for leaf in jax.tree.leaves(weights)]
    return {'start': start, 'curvature': curvature}

  def update(grads: Any, state: Any, fast: Any, slow: Any, step: Any) -> tuple[Any, Any]:
    del step  # one curvature for all
    (weights, tree), gradients = jax.tree.flatten(fast), jax.tree.leaves(grads)
    turned = [transform(g, m) for g, m in zip(gradients, slow['curvature'], strict=True)]
    moved = [w - inner_learning_rate * g for w, g in zip(weights, turned, strict=True)]
    return jax.tree.unflatten(tree, moved), state

  def split(params: Params, support: Examples) -> tuple[Params, Any]:
    weights, constants = learned(model, params['start'], support.x)
    return weights, {'curvature': params['curvature'], 'constants': constants}

  return by_descent(
    model,
    descent,
    inner=by_update(descent, update),
    objective=objective,
    statistics=statistics,
    init=init,
    split=split,
    merge=lambda fast, slow, step: combine(fast, slow['constants']),
  )


def modes(shape: tuple[int, ...]) -> tuple[int, ...]:
  """Returns the sizes of the axes that are transformed: a kernel's positions count as one."""
  if len(shape) == 4:  # [rows, columns, channels, features]
    return shape[0] * shape[1], *shape[2:]
  return shape


def transform(gradient: jax.Array, matrices: tuple[jax.Array, ...]) -> jax.Array:
  """Multiplies every mode of a gradient by its matrix (the mode products of eq. 9)."""
  turned = gradient.reshape(modes(gradient.shape))
  for axis, matrix in enumerate(matrices):
    turned = jnp.moveaxis(jnp.tensordot(matrix, turned, (1, axis)), 0, axis)
  return turned.reshape(gradient.shape)
