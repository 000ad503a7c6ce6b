"""Labels of anyone's as the numbers that learners take, and back."""

from typing import Any, NamedTuple

import numpy as np


class Labels(NamedTuple):
  """The labels of a support set.

  Attributes:
    classes: [classes] the labels that occur, in order; None in a regression.
    y: [examples] int32 class numbers, or targets [examples, outputs] float32.
    flat: whether targets were given as [examples].
  """

  classes: np.ndarray | None
  y: np.ndarray
  flat: bool = False


def class_labels(y: Any, examples: int) -> Labels:
  """Reads the labels of a classification: strings, integers, booleans, or whole numbers.

  Raises:
    ValueError: in one line, if there is not one for each example, or one is no label.
  """
  array = _array(y)
  _check_number(array, examples)
  if array.ndim != 1:
    raise ValueError(f'labels have shape {array.shape}; give one for each example, [examples]')
  if array.dtype.kind == 'f':
    if not (np.isfinite(array).all() and (array == np.rint(array)).all()):
      raise ValueError(
        f'labels are {array.dtype} with fractions, NaN or infinity; give strings or integers, or '
        'use a learner of a regression'
      )
  elif array.dtype.kind == 'O':
    _check_objects(array)
  elif array.dtype.kind not in 'biuUS':
    raise ValueError(f'labels are {array.dtype}; give strings or integers')
  classes, numbers = np.unique(array, return_inverse=True)
  return Labels(classes, numbers.reshape(-1).astype(np.int32))


def known_labels(classes: np.ndarray, y: Any, examples: int) -> np.ndarray | None:
  """Returns the numbers of labels of known classes; None if there is a new one."""
  labels = class_labels(y, examples)
  assert labels.classes is not None
  if not np.isin(labels.classes, classes).all():
    return None
  return np.searchsorted(classes, labels.classes)[labels.y].astype(np.int32)


def targets(y: Any, examples: int, outputs: int) -> Labels:
  """Reads the targets of a regression: numbers [examples], or [examples, outputs].

  Raises:
    ValueError: in one line, for other shapes, NaN, infinity, and what is no number.
  """
  array = _array(y)
  _check_number(array, examples)
  if array.dtype.kind not in 'biuf':
    raise ValueError(f'targets are {array.dtype}, and this learner predicts numbers; give numbers')
  flat = array.ndim == 1
  array = array.astype(np.float32).reshape(len(array), -1)
  if array.shape[1] != outputs:
    raise ValueError(
      f'targets have {array.shape[1]} numbers for each example, and this learner predicts {outputs}'
    )
  finite = np.isfinite(array).all(1)
  if not finite.all():
    raise ValueError(f'the target of example {finite.argmin()} is NaN or infinity; leave it out')
  return Labels(None, array, flat)


def _array(y: Any) -> np.ndarray:
  if isinstance(y, str | bytes) or not hasattr(y, '__len__'):
    raise ValueError(f'y is {type(y).__name__}; give one label for each example')
  kinds = {type(each) for each in y} if isinstance(y, list | tuple) else set()
  if str in kinds and len(kinds) > 1:  # NumPy would make strings of all
    names = ', '.join(sorted(kind.__name__ for kind in kinds))
    raise ValueError(f'labels are of several types ({names}); give strings, or integers')
  try:
    return np.asarray(y)
  except ValueError as error:
    raise ValueError(f'y is no array of one shape ({error}); give one label an example') from None


def _check_number(array: np.ndarray, examples: int) -> None:
  if array.ndim == 0 or len(array) != examples:
    raise ValueError(f'{examples} examples but labels of shape {array.shape}; give one an example')
  if not examples:
    raise ValueError('there are no examples; give one at least of each class')


def _check_objects(array: np.ndarray) -> None:
  kinds = {type(each) for each in array.tolist()}
  if len(kinds) > 1 or not kinds <= {str, int, bool}:
    names = ', '.join(sorted(kind.__name__ for kind in kinds))
    raise ValueError(f'labels are objects of {names}; give strings, or integers')
