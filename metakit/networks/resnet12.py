"""ResNet-12 of few-shot learning (Oreshkin et al. 2018, arXiv:1805.10123; Lee et al. 2019).

Four residual blocks of three 3x3 convolutions with leaky ReLU (slope 0.1), 2x2 max-pooling after
each block, 64-160-320-640 channels and global average pooling, as in Lee et al. (arXiv:1904.03758).
Deviation: there is no DropBlock, which would need a random key at each call.
"""

import jax
from flax import linen as nn

from metakit.models import Model, from_linen
from metakit.networks.convolution import Convolution, as_images
from metakit.networks.normalisation import Norm, check_norm
from metakit.networks.pooling import max_pool

SLOPE = 0.1
WIDTHS = (1.0, 2.5, 5.0, 10.0)  # 64, 160, 320, 640


class ResNet12(nn.Module):
  """Attributes: see `resnet12`."""

  num_outputs: int | None
  width: int
  norm: str
  stored: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, *, weight: jax.Array | None = None) -> jax.Array:
    x = as_images(x)
    for factor in WIDTHS:
      x = self._block(x, int(self.width * factor), weight)
    x = x.mean((1, 2))
    return x if self.num_outputs is None else nn.Dense(self.num_outputs)(x)

  def _block(self, x: jax.Array, width: int, weight: jax.Array | None) -> jax.Array:
    norm = lambda y: Norm(self.norm, self.stored)(y, weight)
    shortcut = norm(Convolution(width, size=1, use_bias=False)(x))
    for i in range(3):
      x = norm(Convolution(width, use_bias=False)(x))
      x = nn.leaky_relu(x if i < 2 else x + shortcut, SLOPE)
    return max_pool(x)


def resnet12(num_outputs: int | None = None, width: int = 64, norm: str = 'batch') -> Model:
  """A residual network of twelve layers, the usual larger few-shot backbone.

  Args:
    num_outputs: size of a last linear layer; None for an embedding.
    width: channels of the first block; the others have 2.5, 5 and 10 times as many.
    norm: 'batch', 'group', 'layer' or 'none'.

  Returns:
    A Model of images [examples, height, width, channels] of at least 16x16.

  Raises:
    ValueError: for an unknown norm or a width that is not positive.

  >>> model, images = resnet12(width=64), jax.ShapeDtypeStruct((10, 84, 84, 3), 'uint8')
  >>> params = jax.eval_shape(model.init, jax.random.key(0), images)
  >>> jax.eval_shape(model.apply, params, images).shape
  (10, 640)
  """
  check_norm(norm)
  if width < 1:
    raise ValueError(f'width={width} must be positive')
  module = ResNet12(num_outputs, width, norm)
  stored = module.clone(stored=True) if norm == 'batch' else None
  return from_linen(module, stored, stochastic=False)
