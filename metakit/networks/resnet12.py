"""ResNet-12 of few-shot learning (Oreshkin et al. 2018, arXiv:1805.10123; Lee et al. 2019).

Four residual blocks of three 3x3 convolutions with leaky ReLU (slope 0.1), 2x2 max-pooling after
each block, 64-160-320-640 channels and global average pooling, as in Lee et al. (arXiv:1904.03758).
In training they drop numbers after the first two blocks, and squares (DropBlock) after the others.
Deviation: the rate is the same from the first step on. Theirs grows over 40,000 steps.
"""

import jax
from flax import linen as nn

from metakit.models import Model, from_linen
from metakit.networks.convolution import Convolution, as_images
from metakit.networks.dropblock import DropBlock
from metakit.networks.normalisation import Norm, check_norm
from metakit.networks.pooling import max_pool
from metakit.networks.widths import Width, widths_of

SLOPE = 0.1
WIDTHS = (1.0, 2.5, 5.0, 10.0)  # 64, 160, 320, 640


class ResNet12(nn.Module):
  """Attributes: see `resnet12`."""

  num_outputs: int | None
  widths: tuple[int, ...]
  norm: str
  drop: float
  block: int
  stored: bool = False

  @nn.compact
  def __call__(
    self, x: jax.Array, *, weight: jax.Array | None = None, training: bool = False
  ) -> jax.Array:
    x = as_images(x)
    for stage, width in enumerate(self.widths):
      x = self._block(x, width, weight)
      if training and self.drop:
        x = self._drop(x, weight, in_squares=stage >= len(self.widths) - 2)
    x = x.mean((1, 2))
    return x if self.num_outputs is None else nn.Dense(self.num_outputs)(x)

  def _block(self, x: jax.Array, width: int, weight: jax.Array | None) -> jax.Array:
    norm = lambda y: Norm(self.norm, self.stored)(y, weight)
    shortcut = norm(Convolution(width, size=1, use_bias=False)(x))
    for i in range(3):
      x = norm(Convolution(width, use_bias=False)(x))
      x = nn.leaky_relu(x if i < 2 else x + shortcut, SLOPE)
    return max_pool(x)

  def _drop(self, x: jax.Array, weight: jax.Array | None, in_squares: bool) -> jax.Array:
    if in_squares:
      return DropBlock(self.drop, self.block)(x, weight)
    return nn.Dropout(self.drop, deterministic=False)(x)


def resnet12(
  num_outputs: int | None = None,
  width: Width = 64,
  norm: str = 'batch',
  *,
  drop: float = 0.0,
  block: int = 5,
) -> Model:
  """A residual network of twelve layers, the usual larger few-shot backbone.

  Args:
    num_outputs: size of a last linear layer; None for an embedding.
    width: channels of the first block, of which the others have 2.5, 5 and 10 times as many; or
      those of each block, as in '64-128-256-512'. 16 is for CPUs.
    norm: 'batch', 'group', 'layer' or 'none'.
    drop: share of what is dropped after each block in training; 0.1 in Lee et al.
    block: side of the squares that are dropped after the last two blocks; 5 in Lee et al. for
      images of 84x84, 2 for 32x32.

  Returns:
    A Model of images [examples, height, width, channels] of at least 16x16.

  Raises:
    ValueError: for an unknown norm, a width or block that is not positive, or unless 0 <= drop < 1.

  >>> model, images = resnet12(width=64), jax.ShapeDtypeStruct((10, 84, 84, 3), 'uint8')
  >>> params = jax.eval_shape(model.init, jax.random.key(0), images)
  >>> jax.eval_shape(model.apply, params, images).shape
  (10, 640)
  """
  check_norm(norm)
  if not 0 <= drop < 1 or block < 1:
    raise ValueError(f'drop={drop} and block={block}: use 0 <= drop < 1 and block >= 1')
  module = ResNet12(num_outputs, widths_of(width, WIDTHS), norm, drop, block)
  stored = module.clone(stored=True) if norm == 'batch' else None
  return from_linen(module, stored, stochastic=drop > 0)
