"""DropBlock (Ghiasi, Lin, Le 2018, arXiv:1810.12890): squares of each feature map are dropped."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax


class DropBlock(nn.Module):
  """Drops squares of each channel of each example, and scales what is kept (Algorithm 1).

  As in the code of Lee et al. (arXiv:1904.03758), the squares lie within the feature map, and where
  it is smaller than a square they are as large as it. What is kept is scaled by the share of all
  numbers that are kept, over the examples that are there.

  Attributes:
    rate: expected share of numbers that would be dropped if squares did not overlap; the chance of
      a square at each place follows from it, see `block_chance`.
    size: side of the squares.
  """

  rate: float
  size: int

  @nn.compact
  def __call__(self, x: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """Drops squares of x [examples, height, width, channels]; draws from the stream 'dropout'."""
    size = min(self.size, *x.shape[1:3])
    examples, height, width, channels = x.shape
    chance = block_chance(self.rate, size, height=height, width=width)
    places = examples, height - size + 1, width - size + 1, channels
    starts = jax.random.bernoulli(self.make_rng('dropout'), jnp.float32(chance), places)
    kept = 1 - cover(starts.astype(x.dtype), size)
    return x * kept * _scale(kept, weight).astype(x.dtype)


def block_chance(rate: float, size: int, *, height: int, width: int) -> float:
  """Returns how likely a square starts at each place where it fits (eq. 1 of Ghiasi et al.).

  >>> round(block_chance(0.1, size=5, height=10, width=10), 4)
  0.0111
  """
  return rate / size**2 * (height * width) / ((height - size + 1) * (width - size + 1))


def cover(starts: jax.Array, size: int) -> jax.Array:
  """Returns 1 at the places that a square covers, and 0 elsewhere.

  Args:
    starts: [examples, rows, columns, channels], 1 where the first corner of a square is, else 0.
    size: side of the squares.

  Returns:
    [examples, rows + size - 1, columns + size - 1, channels].

  >>> cover(jnp.zeros((1, 2, 3, 1)).at[0, 1, 0, 0].set(1), size=2)[0, :, :, 0].tolist()
  [[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]
  """
  for axis in (1, 2):
    window, pads = [1] * 4, [(0, 0)] * 4
    window[axis], pads[axis] = size, (size - 1, size - 1)
    starts = lax.reduce_window(starts, 0.0, lax.max, window, [1] * 4, pads)
  return starts


def _scale(kept: jax.Array, weight: jax.Array | None) -> jax.Array:
  """Returns the number of places over the number of those kept; examples of weight 0 are absent."""
  of_each = kept.astype(jnp.float32).mean((1, 2, 3))
  weight = jnp.ones_like(of_each) if weight is None else weight
  return weight.sum() / jnp.maximum(weight @ of_each, 1e-12)  # nothing may be left
