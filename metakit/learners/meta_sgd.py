"""Meta-SGD.

Zhenguo Li, Fengwei Zhou, Fei Chen, Hang Li, Meta-SGD: Learning to Learn Quickly for Few-Shot
Learning, 2017, arXiv:1707.09835. Implemented: theta' = theta - alpha o grad L(theta) (eq. 2) with a
rate alpha for every parameter, meta-learned together with theta (algorithm 1). Deviation: all rates
start at one value rather than at random ones, and further steps use the same rates.
"""

from typing import Any

import jax
import jax.numpy as jnp

from metakit.learners.descent import by_descent
from metakit.meta_gradient import Inner, Mode, unroll
from metakit.models import Model
from metakit.objectives import cross_entropy
from metakit.types import Episode, Key, MetaLearner, Objective, Params


def meta_sgd(
  model: Model,
  initial_rate: float = 0.1,
  inner_steps: int = 1,
  test_steps: int | None = None,
  mode: Mode | None = None,
  objective: Objective = cross_entropy,
  protocol: str | None = None,
  inner_batch: int = 0,
) -> MetaLearner:
  """MAML with a learned rate, and thus direction, for every parameter.

  Args:
    model: a network that ends in the task's outputs.
    initial_rate: of all parameters.
    inner_steps: gradient steps in meta-training.
    test_steps: gradient steps of `adapt`; inner_steps by default.
    mode: how to differentiate; unroll() by default. Not implicit: a minimum knows no rates.
    objective: loss of the inner steps and of the meta-objective.
    protocol: see metakit.learners.descent.
    inner_batch: support examples of an inner step; 0 for all.

  Returns:
    A MetaLearner whose params are {'start', 'rates'}, two trees alike.

  Raises:
    ValueError: for numbers of steps, a protocol, a rate or a mode that do not fit.
  """
  if initial_rate <= 0:
    raise ValueError(f'initial_rate={initial_rate} is not positive')

  def init(key: Key, episode: Episode) -> Params:
    start = model.init(key, episode.support.x)
    rates = jax.tree.map(lambda leaf: jnp.full(leaf.shape, initial_rate, leaf.dtype), start)
    return {'start': start, 'rates': rates}

  def update(grads: Any, state: Any, fast: Any, slow: Any, step: Any) -> tuple[Any, Any]:
    del step  # one set of rates for all
    return jax.tree.map(lambda p, r, g: p - r * g, fast, slow['rates'], grads), state

  return by_descent(
    model,
    lambda loss: Inner(loss, lambda fast, slow: (), update),
    mode or unroll(),
    inner_steps,
    test_steps,
    objective,
    protocol,
    inner_batch,
    init=init,
    split=lambda params, support: (params['start'], {'rates': params['rates']}),
  )
