"""Model-agnostic meta-learning, second and first order.

Chelsea Finn, Pieter Abbeel, Sergey Levine, Model-Agnostic Meta-Learning for Fast Adaptation of Deep
Networks, ICML 2017, arXiv:1703.03400. Implemented: the inner update theta' = theta - alpha grad
L(theta) (eq. 1), repeated and with any optax transformation; the meta-objective L(theta') on the
query set (Algorithm 1, line 8); with mode first_order the approximation of section 5.2, which
treats the inner gradients as constants.
"""

import optax

from metakit.learners.descent import by_descent
from metakit.meta_gradient import Mode, by_optax, unroll
from metakit.models import Model
from metakit.objectives import cross_entropy
from metakit.types import MetaLearner, Objective


def maml(
  model: Model,
  inner_optimizer: optax.GradientTransformation,
  inner_steps: int = 1,
  test_steps: int | None = None,
  mode: Mode | None = None,
  objective: Objective = cross_entropy,
  protocol: str | None = None,
  inner_batch: int = 0,
) -> MetaLearner:
  """Learns an initialisation from which a few gradient steps on the support set solve a task.

  Args:
    model: a network that ends in the task's outputs.
    inner_optimizer: any optax transformation, its state included in the differentiation. Adam and
      its kin need eps_root > 0 for that (optax.adam(0.1, eps_root=1e-8)): their square root has no
      derivative where a gradient is zero, as it is behind a silent ReLU.
    inner_steps: gradient steps in meta-training.
    test_steps: gradient steps of `adapt`; inner_steps by default, 0 for no adaptation.
    mode: how to differentiate (metakit.meta_gradient); unroll() by default.
    objective: loss of the inner steps and of the meta-objective.
    protocol: see metakit.learners.descent.
    inner_batch: support examples of an inner step; 0 for all.

  Returns:
    A MetaLearner whose fitted are the adapted parameters.

  Raises:
    ValueError: for numbers of steps, a protocol, an optimizer or a mode that do not fit.
  """
  inner = lambda loss: by_optax(loss, inner_optimizer)
  steps = inner_steps, test_steps
  return by_descent(model, inner, mode or unroll(), *steps, objective, protocol, inner_batch)
