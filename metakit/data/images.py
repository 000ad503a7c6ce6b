"""Decoding image files to arrays of one size."""

import io
import struct
import zlib
from collections.abc import Iterable

import numpy as np
from PIL import Image

from metakit.data.files import damaged
from metakit.data.table import ClassTable

# What each Pillow mode becomes: grayscale or RGB, 8 bits. Others (16 bits, float) are refused,
# because Pillow would clip them.
_MODES = {'1': 'L', 'L': 'L', 'LA': 'L', 'P': 'RGB', 'PA': 'RGB', 'RGB': 'RGB', 'RGBA': 'RGB'}
_MODES |= {'CMYK': 'RGB', 'YCbCr': 'RGB'}

# What Pillow raises for damaged files, PNG chunks and sizes.
_DAMAGE: tuple[type[Exception], ...] = (OSError, SyntaxError, ValueError, EOFError, KeyError)
_DAMAGE += (struct.error, zlib.error, Image.DecompressionBombError)


def decode_image(data: bytes, name: str) -> Image.Image:
  """Decodes an image file of any format Pillow reads.

  Args:
    data: the bytes of the file.
    name: the file, for messages.

  Returns:
    A Pillow image of mode 'L' (bilevel and grayscale files) or 'RGB' (all others; transparency is
    dropped).

  Raises:
    ValueError: if the file is damaged or holds more than 8 bits a channel.
  """
  try:
    image = Image.open(io.BytesIO(data))
    image.load()
  except _DAMAGE as error:
    # Pillow's "cannot identify" message names the memory buffer, which helps nobody.
    unknown = isinstance(error, Image.UnidentifiedImageError)
    reason = f'no image file ({len(data)} bytes)' if unknown else error
    raise damaged(name, reason) from error
  if image.mode not in _MODES:
    raise ValueError(f'{name}: pixels of mode {image.mode}; save it as 8-bit grayscale or RGB')
  return image.convert(_MODES[image.mode])


def stack_images(images: Iterable[tuple[str, Image.Image]], size: int | None = None) -> np.ndarray:
  """Stacks images to one array, resized where `size` is given.

  Resizing is bilinear with Pillow's support (a triangle as wide as the reduction), so it does not
  alias, never rings, and keeps the mean.

  Args:
    images: (name, image of `decode_image`) pairs.
    size: pixels of height and width; None leaves the images as they are.

  Returns:
    [images, height, width, channels] uint8; one channel if all images are grayscale, else three.

  Raises:
    ValueError: if there is no image, or size is None and an image differs in size from the first.
  """
  if size is not None and size < 1:
    raise ValueError(f'size={size} is not positive; use size>=1')
  arrays: list[np.ndarray] = []
  for name, image in images:
    if size is not None and image.size != (size, size):
      image = image.resize((size, size), Image.Resampling.BILINEAR)
    arrays.append(np.atleast_3d(np.asarray(image)))
    if arrays[-1].shape[:2] != arrays[0].shape[:2]:
      raise ValueError(
        f'{name}: {_pixels(arrays[-1])} pixels where the first image has {_pixels(arrays[0])}; '
        f'give size= to resize all images, such as size={arrays[0].shape[0]}'
      )
  if not arrays:
    raise ValueError('no images')
  channels = max(array.shape[-1] for array in arrays)
  return np.stack([np.broadcast_to(a, (*a.shape[:2], channels)) for a in arrays])


def _pixels(array: np.ndarray) -> str:
  return f'{array.shape[0]}x{array.shape[1]}'


def shrink_images(table: ClassTable, size: int) -> ClassTable:
  """Returns the table with its images reduced to [size, size] by averaging whole blocks of pixels.

  Args:
    table: x [rows, height, width, channels] uint8.
    size: pixels; height and width must be a multiple of it.

  Raises:
    ValueError: if they are not.
  """
  rows, height, width, channels = table.x.shape
  if size < 1 or height % size or width % size:
    raise ValueError(f'images of {height}x{width} pixels do not shrink to {size}; use a divisor')
  blocks = table.x.reshape(rows, size, height // size, size, width // size, channels)
  means = np.concatenate([part.mean((2, 4)) for part in np.array_split(blocks, -(-rows // 4096))])
  return table._replace(x=np.rint(means).astype(np.uint8))
