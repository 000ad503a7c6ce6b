"""Tent: ordinary training, then test-time steps on the entropy of predictions without labels.

Dequan Wang, Evan Shelhamer, Shaoteng Liu, Bruno Olshausen, Trevor Darrell, Tent: Fully Test-Time
Adaptation by Entropy Minimization, ICLR 2021, arXiv:2006.10726. Implemented: the entropy of
section 3.1, -sum_c p_c log p_c, is minimised in the scales and biases of the normalisation layers
(section 3.2), which normalise by the statistics of the batch. Deviation: the batch is the support
set, and queries are predicted by what it leaves behind, where there the predictions of an endless
stream of batches are taken before each step.

Changes in a task: scales, biases and statistics of the normalisation.
"""

from typing import Any

import jax
import jax.numpy as jnp

from metakit.absent import guarded
from metakit.learners.descent import Descent, by_descent, by_optimizer, refuse
from metakit.learners.erm import erm
from metakit.learners.ordinary_training import at_test_time
from metakit.models import Model, roles_of
from metakit.objectives import cross_entropy, weighted_mean
from metakit.roles import NORM, combine
from metakit.types import Examples, MetaLearner, Objective, Params


def tent(
  model: Model,
  descent: Descent,
  *,
  objective: Objective = cross_entropy,
  statistics: str | None = 'support',
) -> MetaLearner:
  """Trains as `erm` does, and adapts the normalisation to a task by the entropy of its support.

  Args:
    model: a network that ends in logits, which mean the same in all tasks.
    descent: of the test, with an optimizer, without a mode, and with all examples in every step:
      Descent(optax.sgd(0.1)), say.
    objective: loss of the training, of a classification.
    statistics: see metakit.learners.descent. They are those of a test.

  Returns:
    A MetaLearner. No label of the support has an effect.

  Raises:
    ValueError: for a regression, or a descent or statistics that do not fit; in `adapt`, if the
      network has no normalisation layer.

  >>> import optax
  >>> from metakit.networks import conv4
  >>> tent(conv4(num_outputs=10), Descent(optax.sgd(0.1))).protocol
  'inductive'
  """
  if not objective.classifies:
    raise ValueError('tent minimises the entropy of classes, and this is a regression; use arm_bn')
  refuse(descent, 'batch')
  problem, trained = by_optimizer(descent), erm(model, objective=objective)

  def split(params: Params, support: Examples) -> tuple[Any, Any]:
    roles = roles_of(model, params, support.x)
    if NORM not in jax.tree.leaves(roles):
      raise ValueError(
        'tent adapts normalisation layers, and this network has none; use norm=batch or norm=layer'
      )
    fast = jax.tree.map(lambda leaf, role: leaf if role == NORM else None, params, roles)
    return fast, jax.tree.map(lambda leaf, role: None if role == NORM else leaf, params, roles)

  def unsupervised(fast: Any, slow: Any, data: Any, step: Any) -> jax.Array:
    _, support = data
    return entropy(model.apply(combine(fast, slow), support.x, weight=support.weight), support)

  learner = by_descent(
    model,
    at_test_time(descent),
    inner=lambda supervised: problem(unsupervised),
    objective=objective,
    statistics=statistics,
    split=split,
    merge=lambda fast, slow, step: combine(fast, slow),
    unlabelled=True,
  )
  # There is no meta-gradient.
  return guarded(
    learner._replace(loss=trained.loss, calibrate=trained.calibrate, diagnose=None), True
  )


def entropy(logits: jax.Array, examples: Examples) -> jax.Array:
  """Returns the mean entropy, in nats, of the predictions of the examples that are there.

  >>> print(f'{entropy(jnp.zeros((3, 2)), Examples(None, None)):.4f}')  # log 2
  0.6931
  """
  logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  log_p = jax.nn.log_softmax(logits)
  return weighted_mean(-(jnp.exp(log_p) * log_p).sum(-1), examples.weight)
