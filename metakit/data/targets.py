"""Tables of regressions: each class is a task, whose rows have numbers as targets."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from metakit.data.encodings import encode, rows_encoding, scaled, targets_of
from metakit.data.files import check_memory, naming
from metakit.data.numbers import plain_array
from metakit.data.table import ClassTable, class_table


def regression_table(
  x: Any, y: Any, groups: Any = None, *, names: Sequence[str] | None = None
) -> ClassTable:
  """Makes a table whose classes are tasks of a regression.

  Args:
    x: [rows, ...] examples.
    y: [rows] or [rows, outputs] numbers. Without groups [rows, tasks]: each column is a task, on
      the same examples.
    groups: [rows] strings, or integers from 0: the task of each row.
    names: [tasks] their names; by default the groups, or the numbers of the columns.

  Returns:
    The table; its y is [rows, outputs] float64. Rows of one task keep their order.

  Raises:
    ValueError: if lengths differ, x or y holds NaN or infinity, there is one column and no groups,
      or a table cannot hold x (see metakit.data.class_table).

  >>> table = regression_table(np.zeros((3, 2)), [[1, 4], [2, 5], [3, 6]])
  >>> table.names, table.counts.tolist(), table.y.ravel().tolist()
  (('0', '1'), [3, 3], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
  """
  x, y = plain_array('x', x), plain_array('y', y)
  if x.ndim == 0 or y.ndim not in (1, 2) or len(x) != len(y):
    raise ValueError(
      f'y has shape {y.shape} for x of shape {x.shape}; give numbers [rows], or [rows, outputs]'
    )
  if y.dtype.kind not in 'biuf':
    raise ValueError(f'y is {y.dtype}; give numbers')
  y = y.astype(np.float64)
  if not np.isfinite(y).all():
    row = int(np.isfinite(y).reshape(len(y), -1).all(1).argmin())
    raise ValueError(f'the target of row {row} is NaN or infinity; leave the row out')
  if groups is None:
    return _of_columns(x, y, names)
  groups = plain_array('groups', groups)
  if groups.shape != y.shape[:1]:
    raise ValueError(f'groups has shape {groups.shape}; give the task of each of {len(y)} rows')
  found, numbers = np.unique(groups, return_inverse=True)
  if names is None:
    names = [str(each) for each in found]
  elif groups.dtype.kind in 'iu' and groups.min() >= 0:
    numbers = groups
  return _of_tasks(x, y.reshape(len(y), -1), numbers.reshape(-1), names)


def _of_columns(x: np.ndarray, y: np.ndarray, names: Sequence[str] | None) -> ClassTable:
  tasks = 1 if y.ndim == 1 else y.shape[1]
  if tasks == 1:
    raise ValueError(
      'y holds one number for each row, and no tasks; give groups [rows], the task of each row, or '
      'y [rows, tasks]; or integers or strings, if they are classes'
    )
  check_memory(f'{tasks} tasks on {len(x):,} examples', tasks * x.nbytes)
  numbers = np.arange(tasks).repeat(len(x))
  names = [str(number) for number in range(tasks)] if names is None else names
  return _of_tasks(np.concatenate([x] * tasks), y.T.reshape(-1, 1), numbers, names)


def _of_tasks(x: np.ndarray, y: np.ndarray, tasks: np.ndarray, names: Sequence[str]) -> ClassTable:
  with naming('tasks'):
    table = class_table(x, tasks, names)
  return table._replace(y=y[np.argsort(tasks, kind='stable')])


def standardised(table: ClassTable, training: ClassTable) -> ClassTable:
  """Returns a table in the units of the training tasks.

  Columns of numbers, and targets, get mean 0 and variance 1 over the rows of training; columns of
  texts become one number for each text of training, 0 or 1. Examples of more axes, such as images,
  stay as they are.

  Args:
    table: a table of `regression_table` or metakit.data.rows.read_rows.
    training: the table of the training tasks.

  Returns:
    The table with x [rows, features] float32, and an `encoding` with which other rows become such.
  """
  encoding = dict(rows_encoding(training))
  if training.y is not None:
    encoding['targets'] = targets_of(training.y)
  x = encode(encoding, table.x) if encoding['kind'] == 'rows' else table.x
  y = None if table.y is None else scaled(encoding, table.y)
  return table._replace(x=x, y=y, encoding=encoding)
