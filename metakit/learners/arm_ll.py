"""ARM-LL: gradient steps on a learned loss, which needs no labels.

Marvin Zhang, Henrik Marklund, Nikita Dhawan, Abhishek Gupta, Sergey Levine, Chelsea Finn, Adaptive
Risk Minimization: Learning to Adapt to Domain Shift, NeurIPS 2021, arXiv:2007.02931. Implemented:
Algorithm 1 with the adaptation of section 4.2 (ARM-LL). The loss network h makes a number of the
outputs of each example; the inner loss is the norm of these numbers, ||h(g(x; theta); phi)||_2 over
the batch; theta' = theta - alpha grad ||h||_2, and both theta and phi are meta-learned by the loss
of g(x; theta') on labelled queries. Layers, widths and alpha are those of the authors' code
(github.com/henrikmarklund/arm). Deviation: the batch is the support set, where theirs is the
queries themselves; so a query is predicted whatever the others are.

Changes in a task: the network, by a loss without labels.
"""

from typing import Any

import jax
import jax.numpy as jnp

from metakit.learners.descent import Descent, by_descent, by_optimizer, refuse
from metakit.models import Model, drawing
from metakit.networks.mlp import mlp
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Key, MetaLearner, Objective, Params

LAYERS = 3  # hidden ones of the loss network


def arm_ll(
  model: Model,
  descent: Descent,
  *,
  width: int = 32,
  objective: Objective = cross_entropy,
  statistics: str | None = 'support',
) -> MetaLearner:
  """Learns an initialisation, and the loss by which it is adapted to examples without labels.

  Args:
    model: a network that ends in the outputs, which mean the same in all tasks.
    descent: how it descends on the learned loss, with an optimizer and all examples in every step:
      Descent(optax.sgd(0.1)), say.
    width: units of each hidden layer of the loss network.
    objective: loss of the queries.
    statistics: see metakit.learners.descent.

  Returns:
    A MetaLearner whose params are {'network', 'loss'}, and whose fitted are the adapted parameters
    of the network. No label of the support has an effect.

  Raises:
    ValueError: for a descent, a width or statistics that do not fit.

  >>> import optax
  >>> from metakit.networks import conv4
  >>> arm_ll(conv4(num_outputs=10), Descent(optax.sgd(0.1))).protocol
  'inductive'
  """
  refuse(descent, 'batch')
  problem, judge = by_optimizer(descent), mlp(1, width, LAYERS)

  def init(key: Key, episode: Episode) -> Params:
    network_key, loss_key = jax.random.split(key)
    network = model.init(network_key, episode.support.x)
    outputs = jax.eval_shape(model.apply, network, episode.support.x)
    return {'network': network, 'loss': judge.init(loss_key, jnp.zeros(outputs.shape))}

  def unsupervised(fast: Any, slow: Any, data: Any, step: Any) -> jax.Array:
    (_, draws), support = data
    apply = drawing(model.apply, draws, descent.steps if step is None else step)
    outputs = apply(fast, support.x, weight=support.weight)
    return learned_loss(judge.apply(slow, outputs)[:, 0], support)

  return by_descent(
    model,
    descent,
    inner=lambda supervised: problem(unsupervised),
    objective=objective,
    statistics=statistics,
    init=init,
    split=lambda params, support: (params['network'], params['loss']),
    unlabelled=True,
  )


def learned_loss(numbers: jax.Array, examples: Examples) -> jax.Array:
  """Returns the Euclidean norm of the numbers [examples] of those that are there.

  >>> print(learned_loss(jnp.array([3.0, 4.0, 9.0]), Examples(None, None, jnp.array([1, 1, 0]))))
  5.0
  """
  there = jnp.ones(len(numbers), bool) if examples.weight is None else examples.weight > 0
  squares = jnp.where(there, numbers**2, 0).sum()
  return jnp.sqrt(squares + jnp.finfo(numbers.dtype).tiny)  # a root has no derivative at 0
