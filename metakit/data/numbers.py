"""How tables store numbers: one rule for every source of data.

Networks scale uint8 by 1 / 255 and take every other number as it is
(metakit.networks.convolution.as_float). So the same pixels must not be kept in two types.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from jax import dtypes

from metakit.inputs import native

BLOCK = 1 << 22  # numbers that are looked at in one piece, so that no copy of a table is made
CHANNELS = 4  # arrays with more channels than these are maps of features, not pixels
OVERSHOOT = 2  # floats up to here are pixels from 0 to 1, which resizing may leave a little above 1
CENTRED = 32  # pixels of 0 to 255 less their mean reach it; standardised values do not


def plain_array(name: str, values: Any) -> np.ndarray:
  """Returns values as a NumPy array of the machine's order of bytes.

  Raises:
    ValueError: if they have no common shape, are masked, or Python objects.
  """
  if np.ma.is_masked(values):
    raise ValueError(f'{name} has masked entries; fill them or leave those examples out')
  try:
    array = np.asarray(values)
  except ValueError as error:  # rows of several lengths
    raise ValueError(f'{name} is no array of one shape: {error}') from error
  if array.dtype.kind == 'O':
    raise ValueError(f'{name} holds Python objects; give an array of plain numbers or strings')
  return native(array)


def is_numeric(x: np.ndarray) -> bool:
  """Says whether an array holds booleans, or real numbers that JAX knows, such as bfloat16."""
  if x.dtype == bool:
    return True
  if dtypes.issubdtype(x.dtype, np.complexfloating):
    return False
  return dtypes.issubdtype(x.dtype, np.number) and x.dtype.char not in 'mg'  # times, 128 bits


def check_numbers(x: np.ndarray) -> None:
  """Checks the examples of a table.

  Args:
    x: [rows, ...].

  Raises:
    ValueError: if they are no numbers, or hold NaN, infinity, or what 32 bits do not hold.
  """
  if not is_numeric(x):
    raise ValueError(f'x is {x.dtype}; give real numbers of at most 64 bits')
  if dtypes.issubdtype(x.dtype, np.inexact):
    for first, block in _blocks(x):
      if not np.isfinite(block).all():
        bad = np.isfinite(block.reshape(len(block), -1)).all(axis=1).argmin()
        raise ValueError(f'example {first + bad} holds NaN or infinity; clean the data first')
  check_width(x)


def check_width(x: np.ndarray) -> None:
  """Raises ValueError if numbers of 64 bits do not fit the type that JAX makes of them.

  JAX would wrap such integers and make infinity of such floats. Unless jax_enable_x64 is set, that
  type has 32 bits.
  """
  kept = dtypes.canonicalize_dtype(x.dtype)
  if kept == x.dtype or x.size == 0 or x.dtype.kind not in 'iuf':
    return
  limits = np.finfo(kept) if x.dtype.kind == 'f' else np.iinfo(kept)
  low, high = x.min(), x.max()
  if low < limits.min or high > limits.max:
    worst = low if low < limits.min else high
    remedy = 'scale the data' if x.dtype.kind == 'f' else 'scale the data or give floats'
    raise ValueError(f'x holds {worst}, more than {kept} holds; {remedy}')


def _blocks(x: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
  """Yields pieces of the rows, with the number of their first row."""
  rows = max(1, BLOCK * len(x) // max(x.size, 1))
  for first in range(0, len(x), rows):
    yield first, x[first : first + rows]


def as_pixels(x: np.ndarray) -> np.ndarray:
  """Returns images as tables keep them; other arrays, and most images, unchanged.

  Images are arrays [rows, height, width], or [rows, ..., channels] of up to four channels.

    integers of 0 to 255, of any type: uint8
    integers of 0 and 1 alone, and booleans: uint8 of 0 and 255
    integers of 0 to 65,535: uint8, the nearest to value / 257, with a warning
    floats of 0 to 255: as integers if they are whole numbers, else divided by 255; with a warning
    floats of 0 to 1, and those of which some are negative (standardised): unchanged

  What looks like pixels of another range is left alone, with a warning.

  Args:
    x: [rows, ...] finite numbers.
  """
  images = x.ndim == 3 or (x.ndim > 3 and x.shape[-1] <= CHANNELS)
  if not images or x.size == 0:
    return x
  if x.dtype == bool:
    return x * np.uint8(255)
  low, high = float(x.min()), float(x.max())
  floats = dtypes.issubdtype(x.dtype, np.floating)
  if low < 0 or high > 65535:
    if max(-low, high) > CENTRED:
      _warn(f'images of {low:g} to {high:g}, which networks take as they are; scale them to 0 to 1')
    return x
  if floats and (high <= 1 or not _whole(x)):
    return _fraction(x, high)
  if high > 255:
    _warn(f'images of integers up to {high:g}: taken for pixels of 16 bits, and rounded to 8')
    return np.concatenate([eight_bits(block) for _, block in _blocks(x)])
  if low == 0 and high == 1:
    _warn('images of the integers 0 and 1: taken for pixels of one bit, and kept as 0 and 255')
    return x.astype(np.uint8) * np.uint8(255)
  if floats:
    _warn(f'images of floats up to {high:g}: taken for pixels of 0 to 255, and kept as uint8')
  return x.astype(np.uint8, copy=False)


def eight_bits(values: np.ndarray) -> np.ndarray:
  """Rounds integers of 0 to 65,535 to 0 to 255: the nearest to value / 257, as uint8."""
  return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _whole(x: np.ndarray) -> bool:
  return all((block == np.rint(block)).all() for _, block in _blocks(x))


def _fraction(x: np.ndarray, high: float) -> np.ndarray:
  if high <= OVERSHOOT:
    return x
  if high > 255:
    _warn(f'images of floats up to {high:g}, which networks take as they are; scale them to 0 to 1')
    return x
  _warn(f'images of floats up to {high:g}: taken for pixels of 0 to 255, and divided by 255')
  return (x / 255).astype(x.dtype)


def _warn(reason: str) -> None:
  warnings.warn(f'x holds {reason}', stacklevel=4)
