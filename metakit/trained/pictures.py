"""Pictures of any kind as a network was trained on them: size, channels, and light on dark or not.

A picture is a path, a Pillow image, or an array [height, width] or [height, width, channels] of
gray, gray and alpha, RGB, or RGBA: uint8, uint16, booleans, or floats from 0 to 1.
"""

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from metakit.data.image_modes import on_paper
from metakit.data.images import decode_image
from metakit.data.numbers import eight_bits

CHANNELS = (1, 2, 3, 4)
CONVERTED = ('CMYK', 'HSV', 'LAB', 'RGBX', 'YCbCr')  # modes of Pillow that PNG files do not know
ENLARGED, REDUCED, SQUEEZED = 4.0, 16.0, 1.5  # factors of a change that is worth a warning


def is_pictures(x: Any) -> bool:
  """Tells whether inputs are paths or Pillow images."""
  kinds = str, os.PathLike, Image.Image
  return isinstance(x, list | tuple) and bool(x) and all(isinstance(each, kinds) for each in x)


def pictures(x: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, list[str]]:
  """Returns pictures with the size and the channels of those that a network was trained on.

  They are resized as metakit.data.folder does it, to the height and width without regard to their
  own form; colours become gray, or gray becomes RGB.

  Args:
    x: a sequence of pictures, or one array of them.
    shape: height, width and channels (1 or 3) of a picture of the training.

  Returns:
    The pictures [pictures, *shape] uint8, and what was changed much, as text for a warning.

  Raises:
    ValueError: naming the picture, if it is none.
    OSError: naming the file, if it cannot be read.
  """
  height, width, channels = shape
  mode, colours = 'L' if channels == 1 else 'RGB', False
  resized, sizes = [], []
  for number, each in enumerate(_each(x)):  # one large picture at a time in memory
    image = _image(each, f'picture {number}')
    sizes.append(image.size)
    colours = colours or (channels == 1 and _is_coloured(image))
    resized.append(np.asarray(_resized(image.convert(mode), (width, height))))
  if not resized:
    return np.zeros((0, *shape), np.uint8), []
  array = np.stack(resized).reshape(-1, *shape)
  return array, [*_changed(sizes, (width, height)), *(['colours became gray'] if colours else [])]


def _is_coloured(image: Image.Image) -> bool:
  return image.mode == 'RGB' and bool(np.ptp(np.asarray(image), axis=2).any())


def _each(x: Any) -> Iterable[Any]:
  if isinstance(x, str | os.PathLike | Image.Image):
    raise ValueError('x is one picture; give a list of pictures, [picture] for instance')
  if isinstance(x, np.ndarray) and x.ndim not in (3, 4):
    raise ValueError(
      f'pictures are an array of shape {x.shape}; give [pictures, height, width], or with a last '
      'axis of 1, 3 or 4 channels'
    )
  return x


def _image(picture: Any, name: str) -> Image.Image:
  """Returns a picture as a Pillow image of mode 'L' or 'RGB'."""
  if isinstance(picture, str | os.PathLike):
    return decode_image(_read(Path(picture)), str(picture))
  if isinstance(picture, Image.Image):
    return decode_image(_as_file(picture, name), name)
  pixels = on_paper_if_transparent(_pixels(np.asarray(picture), name))
  return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _read(path: Path) -> bytes:
  try:
    return path.expanduser().read_bytes()
  except OSError as error:
    reason = error.strerror or str(error)
    raise type(error)(f'cannot read {path}: {reason}; give the path of a picture') from None


def _as_file(image: Image.Image, name: str) -> bytes:
  """Returns a Pillow image as the bytes of a file, for `decode_image` to look at its mode."""
  buffer = io.BytesIO()
  try:
    (image.convert('RGB') if image.mode in CONVERTED else image).save(buffer, 'PNG')
  except (OSError, ValueError) as error:
    raise ValueError(f'{name}: pixels of mode {image.mode}; convert it to RGB') from error
  return buffer.getvalue()


def _pixels(array: np.ndarray, name: str) -> np.ndarray:
  """Returns an array as [height, width, channels] uint8."""
  array = array[..., None] if array.ndim == 2 else array
  if array.ndim != 3 or array.shape[-1] not in CHANNELS or 0 in array.shape:
    raise ValueError(
      f'{name} has shape {array.shape}; give [height, width] or [height, width, channels] with '
      '1, 3 or 4 channels'
    )
  if array.dtype == bool:
    return array * np.uint8(255)
  if array.dtype.kind == 'f':
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
      raise ValueError(
        f'{name} holds floats of {array.min():g} to {array.max():g}; give 0 to 1, or uint8 of 0 to '
        '255'
      )
    return np.rint(array * 255).astype(np.uint8)
  if array.dtype.kind not in 'iu' or array.min() < 0 or array.max() > 65535:
    raise ValueError(f'{name} holds {array.dtype}, which are no pixels; give uint8 of 0 to 255')
  # 8 or 16 bits are told by the type; of wider types by the largest value.
  deep = array.dtype == np.uint16 or array.max() > 255
  return eight_bits(array) if deep else array.astype(np.uint8)


def on_paper_if_transparent(pixels: np.ndarray) -> np.ndarray:
  """Lays gray and alpha, or RGBA, over paper; other pixels are returned as they are."""
  rgba = {2: [0, 0, 0, 1], 4: [0, 1, 2, 3]}.get(pixels.shape[-1])
  return pixels if rgba is None else on_paper(pixels[..., rgba])


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
  return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)


def _changed(sizes: list[tuple[int, int]], to: tuple[int, int]) -> Iterator[str]:
  """Yields what resizing changed much."""
  target = f'{to[1]}x{to[0]}'
  for width, height in sizes:
    scale = (to[0] / width, to[1] / height)
    if max(scale) > ENLARGED or min(scale) < 1 / REDUCED:
      yield f'{height}x{width} pixels became {target}'
      break
  for width, height in sizes:
    form = (width / height) / (to[0] / to[1])
    if max(form, 1 / form) > SQUEEZED:
      yield f'{height}x{width} pixels were squeezed into the form of {target}'
      break
