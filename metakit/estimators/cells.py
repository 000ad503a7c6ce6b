"""Cells of a table as numbers: what scikit-learn's arrays and pandas' frames may hold."""

from collections.abc import Hashable, Sequence
from datetime import date
from decimal import Decimal
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import validate_data

from metakit.data.columns import is_empty
from metakit.data.files import listed

LARGEST = float(np.finfo(np.float32).max)
DAY = 86400.0  # seconds


class Column(NamedTuple):
  """How the cells of a column are read.

  Attributes:
    name: its name in a frame, or its place in an array.
    categories: the texts that it holds, whose numbers are their places here; None for numbers.
  """

  name: Hashable
  categories: tuple[str, ...] | None = None


class Columns(NamedTuple):
  """The columns of the table that an estimator was fitted to.

  Attributes:
    each: [columns].
    named: whether it was a frame, whose columns are known by their names.
  """

  each: tuple[Column, ...]
  named: bool


def fit_columns(estimator: Any, X: Any) -> tuple[Columns, np.ndarray]:
  """Returns the columns of a table, and its cells as numbers.

  A column whose cells are all numbers, truth values, dates (in days) or texts of numbers is one of
  numbers. Other cells are categories, in the order of their texts or, if pandas has an order of
  them, in that. None, NaN, pandas.NA and empty texts are missing cells.

  Args:
    estimator: gets scikit-learn's attributes n_features_in_ and feature_names_in_.
    X: a frame, or an array or list [rows, columns].

  Returns:
    The columns; and numbers [rows, columns] float64, where NaN is a missing cell.

  Raises:
    ValueError: for other shapes, infinite numbers, and two columns of one name.
    TypeError: for a cell that is nothing of these.
  """
  names, cells = _cells(estimator, X, None)
  each = tuple(_measured(name, column) for name, column in zip(names, cells, strict=True))
  columns = Columns(each, is_frame(X))
  return columns, _encoded(columns, cells)


def encode(estimator: Any, columns: Columns, X: Any) -> np.ndarray:
  """Returns the cells of another table as numbers [rows, columns] float64.

  The columns of a frame are found by their names. A category that `fit_columns` did not see counts
  as a missing cell.

  Raises:
    ValueError: see fit_columns, and for other columns.
    TypeError: see fit_columns.
  """
  _, cells = _cells(estimator, X, columns)
  return _encoded(columns, cells)


def is_frame(X: Any) -> bool:
  """Tells whether a table has columns with names and types of their own, as those of pandas do."""
  return hasattr(X, 'columns') and hasattr(X, 'dtypes')


def _cells(estimator: Any, X: Any, known: Columns | None) -> tuple[list[Hashable], list[Any]]:
  """Returns the names of columns and the cells of each."""
  if not is_frame(X):
    finite: Any = 'allow-nan'
    x = validate_data(estimator, X, reset=known is None, dtype=None, ensure_all_finite=finite)
    return list(range(x.shape[1])), list(x.T)
  names = list(X.columns)
  if twice := sorted({repr(name) for name in names if names.count(name) > 1}):
    raise ValueError(f'two columns of X are named {twice[0]}; rename one')
  if known is not None and known.named:
    wanted = [column.name for column in known.each]
    _check_names(wanted, names)
    X, names = X[wanted], wanted
  validate_data(estimator, X, reset=known is None, skip_check_array=True)
  for number, of in zip(X.shape, ('sample', 'feature'), strict=True):
    if not number:
      raise ValueError(
        f'Found array with 0 {of}(s) (shape={X.shape}) while a minimum of 1 is needed'
      )
  return names, [_column(X, name) for name in names]


def _check_names(wanted: Sequence[Hashable], given: Sequence[Hashable]) -> None:
  here = f'it was fitted to {listed([*map(repr, wanted)])}'
  if lacking := [name for name in wanted if name not in given]:
    raise ValueError(f'X lacks column {lacking[0]!r}; {here}')
  if more := [name for name in given if name not in wanted]:
    raise ValueError(f'X has another column {more[0]!r}; {here}')


def _column(X: Any, name: Hashable) -> Any:
  """Returns the cells of a column of a frame: a NumPy array, or pandas' categories."""
  series = X[name]
  return series if getattr(series.dtype, 'ordered', False) else np.asarray(series)


def _measured(name: Hashable, cells: Any) -> Column:
  if hasattr(cells, 'cat'):
    return Column(name, tuple(str(each) for each in cells.cat.categories))
  try:
    numbers(name, cells)
  except NotNumbers:
    return Column(name, tuple(sorted({_text(cell) for cell in cells if not _is_missing(cell)})))
  return Column(name)


def _encoded(columns: Columns, cells: Sequence[Any]) -> np.ndarray:
  pairs = zip(columns.each, cells, strict=True)
  return np.stack([_encode_column(*pair) for pair in pairs], axis=1)


def _encode_column(column: Column, cells: Any) -> np.ndarray:
  if column.categories is None:
    return numbers(column.name, cells)
  places: dict[str, float] = {text: place for place, text in enumerate(column.categories)}
  for row, cell in enumerate(cells):
    _check_cell(column.name, row, cell)
  found = (np.nan if _is_missing(cell) else places.get(_text(cell), np.nan) for cell in cells)
  return np.fromiter(found, np.float64, len(cells))


class NotNumbers(ValueError):
  """Some cells are texts that are no numbers."""


def numbers(name: Hashable, cells: Any) -> np.ndarray:
  """Returns cells as numbers [rows] float64.

  Raises:
    NotNumbers: if one is a text and no number.
    ValueError: if one is infinite, or too large for float32.
    TypeError: if one is something else.
  """
  array = np.asarray(cells)
  if array.dtype.kind in 'mM':
    days = array.astype(f'{array.dtype.kind}8[s]').astype(np.float64) / DAY
    return np.where(np.isnat(array), np.nan, days)
  if array.dtype.kind in 'biuf':
    values = array.astype(np.float64)
  else:
    values = np.array([_number(name, row, cell) for row, cell in enumerate(array)], np.float64)
  if (np.abs(values) > LARGEST).any():
    raise ValueError(
      f"Input X contains infinity or a value too large for dtype('float32'), in column {name!r}"
    )
  return values


def _number(name: Hashable, row: int, cell: Any) -> float:
  if _is_missing(cell):
    return np.nan
  _check_cell(name, row, cell)
  if isinstance(cell, date):  # datetime and pandas' Timestamp are dates too
    return float(np.datetime64(cell.isoformat()[:19], 's').astype(np.int64)) / DAY
  try:
    return float(cell)
  except ValueError:
    raise NotNumbers(f'row {row} of column {name!r} holds {cell!r}, which is no number') from None


def _check_cell(name: Hashable, row: int, cell: Any) -> None:
  if not isinstance(cell, str | Real | Decimal | np.bool_ | date) and not _is_missing(cell):
    raise TypeError(
      f'row {row} of column {name!r} holds {type(cell).__name__}; the argument must be a string or '
      'a number'
    )


def _is_missing(cell: Any) -> bool:
  return is_empty(cell) or type(cell).__name__ in ('NAType', 'NaTType')


def _text(cell: Any) -> str:
  return str(cell).strip()
