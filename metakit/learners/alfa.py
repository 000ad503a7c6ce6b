"""ALFA: adaptive learning of hyperparameters for fast adaptation.

Sungyong Baik, Myungsub Choi, Janghoon Choi, Heewon Kim, Kyoung Mu Lee, Meta-Learning with Adaptive
Hyperparameters, NeurIPS 2020, arXiv:2011.00209. Implemented: theta_{j+1} = beta_j o theta_j -
alpha_j o grad L(theta_j) (eq. 6). A small network reads the mean of the weights and of the
gradients of every layer. It gives a rate alpha and a decay beta for each layer (eq. 7), which are
multiplied with learned values of each layer and step (section 3.3). Deviations: a "layer" is an
array. The factors are 1 + tanh of a network whose last layer starts at zero, so training starts as
MAML.

Changes in a task: the network.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metakit.learners.descent import Descent, by_descent, by_update
from metakit.models import Model, learned
from metakit.networks.last_layer import with_last_layer
from metakit.networks.mlp import mlp
from metakit.objectives import cross_entropy
from metakit.roles import combine
from metakit.types import Episode, Examples, Key, MetaLearner, Objective, Params

USUAL = Descent(steps=5)


def alfa(
  model: Model,
  descent: Descent = USUAL,
  *,
  initial_rate: float = 0.1,
  objective: Objective = cross_entropy,
  statistics: str | None = None,
) -> MetaLearner:
  """MAML whose rates and weight decay are computed from the task, anew in each inner step.

  The other arguments are those of `maml`.

  Args:
    descent: how it descends, without an optimizer.
    initial_rate: the first rate of all layers and steps.

  Returns:
    A MetaLearner whose params are {'start', 'generator', 'rates', 'decays'}. The last two are
    [steps, layers]. Further steps at test time use those of the last step.

  Raises:
    ValueError: for a descent, statistics or a rate that do not fit.

  >>> from metakit.episodes import sinusoid
  >>> from metakit.networks import mlp
  >>> learner = alfa(mlp(num_outputs=1, depth=2), Descent(steps=5))
  >>> episode = jax.eval_shape(sinusoid(), jax.random.key(0))
  >>> params = jax.eval_shape(learner.init, jax.random.key(1), episode)
  >>> params['rates'].shape  # of three kernels and three biases, in five steps
  (5, 6)
  """
  if initial_rate <= 0:
    raise ValueError(f'initial_rate={initial_rate} is not positive')

  def init(key: Key, episode: Episode) -> Params:
    start_key, generator_key = jax.random.split(key)
    start = model.init(start_key, episode.support.x)
    layers = len(jax.tree.leaves(learned(model, start, episode.support.x)[0]))
    network = generator(layers).init(generator_key, jnp.zeros((1, 2 * layers)))
    # A head of zeros has no effect yet.
    network = {**network, 'head': optax.tree.zeros_like(network['head'])}
    rates = jnp.full((descent.steps, layers), initial_rate, jnp.float32)
    return {'start': start, 'generator': network, 'rates': rates, 'decays': jnp.ones_like(rates)}

  def split(params: Params, support: Examples) -> tuple[Params, Any]:
    weights, constants = learned(model, params['start'], support.x)
    return weights, {**params, 'constants': constants}

  return by_descent(
    model,
    descent,
    inner=by_update(descent, _update_within(descent.steps)),
    objective=objective,
    statistics=statistics,
    init=init,
    split=split,
    merge=lambda fast, slow, step: combine(fast, slow['constants']),
  )


def _update_within(steps: int) -> Callable[..., tuple[Any, Any]]:
  """Returns the update of an InnerOptimizer; steps after the given ones use what the last does."""

  def update(grads: Any, state: Any, fast: Any, slow: Any, step: Any) -> tuple[Any, Any]:
    (weights, tree), gradients = jax.tree.flatten(fast), jax.tree.leaves(grads)
    layers = len(weights)
    inputs = jnp.stack([leaf.mean() for leaf in weights] + [leaf.mean() for leaf in gradients])
    outputs = generator(layers).apply(slow['generator'], inputs[None])[0]
    place = jnp.minimum(step, steps - 1)
    # Where the generator gives 0, the factors are 1, which is plain gradient descent.
    factors = 1 + jnp.tanh(outputs)
    rate = jnp.asarray(slow['rates'])[place] * factors[:layers]
    decay = jnp.asarray(slow['decays'])[place] * factors[layers:]
    moved = [
      decay[i] * w - rate[i] * g for i, (w, g) in enumerate(zip(weights, gradients, strict=True))
    ]
    return jax.tree.unflatten(tree, moved), state

  return update


def generator(layers: int) -> Model:
  """Returns the network of three layers (section 4.1) that computes rates and decays."""
  return with_last_layer(mlp(width=2 * layers, depth=2), 2 * layers)
