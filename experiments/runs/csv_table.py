"""A CSV file of a user's own: columns by name, rows with their lines for messages."""

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metakit.data.files import listed

SEPARATORS = ',;\t'


class Table(NamedTuple):
  """A CSV file.

  Attributes:
    path: the file.
    columns: names of its columns.
    rows: the cells of each row, without white space around them.
    lines: where each row ends in the file.
  """

  path: Path
  columns: list[str]
  rows: list[list[str]]
  lines: list[int]

  def at(self, row: int) -> str:
    """Names a row."""
    return f'{self.path}, line {self.lines[row]}'

  def cells(self, name: str, *, needed: bool = False) -> list[str]:
    """Returns the cells of a column.

    Raises:
      ValueError: if a cell is needed and empty.
    """
    cells = [row[self.columns.index(name)] for row in self.rows]
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
  """Reads a CSV file with a header, separated by commas, semicolons or tabs.

  Raises:
    OSError: naming the file, if it cannot be read.
    ValueError: in one line, if it is no such file, or a row has too few or too many cells.
  """
  try:
    text = path.read_bytes().decode('utf-8-sig')
  except UnicodeDecodeError:
    raise ValueError(f'{path} is no text in UTF-8; save it as CSV in UTF-8') from None
  except OSError as error:
    raise type(error)(f'cannot read {path}: {error.strerror or error}') from None
  separator = max(SEPARATORS, key=text.partition('\n')[0].count)
  reader = csv.reader(io.StringIO(text, newline=''), delimiter=separator, strict=True)
  try:
    numbered = [([cell.strip() for cell in row], reader.line_num) for row in reader]
  except csv.Error as error:
    raise ValueError(f'{path}, line {reader.line_num}: {error}; save it as CSV again') from None
  numbered = [(cells, line) for cells, line in numbered if any(cells)]
  if len(numbered) < 2:
    raise ValueError(f'{path} has no {"row below its header" if numbered else "header"}; fill it')
  rows, lines = (list(each) for each in zip(*numbered, strict=True))
  table = Table(path, rows[0], rows[1:], lines[1:])
  _check_form(table)
  return table


def _check_form(table: Table) -> None:
  if twice := [name for name, number in Counter(table.columns).items() if number > 1]:
    raise ValueError(f'{table.path} has two columns {twice[0]!r}; rename one')
  for number, row in enumerate(table.rows):
    if len(row) != len(table.columns):
      raise ValueError(
        f'{table.at(number)} has {len(row)} cells, and the header names {len(table.columns)} '
        f'columns ({listed(table.columns)}); put cells that hold a comma into quotes'
      )


def check_columns(table: Table, names: Sequence[str], remedy: str = 'rename one') -> None:
  """Raises ValueError, which lists the columns, if one of these is not there."""
  for name in names:
    if name not in table.columns:
      raise ValueError(
        f'{table.path} has no column {name!r}; it has {listed(table.columns)}; {remedy}'
      )
