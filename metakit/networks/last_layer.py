"""A network made of an embedding and a last linear layer, its parameters apart."""

from typing import Any

import jax
import jax.numpy as jnp

from metakit.models import Model, StoredStatistics, drawing, roles_of
from metakit.roles import WEIGHT
from metakit.types import Key, Params


def with_last_layer(embedding: Model, num_outputs: int) -> Model:
  """Returns the network whose params are {'body': the embedding's, 'head': {'kernel', 'bias'}}.

  Args:
    embedding: x [examples, ...] -> features [examples, features].
    num_outputs: outputs of the head, which starts as flax.linen.Dense does (LeCun normal, bias 0).

  Raises:
    ValueError: at init, if the embedding does not give vectors.
  """

  def init(key: Key, x: Any) -> Params:
    body_key, head_key = jax.random.split(key)
    body = embedding.init(body_key, x)
    features = jax.eval_shape(embedding.apply, body, x)
    if len(features.shape) != 2:
      raise ValueError(f'the embedding gives {features.shape}; it must be [examples, features]')
    return {'body': body, 'head': init_last_layer(head_key, features.shape[1], num_outputs)}

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


def init_last_layer(key: Key, features: int, num_outputs: int) -> Params:
  """Returns a linear layer {'kernel' [features, outputs], 'bias' [outputs]}."""
  kernel = jax.nn.initializers.lecun_normal()(key, (features, num_outputs), jnp.float32)
  return {'kernel': kernel, 'bias': jnp.zeros(num_outputs, jnp.float32)}


def linear(head: Params, z: jax.Array) -> jax.Array:
  """Applies a head to features [examples, features]."""
  return z @ head['kernel'] + head['bias']


last_layer_alone = Model(  # params are the head's; x are features
  init=lambda key, z: {}, apply=lambda params, z, weight=None: linear(params, z)
)
