"""Rows of a file (CSV, TSV, JSON lines or Parquet) as examples of classes, or of regression tasks.

A row has cells of numbers and of texts. Which columns are examples, targets and tasks is said by
their names.
"""

import fnmatch

import numpy as np

from metakit.data.columns import (
  PART,
  Columns,
  classes_of,
  column,
  is_empty,
  read_columns,
  rows_of,
)
from metakit.data.files import PathLike, listed, naming
from metakit.data.parts import PartedTable
from metakit.data.table import ClassTable, class_table
from metakit.data.targets import standardised

JOINS = '+'  # names of columns in an argument


def rows(
  path: PathLike,
  *,
  target: str = 'target',
  task: str = '',
  group: str = '',
  columns: str = '',
) -> ClassTable:
  """Reads a CSV, TSV, JSON lines or Parquet file whose rows are examples.

  Args:
    path: the file, see metakit.data.columns.read_columns. Its first row names the columns.
    target: the column that is predicted. Without `task` each of its values is a class.
    task: the column of the tasks of a regression, each of whose values is one; targets are then
      numbers. '' for a classification.
    group: the column of groups of a classification. A class is then a value of the target in a
      group. '' if there are none.
    columns: the columns that examples consist of, joined by +; * stands for any letters. '' for all
      others.

  Returns:
    x [rows, features] float32, and y [rows, 1] in a regression, standardised over all rows (see
    metakit.data.targets.standardised).

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: in one line that names the file, for a damaged one, a column that is not there, and
      a cell that is empty or no number where there has to be one.

  >>> import tempfile
  >>> with tempfile.NamedTemporaryFile('w', suffix='.csv') as file:
  ...   for line in ('shop,size,price', 'north,10,100', 'south,20,200', 'north,30,300'):
  ...     print(line, file=file, flush=True)
  ...   table = rows(file.name, target='price', task='shop')
  >>> table.names, table.x.shape, table.y.shape
  (('north', 'south'), (3, 1), (3, 1))
  """
  table = read_rows(path, None, target=target, task=task, group=group, columns=columns).table
  with naming(path):
    return standardised(table, table)


def read_rows(
  path: PathLike,
  part: str | None = PART,
  *,
  target: str = 'target',
  task: str = '',
  group: str = '',
  columns: str = '',
) -> PartedTable:
  """As `rows`, but returns cells as they are, and the parts that the column `part` names.

  Args:
    path: see rows.
    part: the column that says which part a row is of; None for none.
    target: see rows.
    task: see rows.
    group: see rows.
    columns: see rows.

  Returns:
    x [rows, columns] of Python objects, for metakit.data.targets.standardised.
  """
  read = read_columns(path)
  told = {'target': target, 'task': task, 'group': group, 'part': part or PART}
  for argument in ('target', 'task', 'group'):
    if told[argument]:
      column(read, argument, told[argument], where=path)
  if task and group:
    raise ValueError(f'{path}: group={group} is for classes; leave it out, or task={task}')
  if not task:
    _check_labels(read[target], target, path)
  label = ('task', task) if task else ('target', target)
  classes = classes_of(read, label, group, part=part, where=path)
  names = _chosen(read, columns, [*told.values()], path)
  with naming(path):
    # Cells are no numbers yet, so their places stand for them.
    table = class_table(
      np.arange(len(read[target])),
      classes.numbers,
      classes.names,
      groups=classes.groups,
      group_names=classes.group_names,
    )
    y = _targets(read[target], target)[table.x] if task else None
  said_by = f'the rows of column {part!r}' if classes.parts else ''
  cells = rows_of(read, names)[table.x]
  return PartedTable(
    table._replace(x=cells, y=y, encoding={'names': names}), classes.parts, said_by
  )


def _check_labels(cells: list[object], name: str, path: PathLike) -> None:
  """Raises ValueError if labels are fractions, as targets of a regression are."""
  try:
    values = np.array([float(str(cell)) for cell in cells])
  except ValueError:
    return
  if (values != np.rint(values)).any():
    raise ValueError(
      f'{path}: column {name!r} holds fractions, which are no classes; for a regression name the '
      'column of its tasks, task=COLUMN'
    )


def _targets(cells: list[object], name: str) -> np.ndarray:
  values = np.zeros((len(cells), 1))
  for row, cell in enumerate(cells):
    try:
      values[row] = np.nan if is_empty(cell) else float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
      values[row] = np.nan
    if not np.isfinite(values[row]):
      raise ValueError(
        f'row {row + 1} has {cell!r} in column {name!r}, whose numbers are targets; give one, or '
        'delete the row'
      )
  return values


def _chosen(read: Columns, columns: str, others: list[str], path: PathLike) -> list[str]:
  """Returns the names of the columns that examples consist of."""
  names: list[str] = []
  for pattern in columns.split(JOINS) if columns else ['*']:
    found = fnmatch.filter(read, pattern.strip())
    names += found or column(read, 'columns', pattern.strip(), where=path)
  names = [name for name in dict.fromkeys(names) if name not in others]
  if not names:
    raise ValueError(f'{path} has no columns for examples beside {listed([*map(repr, read)])}')
  return names
