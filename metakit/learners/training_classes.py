"""Labels of ordinary training, which tells all training classes apart."""

from typing import Any

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
