"""Labels of ordinary training, which tells all training classes apart."""

from typing import Any

import jax
import numpy as np

from metakit.absent import numbered
from metakit.types import Examples


def of_training_classes(examples: Examples, info: Any) -> Examples:
  """Returns the examples of an episode with the numbers of their training classes as labels.

  Args:
    examples: labelled 0 to ways - 1.
    info: that of the episode; 'classes' [ways] holds these numbers.

  Raises:
    ValueError: if a mixture numbers the classes of several samplers alike.
  """
  if 'component' in info and 'first_class' not in info:
    raise ValueError(
      'a mixture of samplers says which classes an episode is of, each from 0; give '
      'mixture(..., first_class=) the number that each begins with, such as (0, 64) for tables of '
      '64 and more classes, or (0, 0) for one table'
    )
  return examples._replace(y=numbered(examples.y, info['classes']))


def check_training_classes(info: Any, num_classes: int) -> None:
  """Raises ValueError if an episode is of a class that the layer of training has no output for.

  Args:
    info: that of the episode; a traced one, or one that names no classes, is not checked.
    num_classes: outputs of the layer.
  """
  classes = info.get('classes') if isinstance(info, dict) else None
  if classes is None or isinstance(classes, jax.core.Tracer) or not np.size(classes):
    return
  largest = int(np.max(np.asarray(classes)))
  if largest >= num_classes:
    raise ValueError(
      f'an episode is of training class {largest}, but num_classes={num_classes} has outputs for 0 '
      f'to {num_classes - 1}; give the number of classes of all training tables together'
    )
