"""A network made of an embedding and a last linear layer, its parameters apart."""

from typing import Any

import jax
import jax.numpy as jnp

from metakit.absent import numbered
from metakit.models import Model, StoredStatistics, drawing, roles_of
from metakit.roles import WEIGHT
from metakit.types import Examples, Key, Params


def with_head(embedding: Model, num_outputs: int) -> Model:
  """Returns the network whose params are {'body': the embedding's, 'head': {'kernel', 'bias'}}.

  Args:
    embedding: x [examples, ...] -> features [examples, features].
    num_outputs: of the head, which starts as flax.linen.Dense does (LeCun normal, bias 0).

  Raises:
    ValueError: at init, if the embedding does not give vectors.
  """

  def init(key: Key, x: Any) -> Params:
    body_key, head_key = jax.random.split(key)
    body = embedding.init(body_key, x)
    features = jax.eval_shape(embedding.apply, body, x)
    if len(features.shape) != 2:
      raise ValueError(f'the embedding gives {features.shape}; it must be [examples, features]')
    return {'body': body, 'head': init_head(head_key, features.shape[1], num_outputs)}

  def apply(params: Params, x: Any, weight: Any = None, key: Key | None = None) -> jax.Array:
    embed = drawing(embedding.apply, key)
    return linear(params['head'], embed(params['body'], x, weight=weight))

  def roles(params: Params, x: Any) -> Any:
    head = jax.tree.map(lambda leaf: WEIGHT, params['head'])
    return {'body': roles_of(embedding, params['body'], x), 'head': head}

  whole = Model(init, apply, roles=roles, stochastic=embedding.stochastic)
  if embedding.stored is None:
    return whole
  stored = embedding.stored

  def apply_stored(params: Params, x: Any, weight: Any = None, key: Key | None = None) -> jax.Array:
    del weight  # rows do not influence one another
    return linear(params['head'], drawing(stored.apply, key)(params['body'], x))

  def calibrate(params: Params, batches: Any, weight: Any = None) -> Params:
    return {**params, 'body': stored.calibrate(params['body'], batches, weight)}

  return whole._replace(stored=StoredStatistics(apply_stored, calibrate))


def of_training_classes(examples: Examples, info: Any) -> Examples:
  """Returns the examples of an episode with the numbers of their training classes as labels.

  Args:
    examples: labelled 0 to ways - 1.
    info: of the episode; 'classes' [ways] are those numbers.

  Raises:
    ValueError: if a mixture numbers the classes of several samplers alike.
  """
  if 'component' in info and 'first_class' not in info:
    raise ValueError(
      'a mixture of samplers says which classes an episode is of, each from 0; give '
      'mixture(..., first_class=) the number that each begins with, such as (0, 64) for tables of '
      '64 and more classes, or (0, 0) for one table'
    )
  return examples._replace(y=numbered(examples.y, info['classes']))


def init_head(key: Key, features: int, num_outputs: int) -> Params:
  """Returns a linear layer {'kernel' [features, outputs], 'bias' [outputs]}."""
  kernel = jax.nn.initializers.lecun_normal()(key, (features, num_outputs), jnp.float32)
  return {'kernel': kernel, 'bias': jnp.zeros(num_outputs, jnp.float32)}


def linear(head: Params, z: jax.Array) -> jax.Array:
  """Applies a head to features [examples, features]."""
  return z @ head['kernel'] + head['bias']


head_alone = Model(  # params are the head's; x are features
  init=lambda key, z: {}, apply=lambda params, z, weight=None: linear(params, z)
)
