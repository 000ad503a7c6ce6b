"""Decoding image files to arrays of one size."""

import contextlib
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from metakit.data.files import damaged
from metakit.data.image_modes import (
  FORMATS,
  check_depth,
  deep_values,
  on_paper,
  open_image,
)
from metakit.data.numbers import eight_bits
from metakit.data.table import ClassTable

# What each Pillow mode without transparency becomes: grayscale or RGB, 8 bits. Others (32 bits,
# float) are refused, because their range is not known.
_MODES = {'1': 'L', 'L': 'L', 'P': 'RGB', 'RGB': 'RGB', 'CMYK': 'RGB', 'YCbCr': 'RGB'}

ROUNDED = 'rounded to 8 bits'  # in the `info` of an image of 16 bits a channel that lost digits

# What Pillow raises for damaged files, PNG chunks and sizes.
_DAMAGE: tuple[type[Exception], ...] = (OSError, SyntaxError, ValueError, EOFError, KeyError)
_DAMAGE += (struct.error, zlib.error, TypeError, OverflowError)
_TOO_LARGE = Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError


def decode_image(data: bytes, name: str) -> Image.Image:
  """Decodes an image file of one of the formats BMP, GIF, JPEG, PNG, PPM, TIFF and WEBP.

  The orientation that a camera wrote (EXIF) is applied. 16 bits a channel are rounded to 8: the
  nearest integer to value / 257; if digits are lost, ROUNDED is in the `info` of the image, and
  `stack_images` counts it. Transparent images are laid over white, or over black where white
  would hide them (metakit.data.image_modes.on_paper).

  Args:
    data: the bytes of the file.
    name: the file, for messages.

  Returns:
    A Pillow image of mode 'L' (bilevel and grayscale files, and transparent ones whose pixels are
    all gray) or 'RGB' (all others).

  Raises:
    ValueError: if the file is damaged, of another format, of more than PIL.Image.MAX_IMAGE_PIXELS
      pixels, or of pixels without a known range (32 bits, float).
  """
  with _naming_damage(name, len(data)):
    file = open_image(data)
  check_depth(file, name)
  with _naming_damage(name, len(data)):
    values = deep_values(file, data)
    image = _opaque(file) if values is None else _rounded(values)
    orientation = _orientation(file)
  if image.mode not in _MODES:
    raise ValueError(f'{name}: pixels of mode {image.mode}; save it as 8-bit grayscale or RGB')
  image = _upright(image.convert(_MODES[image.mode]), orientation)
  if values is not None and (values % 257).any():
    image.info[ROUNDED] = True
  return image


@contextlib.contextmanager
def _naming_damage(name: str, size: int) -> Iterator[None]:
  with warnings.catch_warnings():
    warnings.simplefilter('error', Image.DecompressionBombWarning)
    try:
      yield
    except _TOO_LARGE as error:
      reason = ' '.join(str(error).split()) or 'not enough memory'
      raise ValueError(f'{name}: {reason}; make the image smaller') from error
    except Image.UnidentifiedImageError as error:
      # Pillow's message names the memory buffer, which helps nobody.
      raise damaged(name, f'no image file ({size} bytes) of {", ".join(FORMATS)}') from error
    except _DAMAGE as error:
      raise damaged(name, error) from error


def _opaque(file: Any) -> Image.Image:
  """Returns the image of a file of 8 bits; its mode is kept where nothing is transparent."""
  file.load()
  if not file.has_transparency_data:
    return file
  return _of_pixels(on_paper(np.asarray(file.convert('RGBA'))))


def _rounded(values: np.ndarray) -> Image.Image:
  """Returns the image of [height, width, channels] values of 16 bits."""
  pixels = eight_bits(values)
  rgba = {2: [0, 0, 0, 1], 4: [0, 1, 2, 3]}.get(pixels.shape[-1])
  return _of_pixels(pixels if rgba is None else on_paper(pixels[..., rgba]))


def _of_pixels(pixels: np.ndarray) -> Image.Image:
  return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _orientation(file: Any) -> Any:
  # Damaged EXIF data leave an image as it is, for viewers too.
  with contextlib.suppress(*_DAMAGE):
    return file.getexif().get(ExifTags.Base.Orientation, 1)
  return 1


def _upright(image: Image.Image, orientation: Any) -> Image.Image:
  if orientation == 1:
    return image
  image.info.clear()  # of what else the EXIF data hold, nothing is rewritten
  image.getexif()[ExifTags.Base.Orientation] = orientation
  return ImageOps.exif_transpose(image)


def stack_images(images: Iterable[tuple[str, Image.Image]], size: int | None = None) -> np.ndarray:
  """Stacks images to one array, resized where `size` is given.

  Resizing is bilinear with Pillow's support (a triangle as wide as the reduction), so it does not
  alias, never rings, and keeps the mean. A warning says how many images of 16 bits a channel lost
  digits, as metakit.data.numbers.as_pixels says it of arrays.

  Args:
    images: (name, image of `decode_image`) pairs.
    size: pixels of height and width; None leaves the images as they are.

  Returns:
    [images, height, width, channels] uint8; one channel if all images are grayscale, else three.

  Raises:
    ValueError: if there is no image, size is not positive or of more than
      PIL.Image.MAX_IMAGE_PIXELS pixels, or size is None and an image differs in size from the
      first.
  """
  if size is not None and size < 1:
    raise ValueError(f'size={size} is not positive; use size>=1')
  most = Image.MAX_IMAGE_PIXELS  # None where a user has lifted the limit
  if size is not None and most is not None and size**2 > most:
    raise ValueError(f'size={size} is more than {most:,} pixels an image; use a smaller one')
  arrays: list[np.ndarray] = []
  rounded: list[str] = []
  for name, image in images:
    rounded += [name] if ROUNDED in image.info else []
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
  if rounded:
    warnings.warn(
      f'{len(rounded)} of {len(arrays)} images have 16 bits a channel, such as {rounded[0]}: '
      'rounded to 8',
      stacklevel=3,
    )
  channels = max(array.shape[-1] for array in arrays)
  return np.stack([np.broadcast_to(a, (*a.shape[:2], channels)) for a in arrays])


def _pixels(array: np.ndarray) -> str:
  return f'{array.shape[0]}x{array.shape[1]}'


def shrink_images(table: ClassTable, size: int) -> ClassTable:
  """Returns the table with its images reduced to [size, size] by averaging whole blocks of pixels.

  Args:
    table: x [rows, height, width, channels] uint8, rounded again, or floats.
    size: pixels; height and width must be a multiple of it.

  Raises:
    ValueError: if they are not, or x are no images.
  """
  if table.x.ndim != 4:
    raise ValueError(f'{table.x.shape} are no images [rows, height, width, channels] to shrink')
  rows, height, width, channels = table.x.shape
  if size < 1 or height % size or width % size:
    raise ValueError(f'images of {height}x{width} pixels do not shrink to {size}; use a divisor')
  blocks = table.x.reshape(rows, size, height // size, size, width // size, channels)
  means = np.concatenate([part.mean((2, 4)) for part in np.array_split(blocks, -(-rows // 4096))])
  whole = np.issubdtype(table.x.dtype, np.integer)
  return table._replace(x=(np.rint(means) if whole else means).astype(table.x.dtype))
