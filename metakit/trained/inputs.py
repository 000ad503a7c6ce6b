"""What is known of the inputs of a trained learner, and how others are made like them."""

import math
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metakit.data.encodings import encode
from metakit.keys import task_key
from metakit.sources import EpisodeSource, complete, on_host, read_rows
from metakit.trained.pictures import is_pictures, pictures
from metakit.types import Key, presence

EPISODES, ROWS = 4, 512  # of training that are looked at
FAR = 4.0  # standard deviations of the training inputs that a mean may lie off without a warning
MIDDLE = 127.5  # between black and white
ALONE = 80.0  # paper is darker than this, or lighter than 255 less this, in nearly all pictures


class Inputs(NamedTuple):
  """The inputs of a trained learner.

  Attributes:
    shape: of one example; height, width and channels of a picture.
    dtype: type of the numbers, 'uint8' for pictures.
    mean: mean over all numbers of training examples.
    deviation: their standard deviation.
    encoding: how numbers were made of texts or rows of a table, see metakit.data.encodings; None
      if examples were numbers to begin with.
    missing: whether numbers were missing (NaN). Then they may be, and examples may be shorter: what
      they lack at their end is missing.
    support: the most examples of a support set; 0 if it is not known.
  """

  shape: tuple[int, ...]
  dtype: str
  mean: float
  deviation: float
  encoding: Mapping[str, Any] | None = None
  missing: bool = False
  support: int = 0

  @property
  def are_pictures(self) -> bool:
    """Whether examples are pictures."""
    return self.dtype == 'uint8' and len(self.shape) == 3 and self.shape[-1] in (1, 3)


def measure(source: EpisodeSource, root: Key, encoding: Mapping[str, Any] | None = None) -> Inputs:
  """Returns what is known of the inputs of training episodes.

  Args:
    source: the training episodes. Rows of its table are looked at, evenly spaced, or else the first
      four episodes of `root`.
    root: their root key, such as roots(seed).calibration.
    encoding: see Inputs.
  """
  if source.data is not None and source.finish is None:
    rows = np.unique(np.linspace(0, len(source.data) - 1, ROWS).astype(int))
    return _measured(np.asarray(source.data[rows]), encoding)
  planned = jax.jit(jax.vmap(lambda i: source.plan(task_key(root, 0, i))))(jnp.arange(EPISODES))
  data = source.data
  if on_host(source):
    planned, data = read_rows(planned, data), None
  whole = jax.jit(jax.vmap(lambda episode: complete(source, episode, data)))(planned)
  support = whole.support
  there = np.asarray(jax.vmap(presence)(support))
  x = np.asarray(support.x)
  return _measured(x[there], encoding)._replace(support=x.shape[1])


def _measured(x: np.ndarray, encoding: Mapping[str, Any] | None) -> Inputs:
  values = x.astype(np.float64)
  moments = float(np.nanmean(values)), float(np.nanstd(values))
  return Inputs(x.shape[1:], str(x.dtype), *moments, encoding, bool(np.isnan(values).any()))


class Ready(NamedTuple):
  """Inputs as a learner takes them.

  Attributes:
    x: [examples, *shape].
    inverted: whether dark and light were exchanged.
  """

  x: np.ndarray
  inverted: bool = False


def ready(inputs: Inputs, x: Any, *, like: Ready | None = None) -> Ready:
  """Returns examples of a user as those that a learner was trained on.

  Pictures get the size and channels of training. If those were of light ink on dark ground, or the
  reverse, and these are not, dark and light are exchanged. Texts and rows of a table are encoded as
  in training. A warning says what changes much, and which inputs are far from those of training.

  Args:
    inputs: those of training.
    x: pictures (see metakit.trained.pictures), texts, rows of a table, or numbers
      [examples, *shape]; numbers of another shape are taken if each example has as many.
    like: the support set, if x are queries: pictures are inverted if its were.

  Raises:
    ValueError: in one line, for inputs of another kind or size, for infinity, and for NaN, unless
      numbers were missing in training.
    OSError: naming the file, if a picture cannot be read.
  """
  if inputs.are_pictures:
    return _pictures(inputs, x, like)
  if inputs.encoding is not None and not _is_encoded(inputs, x):
    return Ready(_numbers(inputs, encode(inputs.encoding, x), like))
  if is_pictures(x):
    raise ValueError(
      f'x are pictures, and this learner was trained on {_kind(inputs)}; give those, or a learner '
      'of pictures'
    )
  return Ready(_numbers(inputs, x, like))


def _kind(inputs: Inputs) -> str:
  if inputs.encoding is not None:
    return f'{inputs.encoding["kind"]}'
  return f'numbers of shape {inputs.shape}'


