"""Contexts that gray images are shown in: a colour, a background or a place of their own.

They are changes for `context_table` (metakit.episodes.spurious).
"""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np

from metakit.episodes.made_domains import Change, paint_images

PERIOD = 7  # of the stripes, in pixels
PLACES = 9  # three rows of three


def colour_cue(contexts: int) -> Change:
  """Returns the change that draws white ink on black paper in one of several colours.

  Args:
    contexts: colours, of equal distances in hue.

  Returns:
    (number, image [height, width, 1] uint8) -> [height, width, 3] uint8.

  >>> image = jnp.array([[[0], [255]]], jnp.uint8)
  >>> jax.jit(colour_cue(3))(1, image).tolist()
  [[[0, 0, 0], [0, 255, 0]]]
  """
  inks = [colorsys.hsv_to_rgb(k / contexts, 1, 1) for k in range(contexts)]
  return paint_images(paper=[(0, 0, 0)] * contexts, ink=inks)


def texture_cue(contexts: int) -> Change:
  """Returns the change that puts stripes of one of several directions behind white ink.

  Args:
    contexts: directions, of equal distances in angle. Stripes are at most half as bright as ink.

  Returns:
    (number, image [height, width, 1] uint8) -> [height, width, 1] uint8.

  >>> image = jnp.zeros((4, 4, 1), jnp.uint8).at[1].set(255)
  >>> jax.jit(texture_cue(2))(0, image)[..., 0].tolist()
  [[128, 104, 50, 6], [255, 255, 255, 255], [128, 104, 50, 6], [128, 104, 50, 6]]
  """
  angles = jnp.asarray(np.pi * np.arange(contexts) / contexts, jnp.float32)

  def change(number: jax.Array, image: jax.Array) -> jax.Array:
    row, column = jnp.indices(image.shape[:2], jnp.float32)[..., None]
    along = column * jnp.cos(angles[number]) + row * jnp.sin(angles[number])
    stripes = 64 * (1 + jnp.cos(2 * jnp.pi * along / PERIOD))
    return jnp.round(image + (1 - image / 255) * stripes).astype(jnp.uint8)

  return change


def position_cue(contexts: int) -> Change:
  """Returns the change that shows an image at half its size in one of nine places.

  Args:
    contexts: places, the first ones of three rows of three.

  Returns:
    (number, image [height, width, channels] uint8) -> the same shape and dtype. Height and width
    are even.

  Raises:
    ValueError: if contexts is more than 9.

  >>> image = jnp.full((4, 4, 1), 8, jnp.uint8)
  >>> jax.jit(position_cue(9))(5, image)[..., 0].tolist()
  [[0, 0, 0, 0], [0, 0, 8, 8], [0, 0, 8, 8], [0, 0, 0, 0]]
  """
  if contexts > PLACES:
    raise ValueError(f'contexts={contexts} exceeds the {PLACES} places; use contexts<={PLACES}')

  def change(number: jax.Array, image: jax.Array) -> jax.Array:
    height, width, channels = image.shape
    blocks = image.reshape(height // 2, 2, width // 2, 2, channels).astype(jnp.float32)
    small = jnp.round(blocks.mean((1, 3))).astype(image.dtype)
    start = (number // 3) * height // 4, (number % 3) * width // 4, 0
    return jax.lax.dynamic_update_slice(jnp.zeros_like(image), small, start)

  return change
