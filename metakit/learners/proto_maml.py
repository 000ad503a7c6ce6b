"""Proto-MAML.

Eleni Triantafillou, Tyler Zhu, Vincent Dumoulin, Pascal Lamblin et al., Meta-Dataset: A Dataset of
Datasets for Learning to Learn from Few Examples, ICLR 2020, arXiv:1903.03096. Implemented: in each
episode the last layer starts as the classifier by the nearest prototype: w_k = 2 c_k and
b_k = -|c_k|^2 (section 3.2). The meta-gradient passes through this start. The inner loop then
changes the whole network.

Changes in a task: the network, the last layer from prototypes.
"""

from typing import Any

import jax.numpy as jnp

from metakit.heads.common import ABSENT, class_means
from metakit.learners.descent import Descent, by_descent
from metakit.models import Model
from metakit.networks.last_layer import with_last_layer
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Key, MetaLearner, Objective, Params


def proto_maml(
  embedding: Model,
  ways: int,
  descent: Descent,
  *,
  objective: Objective = cross_entropy,
  statistics: str | None = None,
) -> MetaLearner:
  """MAML that starts as prototypical networks. Without inner steps it is the same as they are.

  Args: as `maml`, with an embedding and `ways`, the most classes of an episode. A class without
    support starts with logit -1e9, and is never predicted.

  Returns:
    A MetaLearner whose params are those of the embedding. They do not depend on the number of ways.

  Raises:
    ValueError: for ways below 2, or a descent or statistics that do not fit.

  >>> import jax, optax
  >>> from metakit.networks import mlp
  >>> few, many = (proto_maml(mlp(), ways, Descent(optax.sgd(0.1))) for ways in (5, 20))
  >>> x = Examples(jax.ShapeDtypeStruct((10, 64), 'float32'), None)
  >>> shapes = lambda learner: jax.eval_shape(learner.init, jax.random.key(0), Episode(x, x))
  >>> shapes(few) == shapes(many)  # the parameters do not depend on the ways
  True
  """
  if ways < 2:
    raise ValueError(f'ways={ways} leaves nothing to classify; use ways>=2')

  def init(key: Key, episode: Episode) -> Params:
    return embedding.init(key, episode.support.x)

  def split(params: Params, support: Examples) -> tuple[Any, Any]:
    z = embedding.apply(params, support.x, weight=support.weight)
    prototypes, present = class_means(support._replace(x=z), ways)
    bias = jnp.where(present, -jnp.square(prototypes).sum(1), ABSENT)
    return {'body': params, 'head': {'kernel': 2 * prototypes.T, 'bias': bias}}, {}

  return by_descent(
    with_last_layer(embedding, ways),
    descent,
    objective=objective,
    statistics=statistics,
    init=init,
    split=split,
  )
