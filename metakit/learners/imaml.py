"""iMAML: meta-learning with implicit gradients.

Aravind Rajeswaran, Chelsea Finn, Sham Kakade, Sergey Levine, Meta-Learning with Implicit Gradients,
NeurIPS 2019, arXiv:1909.04630. Implemented: the inner problem L(phi) + lambda / 2 |phi - theta|^2
(eq. 3), solved approximately by gradient steps, and the meta-gradient (I + H / lambda)^{-1} grad
L_query (lemma 1) by conjugate gradients (algorithm 2), whose memory does not grow with the steps.
"""

import optax

from metakit.learners.descent import by_descent
from metakit.meta_gradient import Mode, by_optax, conjugate_gradient, implicit
from metakit.models import Model
from metakit.objectives import cross_entropy
from metakit.types import MetaLearner, Objective


def imaml(
  model: Model,
  inner_optimizer: optax.GradientTransformation,
  proximal: float = 2.0,
  inner_steps: int = 16,
  test_steps: int | None = None,
  mode: Mode | None = None,
  objective: Objective = cross_entropy,
  protocol: str | None = None,
) -> MetaLearner:
  """MAML with a proximal inner loss, differentiated at its minimum.

  Args:
    model: a network that ends in the task's outputs.
    inner_optimizer: any optax transformation; with mode implicit it is not differentiated.
    proximal: lambda, the strength of the pull to the initialisation.
    inner_steps: gradient steps in meta-training; enough to come close to the minimum.
    test_steps: gradient steps of `adapt`; inner_steps by default.
    mode: how to differentiate; implicit(conjugate_gradient(5)), as in the paper, by default.
    objective: loss of the inner steps and of the meta-objective.
    protocol: see metakit.learners.descent.

  Returns:
    A MetaLearner. With mode implicit the metrics of its loss hold 'implicit_residual', by how much
    the linear system of the meta-gradient is off, relative to its right-hand side: near 1 and above
    the meta-gradient is of no use (more iterations or a larger proximal strength help). It costs
    what the backward pass does for the system.

  Raises:
    ValueError: for numbers of steps, a protocol, an optimizer or a mode that do not fit, or
      proximal=0 with mode implicit.
  """
  return by_descent(
    model,
    lambda loss: by_optax(loss, inner_optimizer, proximal=proximal),
    mode or implicit(conjugate_gradient(5)),
    inner_steps,
    test_steps,
    objective,
    protocol,
  )
