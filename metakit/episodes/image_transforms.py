"""Random transforms of images, to use with `augment`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from metakit.episodes import draws
from metakit.types import Key

# (key, x of one example) -> x
Transform = Callable[[Key, Any], Any]


def rotate_quarter_turns(key: Key, image: jax.Array) -> jax.Array:
  """Rotates an image by 0, 90, 180 or 270 degrees, all equally likely.

  Rotations of single examples make a classifier invariant. To get rotations as new classes,
  transform whole classes (`augment`), or make them rows of the table (metakit.data.omniglot).

  Args:
    key: a key.
    image: [height, width, ...] with height = width.

  Raises:
    ValueError: if the image is not square.

  >>> image, turn = jnp.array([[1, 2], [3, 4]]), jax.jit(rotate_quarter_turns)
  >>> len({str(turn(jax.random.key(seed), image)) for seed in range(20)})
  4
  """
  if image.ndim < 2 or image.shape[0] != image.shape[1]:
    raise ValueError(f'image of shape {image.shape} is not square; quarter turns need [n, n, ...]')
  turns = jnp.stack([jnp.rot90(image, k) for k in range(4)])
  return turns[draws.integers(key, (), 0, 4)]


def mirror_image(key: Key, image: jax.Array) -> jax.Array:
  """Mirrors an image, left for right, or leaves it, both equally likely.

  Args:
    key: a key.
    image: [height, width, ...].

  >>> image = jnp.array([[1, 2], [3, 4]])
  >>> mirrored = {str(mirror_image(jax.random.key(seed), image).tolist()) for seed in range(9)}
  >>> sorted(mirrored)
  ['[[1, 2], [3, 4]]', '[[2, 1], [4, 3]]']
  """
  return jnp.where(draws.coin(key), image[:, ::-1], image)


def shift_image(max_pixels: int, fill: float = 0) -> Transform:
  """Makes a transform that shifts an image by up to `max_pixels` in both directions.

  This is also a random crop after padding by `max_pixels` (torchvision's RandomCrop).

  Args:
    max_pixels: the shifts down and right are uniform integers from -max_pixels to max_pixels.
    fill: value of the pixels that come into view; 0 is the background of Omniglot and MNIST.

  Returns:
    (key, image [height, width, ...]) -> image of the same shape and dtype.

  Raises:
    ValueError: if max_pixels is negative.

  >>> image, shift = jnp.array([[1, 2], [3, 4]]), jax.jit(shift_image(max_pixels=1))
  >>> len({str(shift(jax.random.key(seed), image)) for seed in range(100)})  # 3 down, 3 right
  9
  """
  if max_pixels < 0:
    raise ValueError(f'max_pixels={max_pixels} is negative; use max_pixels>=0')

  def shift(key: Key, image: jax.Array) -> jax.Array:
    border = [(max_pixels, max_pixels)] * 2 + [(0, 0)] * (image.ndim - 2)
    padded = jnp.pad(image, border, constant_values=fill)
    down, right = draws.integers(key, (2,), 0, 2 * max_pixels + 1)
    rows = jax.lax.dynamic_slice_in_dim(padded, down, image.shape[0], axis=0)
    return jax.lax.dynamic_slice_in_dim(rows, right, image.shape[1], axis=1)

  return shift


def cut_out(size: int, fill: float | None = None) -> Transform:
  """Makes a transform that covers a square of an image (DeVries, Taylor 2017, arXiv:1708.04552).

  The centre is any pixel, all equally likely. So a part of the square may be outside of the image.
  For an even size the square reaches size / 2 pixels above and to the left of its centre, the
  centre not counted, and one less below and to the right.

  Args:
    size: height and width of the square, in pixels.
    fill: value of the square; None for the mean of each channel of the image.

  Returns:
    (key, image [height, width, ...]) -> image of the same shape and dtype; the mean of integers is
    rounded.

  Raises:
    ValueError: if size is negative.

  >>> cut = jax.jit(cut_out(size=3, fill=0))
  >>> image = jnp.ones((5, 5), jnp.uint8)
  >>> {25 - int(cut(jax.random.key(seed), image).sum()) for seed in range(50)}  # pixels covered
  {9, 4, 6}
  """
  if size < 0:
    raise ValueError(f'size={size} is negative; use size>=0')

  def cut(key: Key, image: jax.Array) -> jax.Array:
    shape = image.shape[:2]
    first = draws.integers(key, (2,), 0, jnp.array(shape)) - size // 2
    row, column = (jnp.arange(n) - start for n, start in zip(shape, first, strict=True))
    inside = lambda place: (place >= 0) & (place < size)
    covered = inside(row)[:, None] & inside(column)
    value: Any = fill
    if fill is None:
      value = image.mean((0, 1), dtype=jnp.result_type(image, jnp.float32))
      value = jnp.round(value) if jnp.issubdtype(image.dtype, jnp.integer) else value
    covered = covered.reshape(*shape, *[1] * (image.ndim - 2))
    return jnp.where(covered, jnp.asarray(value, image.dtype), image)

  return cut


def warp_image(
  max_pixels: float, max_degrees: float, max_stretch: float, *, fill: float = 0
) -> Transform:
  """Makes a transform that turns, stretches and shifts an image, with linear interpolation.

  Args:
    max_pixels: the shifts down and right are uniform from -max_pixels to max_pixels.
    max_degrees: the rotation about the centre is uniform from -max_degrees to max_degrees.
    max_stretch: height and width grow by factors of their own, whose logarithms are uniform from
      -log(1 + max_stretch) to log(1 + max_stretch).
    fill: value of the pixels that come into view.

  Returns:
    (key, image [height, width, ...]) -> image of the same shape and dtype; integers are rounded.

  Raises:
    ValueError: if a bound is negative.

  >>> warp = warp_image(max_pixels=2, max_degrees=15, max_stretch=0.1)
  >>> image = jax.ShapeDtypeStruct((28, 28, 1), 'uint8')
  >>> jax.eval_shape(warp, jax.random.key(0), image).shape
  (28, 28, 1)
  """
  if min(max_pixels, max_degrees, max_stretch) < 0:
    raise ValueError(
      f'max_pixels={max_pixels}, max_degrees={max_degrees} and max_stretch={max_stretch} are '
      'bounds, so none may be negative'
    )
  bounds = np.array([max_pixels] * 2 + [np.deg2rad(max_degrees)] + [np.log1p(max_stretch)] * 2)

  def warp(key: Key, image: jax.Array) -> jax.Array:
    down, right, angle, *stretch = bounds * draws.uniform(key, (5,), minval=-1, maxval=1)
    return warp_by(image, shift=(down, right), angle=angle, stretch=stretch, fill=fill)

  return warp


def warp_by(
  image: jax.Array,
  *,
  shift: tuple[Any, Any] = (0, 0),
  angle: Any = 0,
  stretch: Sequence[Any] = (0, 0),
  fill: float = 0,
) -> jax.Array:
  """Turns, stretches and shifts an image, with linear interpolation.

  Args:
    image: [height, width, ...].
    shift: pixels down and right.
    angle: of the rotation about the centre, counterclockwise, in radians.
    stretch: logarithms of the factors by which height and width grow.
    fill: value of the pixels that come into view.

  Returns:
    The image, of the same shape and dtype; integers are rounded.

  >>> jax.jit(warp_by)(jnp.array([[1, 2], [3, 4]]), shift=(0, 1)).tolist()
  [[0, 1], [0, 3]]
  """
  down, right = shift
  centre = [(size - 1) / 2 for size in image.shape[:2]]
  y, x = jnp.meshgrid(*(jnp.arange(2 * c + 1) - c for c in centre), indexing='ij')
  y, x = y - down, x - right
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  rows = (cos * y + sin * x) * jnp.exp(-stretch[0]) + centre[0]
  columns = (cos * x - sin * y) * jnp.exp(-stretch[1]) + centre[1]
  planes = image.reshape(*image.shape[:2], -1).astype(jnp.result_type(image, jnp.float32))
  look = lambda plane: map_coordinates(plane, [rows, columns], order=1, cval=fill)
  warped = jax.vmap(look, in_axes=-1, out_axes=-1)(planes).reshape(image.shape)
  whole = jnp.issubdtype(image.dtype, jnp.integer)
  return (jnp.round(warped) if whole else warped).astype(image.dtype)
