"""ClassTable: examples sorted by class. Every data source returns one."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metakit.data.numbers import as_pixels, check_numbers, plain_array

# Larger numbers are not those of groups. Every number up to the largest would get a name.
MOST_GROUPS = 1 << 20
UNLABELLED = -1


class ClassTable(NamedTuple):
  """Examples sorted by class: class c owns the rows starts[c] to starts[c] + counts[c] - 1.

  Attributes:
    x: [rows, ...], uint8 for images; NumPy, memory-mapped or a device array.
    starts: [classes] int, first row of each class.
    counts: [classes] int, rows of each class.
    names: [classes] class names, for messages and figures.
    groups: [classes] int, the group (alphabet, super-class) of each class.
    group_names: [groups] names of the groups.
    encoding: how numbers were made of texts or of rows of a file, see metakit.data.encodings; None
      if they were not.
    y: [rows, outputs] float, the targets of each row, if each class is a task of a regression (see
      metakit.data.targets); None if the class is all there is to know.
  """

  x: Any
  starts: np.ndarray
  counts: np.ndarray
  names: tuple[str, ...]
  groups: np.ndarray
  group_names: tuple[str, ...]
  encoding: Mapping[str, Any] | None = None
  y: Any = None


def class_table(
  x: Any,
  labels: Any,
  names: Sequence[str] | None = None,
  *,
  groups: Any = None,
  group_names: Sequence[str] | None = None,
) -> ClassTable:
  """Sorts labelled examples into a ClassTable.

  Args:
    x: [rows, ...] examples. Images (three axes, or more with up to four channels) are kept as
      `metakit.data.numbers.as_pixels` says: integers of 0 to 255, of any type, as uint8. Features
      are kept as they are.
    labels: [rows] integer class of each row, 0 <= label < classes.
    names: [classes] class names; the label numbers by default.
    groups: [classes] group of each class; one group by default.
    group_names: [groups] names; the group numbers by default.

  Returns:
    The table; rows of one class keep their order.

  Raises:
    ValueError: if rows and labels do not match, a label is negative (-1 stands for an example
      without a label), a class is empty, a group has no name, or x holds NaN, infinity or integers
      of more than 32 bits.

  >>> table = class_table(np.arange(4.0), [1, 0, 1, 1], names=['a', 'b'])
  >>> table.x.tolist(), table.starts.tolist(), table.counts.tolist()
  ([1.0, 0.0, 2.0, 3.0], [0, 1], [1, 3])
  """
  x, labels = plain_array('x', x), plain_array('labels', labels)
  check_shapes(x, labels)
  check_numbers(x)
  names, counts = _counted(labels, names)
  x = as_pixels(x)
  return ClassTable(
    x=x[np.argsort(labels, kind='stable')],
    starts=np.cumsum(counts) - counts,
    counts=counts,
    names=names,
    **_grouping(len(names), groups, group_names),
  )


def check_shapes(x: np.ndarray, labels: np.ndarray) -> None:
  """Raises ValueError unless there is one label for each example, and at least one example."""
  if x.ndim == 0:
    raise ValueError(f'x is the single value {x}; give an array [rows, ...]')
  if labels.ndim != 1 or len(x) != len(labels):
    raise ValueError(
      f'{len(x)} examples but labels of shape {labels.shape}; give one integer label an example'
    )
  if len(x) == 0:
    raise ValueError('the data set has no examples')


def check_labelled(labels: np.ndarray) -> None:
  """Raises ValueError if an integer label is negative; -1 alone stands for no label."""
  if labels.dtype.kind != 'i' or labels.min() >= 0:
    return
  number = int((labels == UNLABELLED).sum())
  if number and labels.min() == UNLABELLED:
    raise ValueError(
      f'label -1 is negative: {number} of {len(labels)} examples are without a label; leave them '
      'out, or give strings as labels if -1 is the name of a class'
    )
  raise ValueError(f'label {labels.min()} is negative; give integers from 0 to classes - 1')


def _counted(labels: np.ndarray, names: Sequence[str] | None) -> tuple[tuple[str, ...], np.ndarray]:
  """Returns the class names and [classes] how many rows each has, each at least one."""
  if not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(f'labels are {labels.dtype}; give integers from 0 to classes - 1')
  check_labelled(labels)
  # bincount would allocate as many numbers as the largest label says.
  present, counts = np.unique(labels, return_counts=True)
  last = int(present[-1])
  from_one = f'; labels count from 0, these from {present[0]}' if present[0] > 0 else ''
  if names is not None and last >= len(names):
    raise ValueError(f'label {last} has no name among the {len(names)} class names{from_one}')
  if len(present) < (last + 1 if names is None else len(names)):
    count = len(present)
    lacking = int(np.argmax(present != np.arange(count))) if last >= count else count
    name = names[lacking] if names is not None else str(lacking)
    raise ValueError(f'class {name!r} has no examples; leave it out{from_one}')
  return tuple(names if names is not None else map(str, present.tolist())), counts


def _grouping(classes: int, groups: Any, group_names: Sequence[str] | None) -> dict[str, Any]:
  groups = np.zeros(classes, np.int64) if groups is None else plain_array('groups', groups)
  if groups.shape != (classes,):
    raise ValueError(f'groups has shape {groups.shape}; give one for each of {classes} classes')
  if groups.dtype.kind not in 'iu':
    raise ValueError(f'groups are {groups.dtype}; give integers from 0 to groups - 1')
  last = int(groups.max())
  if groups.min() < 0 or last >= (MOST_GROUPS if group_names is None else len(group_names)):
    wrong = int(groups.min()) if groups.min() < 0 else last
    raise ValueError(f'group {wrong} has no name; give integers from 0 to groups - 1')
  if group_names is None:
    group_names = [str(g) for g in range(last + 1)]
  return {'groups': groups, 'group_names': tuple(group_names)}


def select_classes(table: ClassTable, classes: Any) -> ClassTable:
  """Returns the table of some classes, by number, in the given order.

  Args:
    table: any table.
    classes: integer class numbers.

  Raises:
    ValueError: if a class number does not exist or none is given.

  >>> table = class_table(np.arange(4), [0, 1, 2, 1], names=['ant', 'bee', 'cow'])
  >>> chosen = select_classes(table, [2, 1])
  >>> chosen.names, chosen.x.tolist()
  (('cow', 'bee'), [2, 1, 3])
  """
  classes = np.asarray(classes, np.int64)
  if classes.size == 0 or classes.min() < 0 or classes.max() >= len(table.counts):
    raise ValueError(f'select between 1 and {len(table.counts)} classes by number, got {classes}')
  rows = [np.arange(table.starts[c], table.starts[c] + table.counts[c]) for c in classes]
  counts = table.counts[classes]
  chosen = np.concatenate(rows)
  # Of a table on disk neighbouring rows stay there.
  side_by_side = isinstance(table.x, np.memmap) and (np.diff(chosen) == 1).all()
  x = table.x[chosen[0] : chosen[-1] + 1] if side_by_side else table.x[chosen]
  return table._replace(
    x=x,
    y=None if table.y is None else table.y[chosen],
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
  y = None if table.y is None else table.y[kept]
  return table._replace(x=table.x[kept], y=y, starts=np.cumsum(counts) - counts, counts=counts)
