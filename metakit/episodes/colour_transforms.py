"""Random changes of the colours of an image, to use with `augment`.

They are those of torchvision.transforms.ColorJitter. Two things differ. Integers are rounded once,
at the end; torchvision drops what is behind the point after each change. Turning the hue is a
transform of its own; torchvision puts it at a random place between the others.
"""

import itertools

import jax
import jax.numpy as jnp

from metakit.episodes import draws
from metakit.episodes.image_transforms import Transform
from metakit.types import Key

GRAY = 0.2989, 0.587, 0.114  # shares of red, green and blue in gray (ITU-R BT.601)
ORDERS = tuple(itertools.permutations(range(3)))


def jitter_colours(brightness: float, contrast: float, saturation: float) -> Transform:
  """Makes a transform that changes brightness, contrast and saturation, in random order.

  Each change is f * image + (1 - f) * other, cut to the range of pixels. The other image is black
  (brightness), the mean of the gray image (contrast) or the gray image (saturation). A gray image
  keeps its saturation. Each f is uniform from max(0, 1 - bound) to 1 + bound.

  Args:
    brightness: bound of the factor of brightness; 0 for no change.
    contrast: bound of the factor of contrast.
    saturation: bound of the factor of saturation.

  Returns:
    (key, image) -> image of the same shape and dtype, [height, width] or [height, width, channels]
    of 1 or 3 channels. Integers are of 0 to 255, floats of 0 to 1.

  Raises:
    ValueError: if a bound is negative, or an image has another number of channels.

  >>> jitter, image = jax.jit(jitter_colours(0.4, 0, 0)), jnp.full((2, 2, 3), 100, jnp.uint8)
  >>> bright = [int(jitter(jax.random.key(seed), image)[0, 0, 0]) for seed in range(50)]
  >>> 60 <= min(bright) < 70 and 130 < max(bright) <= 140
  True
  """
  if min(brightness, contrast, saturation) < 0:
    raise ValueError(
      f'brightness={brightness}, contrast={contrast} and saturation={saturation} are bounds, so '
      'none may be negative'
    )
  high = jnp.array([brightness, contrast, saturation], jnp.float32) + 1
  low = jnp.maximum(2 - high, 0)

  def jitter(key: Key, image: jax.Array) -> jax.Array:
    x, most = _numbers(image)
    order_key, factor_key = jax.random.split(key)
    order = jnp.array(ORDERS)[draws.integers(order_key, (), 0, len(ORDERS))]
    factors = (low + (high - low) * draws.uniform(factor_key, (3,))).astype(x.dtype)
    for which in order:
      gray, factor = _gray(x), factors[which]
      other = jnp.where(which == 0, 0, jnp.where(which == 1, gray.mean(), gray))
      x = jnp.clip(factor * x + (1 - factor) * other, 0, most)
    return _as_before(x, image)

  return jitter


def turn_hue(max_turn: float) -> Transform:
  """Makes a transform that turns the hue of an image; value and chroma of each pixel stay.

  In the circle of hues let pixels have hue h (in sixths, red 0), largest number V, and V less the
  smallest C. Then a channel is V - C * min(1, max(0, min(k, 4 - k))) with k = (n + h) mod 6, and n
  is 5 for red, 3 for green and 1 for blue.

  Args:
    max_turn: the turn is uniform from -max_turn to max_turn; 0.5 is half of the circle.

  Returns:
    (key, image) -> image of the same shape and dtype; gray images stay. See `jitter_colours`.

  Raises:
    ValueError: unless 0 <= max_turn <= 0.5, or if an image has another number of channels.

  >>> turn, red = jax.jit(turn_hue(0.5)), jnp.array([[[200, 0, 0]]], jnp.uint8)
  >>> sorted(turn(jax.random.key(0), red)[0, 0].tolist())[::2]  # still as strong
  [0, 200]
  """
  if not 0 <= max_turn <= 0.5:
    raise ValueError(f'max_turn={max_turn} is no part of half a circle; use 0 <= max_turn <= 0.5')

  def turn(key: Key, image: jax.Array) -> jax.Array:
    x, _ = _numbers(image)
    if _is_gray(x):
      return image
    by = draws.uniform(key, (), -max_turn, max_turn).astype(x.dtype)
    value, chroma = x.max(-1, keepdims=True), jnp.ptp(x, -1, keepdims=True)
    k = (jnp.array([5, 3, 1], x.dtype) + _hue(x, value, chroma) + 6 * by) % 6
    return _as_before(value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1), image)

  return turn


def _hue(x: jax.Array, value: jax.Array, chroma: jax.Array) -> jax.Array:
  """Returns the hue of pixels in sixths of the circle, -1 to 5; any number for gray ones."""
  red, green, blue = jnp.split(x, 3, -1)
  apart = jnp.where(chroma == 0, 1, chroma)
  of_others = jnp.where(value == green, (blue - red) / apart + 2, (red - green) / apart + 4)
  return jnp.where(value == red, (green - blue) / apart, of_others)


def _numbers(image: jax.Array) -> tuple[jax.Array, float]:
  """Returns an image as floats, and the largest number that a pixel may have."""
  if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
    raise ValueError(
      f'an image of shape {image.shape} has no colours to change; give [height, width] or [height, '
      'width, channels] of 1 or 3 channels'
    )
  whole = jnp.issubdtype(image.dtype, jnp.integer)
  return image.astype(jnp.result_type(image, jnp.float32)), 255 if whole else 1


def _is_gray(x: jax.Array) -> bool:
  return x.ndim == 2 or x.shape[2] == 1


def _gray(x: jax.Array) -> jax.Array:
  """Returns the gray image: [height, width, 1] of one with colours, or the image itself."""
  if _is_gray(x):
    return x
  return (x * jnp.array(GRAY, x.dtype)).sum(-1, keepdims=True)


def _as_before(x: jax.Array, image: jax.Array) -> jax.Array:
  """Returns numbers in the type of the image that they come from; integers are rounded."""
  return (jnp.round(x) if jnp.issubdtype(image.dtype, jnp.integer) else x).astype(image.dtype)
