"""Model-agnostic meta-learning, second and first order.

Chelsea Finn, Pieter Abbeel, Sergey Levine, Model-Agnostic Meta-Learning for Fast Adaptation of Deep
Networks, ICML 2017, arXiv:1703.03400. Implemented: the inner update theta' = theta - alpha grad
L(theta) (eq. 1), repeated and with any optax transformation; the meta-objective L(theta') on the
query set (Algorithm 1, line 8); the first-order approximation of section 5.2, which treats the
inner gradients as constants.
"""

from collections.abc import Callable

import jax
import optax

from metakit.models import Model
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Metrics, Objective, Params

ORDERS = ('second', 'first')


def maml(
  model: Model,
  inner_optimizer: optax.GradientTransformation,
  inner_steps: int = 1,
  test_steps: int | None = None,
  order: str = 'second',
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Learns an initialisation from which a few gradient steps on the support set solve a task.

  A network with batch statistics (model.stored) normalises the support and the queries each by
  their own, so the learner is transductive with it and inductive without.

  Args:
    model: a network that ends in the task's outputs.
    inner_optimizer: any optax transformation, its state included in the differentiation.
      In second order, Adam and its kin need eps_root > 0 (optax.adam(0.1, eps_root=1e-8)): their
      square root has no derivative where a gradient is zero, as it is behind a silent ReLU.
    inner_steps: gradient steps in meta-training.
    test_steps: gradient steps of `adapt`; inner_steps by default, 0 for no adaptation.
    order: 'second' or 'first'.
    objective: loss of the inner steps and of the meta-objective.

  Returns:
    A MetaLearner whose fitted are the adapted parameters.

  Raises:
    ValueError: for an unknown order or a negative number of steps.
  """
  if order not in ORDERS:
    raise ValueError(f'order={order!r} is unknown; use one of {", ".join(ORDERS)}')
  if inner_steps < 1 or (test_steps is not None and test_steps < 0):
    raise ValueError(
      f'inner_steps={inner_steps} must be positive, test_steps={test_steps} not negative'
    )

  def support_loss(params: Params, support: Examples) -> jax.Array:
    outputs = model.apply(params, support.x, weight=support.weight)
    return objective(outputs, support)[0]

  def inner_loop(params: Params, support: Examples, steps: int) -> Params:
    return descend(
      lambda p: support_loss(p, support), params, inner_optimizer, steps, order == 'first'
    )

  def init(key: Key, episode: Episode) -> Params:
    return model.init(key, episode.support.x)

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    del key  # the whole support set is used in every step
    return inner_loop(params, support, inner_steps if test_steps is None else test_steps)

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    return model.apply(fitted, x)

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    del key
    adapted = inner_loop(params, episode.support, inner_steps)
    query = episode.query
    return objective(model.apply(adapted, query.x, weight=query.weight), query)

  return MetaLearner(init, adapt, predict, loss, 'transductive' if model.stored else 'inductive')


def descend(
  loss: Callable[[Params], jax.Array],
  params: Params,
  optimizer: optax.GradientTransformation,
  steps: int,
  first_order: bool,
) -> Params:
  """Returns params after `steps` of gradient descent on `loss`, differentiable through the steps.

  The first step stands outside the loop: its parameters are shared by all tasks of a vmap, so its
  forward pass stays one plain network rather than one network a task.

  Args:
    loss: params -> scalar.
    params: where to start.
    optimizer: any optax transformation.
    steps: number of steps, static.
    first_order: treats the gradients as constants.
  """

  def step(carry, _):
    params, state = carry
    grads = jax.grad(loss)(params)
    grads = jax.lax.stop_gradient(grads) if first_order else grads
    updates, state = optimizer.update(grads, state, params)
    return (optax.apply_updates(params, updates), state), None

  carry = (params, optimizer.init(params))
  if steps:
    carry, _ = step(carry, None)
  if steps > 1:
    carry, _ = jax.lax.scan(step, carry, None, length=steps - 1)
  return carry[0]
