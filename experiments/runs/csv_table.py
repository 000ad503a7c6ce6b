"""A file of rows of a user's own: its columns by name, as texts or numbers."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metakit.data.columns import Columns, is_empty, read_columns
from metakit.data.files import listed


class Table(NamedTuple):
  """A file of rows.

  Attributes:
    path: the file.
    columns: names of its columns.
    rows: how many rows there are.
    read: the cells of each column.
  """

  path: Path
  columns: list[str]
  rows: int
  read: Columns

  def at(self, row: int) -> str:
    """Names a row; the first below the header is row 1."""
    return f'{self.path}, row {row + 1}'

  def cells(self, name: str, *, needed: bool = False) -> list[str]:
    """Returns the cells of a column as texts, '' for an empty one.

    Raises:
      ValueError: if a cell is needed and empty.
    """
    cells = ['' if is_empty(cell) else str(cell).strip() for cell in self.read[name]]
    if needed and '' in cells:
      raise ValueError(f'{self.at(cells.index(""))}, column {name} is empty; fill it')
    return cells

  def numbers(self, name: str, *, needed: bool = True) -> np.ndarray:
    """Returns the numbers of a column, [rows] float64; NaN for a cell that is not needed and empty.

    Raises:
      ValueError: naming the cell, if one is no finite number.
    """
    values = []
    for row, cell in enumerate(self.cells(name, needed=needed)):
      try:
        value = float(cell) if cell else math.nan
      except ValueError:
        value = math.inf
      if cell and not math.isfinite(value):
        raise ValueError(
          f'{self.at(row)}, column {name}: {cell!r} is no number; mend it or remove the row'
        )
      values.append(value)
    return np.array(values)


def read_csv(path: Path) -> Table:
  """Reads a CSV file, or another that metakit.data.columns.read_columns reads.

  Raises:
    OSError: naming the file, if it cannot be read.
    ValueError: in one line, if it is no such file.
  """
  columns = read_columns(path)
  return Table(path, list(columns), len(next(iter(columns.values()))), columns)


def check_columns(table: Table, names: Sequence[str], remedy: str = 'rename one') -> None:
  """Raises ValueError, which lists the columns, if one of these is not there."""
  for name in names:
    if name not in table.columns:
      raise ValueError(
        f'{table.path} has no column {name!r}; it has {listed(table.columns)}; {remedy}'
      )
