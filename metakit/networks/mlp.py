"""A multi-layer perceptron."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from metakit.inputs import as_float
from metakit.models import Model, from_linen


class MLP(nn.Module):
  """Dense layers with ReLU between them. Attributes: see `mlp`."""

  num_outputs: int | None
  width: int
  depth: int

  @nn.compact
  def __call__(self, x: jax.Array, context: jax.Array | None = None) -> jax.Array:
    x = as_float(x).reshape(x.shape[0], math.prod(x.shape[1:]))  # there may be no rows
    if context is not None:
      same = jnp.broadcast_to(context, (x.shape[0], len(context)))
      x = jnp.concatenate([x, same.astype(x.dtype)], axis=-1)
    for _ in range(self.depth):
      x = nn.relu(nn.Dense(self.width)(x))
    return x if self.num_outputs is None else nn.Dense(self.num_outputs)(x)


def mlp(num_outputs: int | None = None, width: int = 40, depth: int = 2) -> Model:
  """A perceptron; the default is the sinusoid regressor of Finn et al. 2017 (arXiv:1703.03400).

  Args:
    num_outputs: size of a last linear layer; None for the last hidden layer.
    width: units of each hidden layer.
    depth: hidden layers.

  Returns:
    A Model of x [examples, ...]. It also takes (x, context [numbers]): the context is then added to
    the inputs of every example.

  Raises:
    ValueError: if a size is not positive.

  >>> model, x = mlp(num_outputs=1), jax.ShapeDtypeStruct((10, 3), 'float32')
  >>> params = jax.eval_shape(model.init, jax.random.key(0), x)
  >>> jax.eval_shape(model.apply, params, x).shape
  (10, 1)
  """
  if width < 1 or depth < 0:
    raise ValueError(f'width={width} must be positive and depth={depth} not negative')
  return from_linen(MLP(num_outputs, width, depth), stochastic=False)
