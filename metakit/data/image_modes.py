"""Image files with more than eight bits a channel, or with transparency."""

import io
import re
import sys
from typing import Any

import numpy as np
from PIL import Image

# Pillow reads these formats itself. For others it may start another program.
FORMATS = ('BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')
FAINT = 32  # levels between the darkest and the lightest pixel of an image that is hardly visible

# Pillow's names of how colours of 16 bits lie in a file. B and L are the two orders of bytes, and N
# is that of the machine.
_DEEP = re.compile(r'.*;16[BLN]')
_DEEP_READ = re.compile(r'(RGB|RGBA|RGBX|LA);16[BLN]')
_SEPARATE_PLANES = 284  # the TIFF tag PlanarConfiguration
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # a TIFF tag, and a value that Pillow ignores at 16 bits


def open_image(data: bytes) -> Any:
  """Opens an image file of one of FORMATS; its pixels are not decoded yet."""
  return Image.open(io.BytesIO(data), formats=FORMATS)


def check_depth(image: Any, name: str) -> None:
  """Raises ValueError if an opened file has 16 bits a channel which `deep_values` cannot read."""
  modes = {_raw_mode(tile) for tile in image.tile}
  deep = [mode for mode in modes if _DEEP.fullmatch(mode) and mode[0] != 'I']
  planes = getattr(image, 'tag_v2', {}).get(_SEPARATE_PLANES, 1)
  if deep and (len(modes) > 1 or planes != 1 or not _DEEP_READ.fullmatch(deep[0])):
    raise ValueError(f'{name}: 16 bits a channel in the form {deep[0]}; save it as 8-bit RGB')


def deep_values(image: Any, data: bytes) -> np.ndarray | None:
  """Returns the pixels of a file of more than 8 bits a channel.

  Pillow reads 16 bits of grayscale, but only the upper byte of colours. It reads the lower byte if
  it is told the other order of bytes.

  Args:
    image: what `open_image` returned, checked by `check_depth`. It is not loaded before, and loaded
      afterwards.
    data: the bytes of the file.

  Returns:
    [height, width, channels] uint16 of 0 to 65,535 (gray, gray and alpha, RGB, or RGBA); None if
    the file has 8 bits, or is of a mode without a known range (32 bits, float).
  """
  modes = {_raw_mode(tile) for tile in image.tile}
  if deep := [mode for mode in modes if _DEEP_READ.fullmatch(mode)]:
    values = _deep_colours(image, data, deep[0])
  elif image.mode.startswith('I;16') or (image.mode == 'I' and image.format == 'PPM'):
    values = _deep_gray(image, modes)
  else:
    return None
  return _with_transparent_value(values, image.info.get('transparency'))


def _raw_mode(tile: Any) -> str:
  args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
  return str(args[0]) if args else ''


def _deep_gray(image: Any, modes: set[str]) -> np.ndarray:
  white = getattr(image, 'tag_v2', {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
  values = np.asarray(image).astype(np.int64)[..., None]
  if modes == {'I;12'}:
    values = (values * 65535 + 2047) // 4095
  return (65535 - values if white else values).astype(np.uint16)


def _deep_colours(image: Any, data: bytes, mode: str) -> np.ndarray:
  lower = open_image(data)
  if mode == 'LA;16B':  # four bytes a pixel, which RGBA leaves in their order
    lower.tile = [_read_as(tile, 'RGBA') for tile in lower.tile]
    pairs = np.asarray(lower).astype(np.uint16)
    return pairs[..., ::2] * 256 + pairs[..., 1::2]
  native = 'L' if sys.byteorder == 'little' else 'B'
  order = mode[-1].replace('N', native)
  other = mode[:-1] + ('B' if order == 'L' else 'L')
  lower.tile = [_read_as(tile, other) for tile in lower.tile]
  return np.asarray(image).astype(np.uint16) * 256 + np.asarray(lower)


def _read_as(tile: Any, mode: str) -> Any:
  return tile._replace(args=(mode, *tile.args[1:]) if isinstance(tile.args, tuple) else mode)


def _with_transparent_value(values: np.ndarray, transparent: Any) -> np.ndarray:
  """Adds the alpha channel of a PNG file that names one value as transparent."""
  if transparent is None or values.shape[-1] not in (1, 3):
    return values
  opaque = (values != np.asarray(transparent)).any(-1, keepdims=True)
  return np.concatenate([values, opaque * np.uint16(65535)], axis=-1)


def on_paper(pixels: np.ndarray) -> np.ndarray:
  """Lays an image with transparency over white, as pages show it.

  If white would hide the image (white ink, say, whose shape is only in the alpha channel), it is
  laid over black. If no pixel is visible, the colours are used without the alpha channel, if they
  show
  anything: some programs leave the alpha channel at zero.

  Args:
    pixels: [height, width, 4] uint8, RGBA.

  Returns:
    [height, width, channels] uint8: one channel if all pixels are gray, else three.
  """
  colours, alpha = pixels[..., :3], pixels[..., 3:]
  if alpha.any() or np.ptp(colours) == 0:
    over = _over(colours, alpha, 255)
    if np.ptp(over) < FAINT:
      over = max(over, _over(colours, alpha, 0), key=np.ptp)
    colours = over
  gray = (colours == colours[..., :1]).all()
  return np.ascontiguousarray(colours[..., :1] if gray else colours)


def _over(colours: np.ndarray, alpha: np.ndarray, paper: int) -> np.ndarray:
  alpha = alpha.astype(np.uint16)
  return ((colours * alpha + paper * (255 - alpha) + 127) // 255).astype(np.uint8)
