"""Conv4: four convolution blocks (Vinyals et al. 2016, arXiv:1606.04080; Finn et al. 2017)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from metakit.models import Model, from_linen
from metakit.networks.convolution import Convolution, as_images
from metakit.networks.normalisation import Norm, check_norm
from metakit.networks.pooling import max_pool
from metakit.networks.widths import Width, widths_of


class Conv4(nn.Module):
  """Blocks of 3x3 convolution, normalisation, ReLU and halving of the size.

  Attributes: see `conv4`.
  """

  num_outputs: int | None
  widths: tuple[int, ...]
  downsample: str
  norm: str
  stored: bool = False

  @nn.compact
  def __call__(
    self, x: jax.Array, context: jax.Array | None = None, weight: jax.Array | None = None
  ) -> jax.Array:
    x = as_images(x)
    strided = self.downsample == 'stride'
    early = not strided and context is None  # pools before ReLU, which gives the same
    for width in self.widths:
      layer = Convolution(width, stride=2 if strided else 1, use_bias=self.norm == 'none')
      y = layer(x)
      x = Norm(self.norm, self.stored, pool=early)(y, weight, layer.moments(x, weight))
      x = x if context is None else self._modulate(x, context)
      x = nn.relu(x if strided or early else max_pool(x))
    x = x.mean((1, 2)) if strided else x.reshape(x.shape[0], -1)
    return x if self.num_outputs is None else nn.Dense(self.num_outputs)(x)

  def _modulate(self, x: jax.Array, context: jax.Array) -> jax.Array:
    """FiLM (Perez et al. 2018, arXiv:1709.07871): scale and shift of every channel."""
    scale, shift = jnp.split(nn.Dense(2 * x.shape[-1])(context), 2)
    return x * (1 + scale).astype(x.dtype) + shift.astype(x.dtype)


def conv4(
  num_outputs: int | None = None,
  width: Width = 64,
  depth: int = 4,
  *,
  downsample: str = 'pool',
  norm: str = 'batch',
) -> Model:
  """Blocks of convolutions, four by default: the usual few-shot backbone for small images.

  Args:
    num_outputs: size of a last linear layer; None for an embedding.
    width: channels of each block; one number, or several as in '96-192-384-512'.
    depth: number of blocks.
    downsample: 'pool' (2x2 max-pooling, features flattened: Vinyals et al., Snell et al.) or
      'stride' (strided convolutions, features averaged over positions: Finn et al.'s Omniglot).
    norm: 'batch', 'group', 'layer' or 'none'.

  Returns:
    A Model of images [examples, height, width, channels], uint8 or float. It also takes (images,
    context [numbers]): the context then scales and shifts the channels of every block.

  Raises:
    ValueError: for an unknown downsample or norm, a size that is not positive, or widths of more or
      fewer blocks than `depth`.

  >>> model, images = conv4(width=64), jax.ShapeDtypeStruct((10, 28, 28, 1), 'uint8')
  >>> params = jax.eval_shape(model.init, jax.random.key(0), images)
  >>> jax.eval_shape(model.apply, params, images).shape
  (10, 64)
  """
  check_norm(norm)
  if downsample not in ('pool', 'stride'):
    raise ValueError(f"downsample={downsample!r} is unknown; use 'pool' or 'stride'")
  if depth < 1:
    raise ValueError(f'depth={depth} must be positive')
  module = Conv4(num_outputs, widths_of(width, [1] * depth), downsample, norm)
  stored = module.clone(stored=True) if norm == 'batch' else None
  return from_linen(module, stored, stochastic=False)
