"""ClassTable: rows of examples sorted by class, the form every data source ends in."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class ClassTable(NamedTuple):
  """Examples sorted by class: class c owns the rows starts[c] to starts[c] + counts[c] - 1.

  Attributes:
    x: [rows, ...], uint8 for images; NumPy, memory-mapped or a device array.
    starts: [classes] int, first row of each class.
    counts: [classes] int, rows of each class.
    names: [classes] class names, for messages and figures.
    groups: [classes] int, the group (alphabet, super-class) of each class.
    group_names: [groups] names of the groups.
  """

  x: Any
  starts: np.ndarray
  counts: np.ndarray
  names: tuple[str, ...]
  groups: np.ndarray
  group_names: tuple[str, ...]


def class_table(
  x: Any,
  labels: Any,
  names: Sequence[str] | None = None,
  groups: Any = None,
  group_names: Sequence[str] | None = None,
) -> ClassTable:
  """Sorts labelled examples into a ClassTable.

  Args:
    x: [rows, ...] examples.
    labels: [rows] integer class of each row, 0 <= label < classes.
    names: [classes] class names; the label numbers by default.
    groups: [classes] group of each class; one group by default.
    group_names: [groups] names; the group numbers by default.

  Returns:
    The table; rows of one class keep their order.

  Raises:
    ValueError: if rows and labels do not match, a class is empty, or x holds NaN or infinity.

  >>> table = class_table(np.arange(4.0), [1, 0, 1, 1], names=['a', 'b'])
  >>> table.x.tolist(), table.starts.tolist(), table.counts.tolist()
  ([1.0, 0.0, 2.0, 3.0], [0, 1], [1, 3])
  """
  x, labels = np.asarray(x), np.asarray(labels)
  if labels.ndim != 1 or len(x) != len(labels):
    raise ValueError(
      f'{len(x)} examples but labels of shape {labels.shape}; give one integer label an example'
    )
  if not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(f'labels are {labels.dtype}; give integers from 0 to classes - 1')
  if len(x) == 0:
    raise ValueError('the data set has no examples')
  if np.issubdtype(x.dtype, np.inexact) and not np.isfinite(x).all():
    bad = int(np.argmin(np.isfinite(x.reshape(len(x), -1)).all(axis=1)))
    raise ValueError(f'example {bad} holds NaN or infinity; clean the data first')
  if labels.min() < 0:
    raise ValueError(f'label {labels.min()} is negative; give integers from 0 to classes - 1')
  classes = len(names) if names is not None else int(labels.max()) + 1
  counts = np.bincount(labels, minlength=classes)
  if len(counts) > classes:
    raise ValueError(f'label {labels.max()} has no name among the {classes} class names')
  names = tuple(names) if names is not None else tuple(str(c) for c in range(classes))
  if (counts == 0).any():
    raise ValueError(f'class {names[int(np.argmin(counts))]!r} has no examples; leave it out')
  return ClassTable(
    x=x[np.argsort(labels, kind='stable')],
    starts=np.cumsum(counts) - counts,
    counts=counts,
    names=names,
    **_grouping(classes, groups, group_names),
  )


def _grouping(classes: int, groups: Any, group_names: Sequence[str] | None) -> dict[str, Any]:
  groups = np.zeros(classes, np.int64) if groups is None else np.asarray(groups)
  if groups.shape != (classes,):
    raise ValueError(f'groups has shape {groups.shape}; give one for each of {classes} classes')
  if group_names is None:
    group_names = [str(g) for g in range(int(groups.max()) + 1)]
  return {'groups': groups, 'group_names': tuple(group_names)}


def select_classes(table: ClassTable, classes: Any) -> ClassTable:
  """Returns the table of some classes, by number, in the given order.

  Args:
    table: any table.
    classes: integer class numbers.

  Raises:
    ValueError: if a class number does not exist or none is given.
  """
  classes = np.asarray(classes, np.int64)
  if classes.size == 0 or classes.min() < 0 or classes.max() >= len(table.counts):
    raise ValueError(f'select between 1 and {len(table.counts)} classes by number, got {classes}')
  rows = [np.arange(table.starts[c], table.starts[c] + table.counts[c]) for c in classes]
  counts = table.counts[classes]
  return table._replace(
    x=table.x[np.concatenate(rows)],
    starts=np.cumsum(counts) - counts,
    counts=counts,
    names=tuple(table.names[c] for c in classes),
    groups=table.groups[classes],
  )


def part_of_rows(table: ClassTable, every: int, held_out: bool) -> ClassTable:
  """Returns a table of the same classes with one in `every` rows of each, or with the others.

  Args:
    table: any table.
    every: 2 or more.
    held_out: whether to return those rows (of each class the first, and every `every`-th after it)
      or the others.

  Raises:
    ValueError: if `every` is below 2 or a class has no row left.
  """
  if every < 2:
    raise ValueError(f'every={every} leaves nothing; use every>=2')
  numbers = np.arange(len(table.x)) - np.repeat(table.starts, table.counts)
  kept = (numbers % every == 0) == held_out
  counts = np.add.reduceat(kept, table.starts)
  if (counts == 0).any():
    name = table.names[int(np.argmin(counts))]
    raise ValueError(f'class {name!r} has too few examples to hold one in {every} out')
  return table._replace(x=table.x[kept], starts=np.cumsum(counts) - counts, counts=counts)
