"""Reptile.

Alex Nichol, Joshua Achiam, John Schulman, On First-Order Meta-Learning Algorithms, 2018,
arXiv:1803.02999. Implemented: algorithm 2, the batched version. The gradient of the loss
1/2 |params - stop(adapted)|^2 is params - adapted, whose mean over tasks is what the outer
optimizer is given: SGD with rate epsilon makes params + epsilon mean(adapted - params). The inner
loop runs on minibatches of support and queries together, so that more shots are seen in training
than at test time (section 6.1, "training shots"). Deviation: the state of the inner optimizer
starts afresh with every task.
"""

import jax
import jax.numpy as jnp
import optax

from metakit.absent import guarded
from metakit.learners.descent import by_descent, distance
from metakit.meta_gradient import by_optax, first_order
from metakit.models import Model
from metakit.objectives import cross_entropy
from metakit.types import Episode, Key, MetaLearner, Metrics, Objective, Params, join


def reptile(
  model: Model,
  inner_optimizer: optax.GradientTransformation,
  inner_steps: int = 5,
  test_steps: int | None = 50,
  inner_batch: int = 10,
  objective: Objective = cross_entropy,
  protocol: str | None = None,
) -> MetaLearner:
  """Learns an initialisation close to where gradient descent ends on each task.

  Args:
    model: a network that ends in the task's outputs.
    inner_optimizer: any optax transformation; it is not differentiated.
    inner_steps: gradient steps in meta-training, at least 2: with one, Reptile is joint training.
    test_steps: gradient steps of `adapt`; inner_steps if None.
    inner_batch: examples of an inner step; 0 for all.
    objective: loss of the inner steps.
    protocol: see metakit.learners.descent.

  Returns:
    A MetaLearner. The metrics of its loss are those of the support after training on all examples:
    of the queries they would be as little of a test, and take a quarter of the time (10 shots).

  Raises:
    ValueError: for numbers of steps or a protocol that make no sense.
  """
  if inner_steps < 2:
    raise ValueError(f'inner_steps={inner_steps} makes Reptile joint training; use 2 or more')
  inner = lambda loss: by_optax(loss, inner_optimizer)
  rest = first_order(), inner_steps
  # Normalisation statistics are not learned, so training measures none for the queries.
  training = by_descent(model, inner, *rest, None, objective, None, inner_batch, drawn=True)
  learner = by_descent(model, inner, *rest, test_steps, objective, protocol, inner_batch)

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    support = episode.support
    held = jax.lax.stop_gradient(params)
    adapted = training.adapt(key, held, join(support, episode.query))
    away = jax.tree.map(lambda p, a: 0.5 * jnp.square(p - a).sum(), params, adapted)
    _, metrics = objective(model.apply(adapted, support.x, weight=support.weight), support)
    return optax.tree.sum(away), {**metrics, 'adaptation_norm': distance(adapted, held)}

  return guarded(learner._replace(loss=loss, diagnose=None))  # its gradient is no derivative