def _is_encoded(inputs: Inputs, x: Any) -> bool:
  """Tells whether x are the numbers that a learner takes; rows never are."""
  assert inputs.encoding is not None
  if inputs.encoding['kind'] != 'texts':
    return inputs.encoding['kind'] == 'numbers'
  shape = np.shape(x) if isinstance(x, np.ndarray | jax.Array) else ()
  return shape[1:] == inputs.shape and np.asarray(x).dtype.kind in 'fiub'


def _pictures(inputs: Inputs, x: Any, like: Ready | None) -> Ready:
  x = x if isinstance(x, list | tuple) else _array(x)
  x, changed = pictures(x, inputs.shape)
  if like is None:
    inverted = bool(len(x)) and _is_negative(inputs, float(x.mean()))
    if inverted:
      changed.append('dark and light were exchanged, since training was on the reverse')
  else:
    inverted, changed = like.inverted, []  # said of the support
  x = 255 - x if inverted else x
  if changed:
    _warn(f'pictures differ from those of training: {"; ".join(changed)}')
  elif like is None:
    _warn_if_far(inputs, x)
  return Ready(x, inverted)


def _is_negative(inputs: Inputs, mean: float) -> bool:
  """Tells whether pictures have a light ground and those of training a dark one, or vice versa.

  The ground is most of a drawing, so their means lie on two sides. Photographs are on no side.
  """
  dark, light = inputs.mean < ALONE, inputs.mean > 255 - ALONE
  return (dark and mean > MIDDLE) or (light and mean < MIDDLE)


def _array(x: Any) -> np.ndarray:
  """Returns inputs as an array of numbers."""
  if hasattr(x, 'toarray'):  # of scipy.sparse
    x = x.toarray()
  try:
    array = np.asarray(x)
  except ValueError as error:
    raise ValueError(
      f'x is no array of one shape ({error}); give as many numbers for each'
    ) from None
  if array.dtype == object:
    try:
      array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
      raise ValueError(f'x holds what is no number ({error}); give numbers') from None
  if array.dtype.kind not in 'biuf':
    raise ValueError(f'x is {array.dtype}; give numbers')
  return array


def _numbers(inputs: Inputs, x: Any, like: Ready | None) -> np.ndarray:
  array = _array(x)
  if inputs.missing:
    return _with_missing(inputs, array)
  size = math.prod(inputs.shape)
  if array.ndim == 0 or (array.shape[1:] != inputs.shape and math.prod(array.shape[1:]) != size):
    raise ValueError(
      f'x has shape {array.shape}, and this learner was trained on examples of shape '
      f'{inputs.shape}; give [examples, {", ".join(map(str, inputs.shape))}]'
    )
  pixels = array.dtype == np.uint8 and inputs.dtype != 'uint8'
  array = (array / 255 if pixels else array).astype(inputs.dtype).reshape(-1, *inputs.shape)
  finite = np.isfinite(array).reshape(len(array), -1).all(1)
  if not finite.all():
    raise ValueError(f'example {finite.argmin()} of x holds NaN or infinity; clean the data first')
  if like is None:
    _warn_if_far(inputs, array)
  return array


def _with_missing(inputs: Inputs, array: np.ndarray) -> np.ndarray:
  """Returns vectors of which numbers may be missing."""
  (most,) = inputs.shape
  if array.ndim != 2 or array.shape[1] > most:
    raise ValueError(
      f'x has shape {array.shape}, and this learner was trained on vectors of at most {most} '
      'numbers; give those, or use metakit.estimators, which has means for more'
    )
  infinite = np.isinf(array.astype(inputs.dtype)).any(1)
  if infinite.any():
    raise ValueError(f'example {infinite.argmax()} of x holds infinity; clean the data first')
  filled = np.full((len(array), most), np.nan, inputs.dtype)
  filled[:, : array.shape[1]] = array
  return filled


def _warn_if_far(inputs: Inputs, x: np.ndarray) -> None:
  if not x.size:
    return
  mean, deviation = float(x.mean(dtype=np.float64)), float(x.std(dtype=np.float64))
  unit = max(inputs.deviation, 1e-6 * max(abs(inputs.mean), 1))
  if abs(mean - inputs.mean) > FAR * unit or not deviation < 10 * FAR * unit:
    _warn(
      f'x has mean {mean:.3g} and deviation {deviation:.3g}, where training had {inputs.mean:.3g} '
      f'and {inputs.deviation:.3g}: scale it as in training'
    )


def _warn(said: str) -> None:
  warnings.warn(said, stacklevel=6)
