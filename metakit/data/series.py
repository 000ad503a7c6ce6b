"""Time series as regression tasks: from a window of past values to those that follow."""

import fnmatch

import numpy as np

from metakit.data.columns import Columns, column, is_empty, read_columns, texts_of
from metakit.data.files import PathLike, listed, naming
from metakit.data.table import ClassTable
from metakit.data.targets import regression_table
from metakit.sizes import check_positive

JOINS = '+'  # names of columns in an argument


def series(
  path: PathLike,
  columns: str = '',
  *,
  series: str = '',
  past: int = 14,
  future: int = 1,
  stride: int = 0,
) -> ClassTable:
  """Reads a file of time series, whose rows are in the order of time and as far apart everywhere.

  Each series is a task. An example is a window: `past` values are its x, and the `future` values
  that follow are its y. Windows with an empty cell are left out.

  Args:
    path: a CSV, TSV, JSON lines or Parquet file, see metakit.data.columns.read_columns.
    columns: the columns of values, joined by +; * stands for any letters: *_temp_mean. Each is a
      series. With `series` it is one column.
    series: the column that says which series a row is of, if the series stand one below the other.
    past: values of a window.
    future: values that follow, to be predicted.
    stride: rows from the start of a window to that of the next. 0 stands for past + future: no
      value is then in two windows, so that no support example holds the answer of a query.

  Returns:
    x [windows, past] and y [windows, future], in the units of the file; names are those of the
    series.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: in one line that names the file, for a damaged one, a column that is not there, a
      cell that is no number, and series without a whole window.

  >>> import tempfile
  >>> with tempfile.NamedTemporaryFile('w', suffix='.csv') as file:
  ...   for line in ('oslo,rome', '1,11', '2,12', '3,13', '4,14', '5,15', '6,16'):
  ...     print(line, file=file, flush=True)
  ...   table = series(file.name, 'oslo+rome', past=2)
  >>> table.names, table.x.tolist()[:2], table.y.tolist()[:2]
  (('oslo', 'rome'), [[1.0, 2.0], [4.0, 5.0]], [[3.0], [6.0]])
  """
  check_positive(past=past, future=future)
  step = stride or past + future
  values = _values(read_columns(path), columns, series, path)
  windows = {name: _windows(each, past + future, step) for name, each in values.items()}
  if short := [name for name, each in windows.items() if not len(each)]:
    raise ValueError(
      f'{path}: {listed(short)} without a window of past+future={past + future} values in a row; '
      'use smaller ones, or leave the column out'
    )
  groups = np.repeat(list(windows), [len(each) for each in windows.values()])
  whole = np.concatenate(list(windows.values()))
  with naming(path):
    table = regression_table(whole[:, :past], whole[:, past:], groups)
  return table._replace(encoding={'names': [f't-{past - place}' for place in range(past)]})


def _values(read: Columns, columns: str, series: str, path: PathLike) -> dict[str, np.ndarray]:
  """Returns the values [times] of each series."""
  patterns = [each.strip() for each in columns.split(JOINS) if each.strip()]
  if not patterns:
    raise ValueError(
      f'{path}: which columns are series? columns=*_temp, say, of {listed([*map(repr, read)])}'
    )
  for pattern in patterns:
    if not fnmatch.filter(read, pattern):
      column(read, 'columns', pattern, where=path)
  names = [name for name in read if any(fnmatch.fnmatch(name, each) for each in patterns)]
  numbers = {name: _numbers(read[name], name, path) for name in names}
  if not series:
    return numbers
  if len(names) > 1:
    raise ValueError(f'{path}: with series={series} columns={columns} has to be one column')
  of_row = np.array(texts_of(column(read, 'series', series, where=path), series, path))
  return {name: numbers[names[0]][of_row == name] for name in np.unique(of_row).tolist()}


def _numbers(cells: list[object], name: str, path: PathLike) -> np.ndarray:
  values = np.full(len(cells), np.nan)
  for row, cell in enumerate(cells):
    try:
      values[row] = np.nan if is_empty(cell) else float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
      raise ValueError(
        f'{path}: row {row + 1} has {cell!r} in column {name!r}, which is a series; give a number, '
        'or leave the cell empty'
      ) from None
  return values


def _windows(values: np.ndarray, size: int, step: int) -> np.ndarray:
  """Returns the windows [windows, size] of a series that have no gap."""
  if len(values) < size:
    return np.zeros((0, size))
  windows = np.lib.stride_tricks.sliding_window_view(values, size)[::step]
  return windows[np.isfinite(windows).all(1)]
