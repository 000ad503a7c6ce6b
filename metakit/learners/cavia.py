"""CAVIA: fast context adaptation via meta-learning.

Luisa Zintgraf, Kyriacos Shiarlis, Vitaly Kurin, Katja Hofmann, Shimon Whiteson, Fast Context
Adaptation via Meta-Learning, ICML 2019, arXiv:1810.03642. Implemented: the inner loop changes only
a context vector, which starts at zero in each task (eq. 5); everything else is meta-learned (eq.
6). The network decides how the context enters: mlp takes it as further inputs, conv4 as scale and
shift of every block (FiLM).

Changes in a task: a context vector.
"""

from typing import Any

import jax
import jax.numpy as jnp

from metakit.learners.descent import Descent, by_descent
from metakit.models import Model, StoredStatistics, drawing
from metakit.objectives import cross_entropy
from metakit.types import Episode, Key, MetaLearner, Objective, Params


def cavia(
  model: Model,
  context_size: int,
  descent: Descent,
  *,
  objective: Objective = cross_entropy,
  statistics: str | None = None,
) -> MetaLearner:
  """MAML whose inner loop learns only a context vector: all that is known about a task.

  The other arguments are those of `maml`.

  Args:
    model: a network of (x, context [context_size]), such as mlp and conv4.
    context_size: numbers in the context.
    descent: how it descends, with an optimizer.

  Raises:
    ValueError: for a size below 1, or a descent or statistics that do not fit; at init, for a
      network without a context.

  >>> import optax
  >>> from metakit.networks import mlp
  >>> learner = cavia(mlp(num_outputs=1), context_size=4, descent=Descent(optax.sgd(1.0)))
  >>> learner.protocol
  'inductive'
  """
  if context_size < 1:
    raise ValueError(f'context_size={context_size} leaves nothing to adapt; use 1 or more')
  whole = conditioned(model)

  def init(key: Key, episode: Episode) -> Params:
    try:
      return model.init(key, episode.support.x, jnp.zeros(context_size))
    except TypeError as error:
      raise ValueError(
        'the network of cavia takes a context beside its input, and this one does not; use mlp or '
        'conv4'
      ) from error

  def split(params: Params, support: Any) -> tuple[jax.Array, Params]:
    dtype = jnp.result_type(*jax.tree.leaves(params))
    return jnp.zeros(context_size, dtype), params

  return by_descent(
    whole,
    descent,
    objective=objective,
    statistics=statistics,
    init=init,
    split=split,
    merge=lambda context, network, step: {'network': network, 'context': context},
  )


def conditioned(model: Model) -> Model:
  """Returns the network whose params are {'network', 'context'}, of x alone."""

  def init(key: Key, x: Any) -> Params:
    raise ValueError('the context of a conditioned network is not initialised but starts at zero')

  def apply(params: Params, x: Any, weight: Any = None, key: Key | None = None) -> jax.Array:
    return drawing(model.apply, key)(params['network'], x, params['context'], weight=weight)

  whole = Model(init, apply, stochastic=model.stochastic)
  if model.stored is None:
    return whole
  stored = model.stored

  def apply_stored(params: Params, x: Any, weight: Any = None, key: Key | None = None) -> jax.Array:
    del weight  # rows do not influence one another
    return drawing(stored.apply, key)(params['network'], x, params['context'])

  def calibrate(params: Params, batches: Any, weight: Any = None) -> Params:
    network = stored.calibrate(params['network'], batches, weight, params['context'])
    return {**params, 'network': network}

  return whole._replace(stored=StoredStatistics(apply_stored, calibrate))
