"""Columns of a file: CSV, TSV, JSON lines or Parquet, and the classes that some columns name."""

import csv
import gzip
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metakit.data.files import PathLike, check_memory, damaged, listed, naming
from metakit.data.parts import Parts, check_apart, known_part

Columns = dict[str, list[Any]]  # name -> the cell of each row; of a CSV file, all cells are strings

DELIMITERS = ',;\t'
PART = 'split'  # the usual name of the column that says which part a row is of


def read_columns(path: PathLike) -> Columns:
  """Reads a table whose first row names its columns.

  Args:
    path: a .csv file (with commas, semicolons or tabs), .tsv, .jsonl (an object in each line),
      .json (a list of objects), or .parquet; all but the last may be gzipped (.csv.gz).

  Returns:
    Name of a column -> its cells. A cell that a row of JSON lacks is None.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: in one line that names the file and, where there is one, the row: for an unknown
      ending, a damaged file, rows of several lengths, two columns of one name, and no rows.
  """
  path = Path(path).expanduser()
  if not path.is_file():
    raise FileNotFoundError(f'there is no file {path}; give a {", ".join(_READERS)} file')
  ending = next((s.lower() for s in reversed(path.suffixes) if s.lower() != '.gz'), '')
  if ending not in _READERS:
    raise ValueError(f'{path}: its ending is none of {", ".join(_READERS)}; save it as one of them')
  check_memory(path, path.stat().st_size)
  columns = _READERS[ending](path)
  if not columns or not next(iter(columns.values())):
    raise ValueError(f'{path} has no rows below the names of its columns')
  return columns


def column(columns: Columns, argument: str, name: str, *, where: object) -> list[Any]:
  """Returns a column, or raises ValueError that says which there are and which argument names it.

  Args:
    columns: what `read_columns` returned.
    argument: the argument that named the column.
    name: the name.
    where: the file.
  """
  if name not in columns:
    raise ValueError(
      f'{where} has no column {name!r} (the first row names {listed([*map(repr, columns)])}); use '
      f'{argument}=COLUMN'
    )
  return columns[name]


def is_empty(cell: Any) -> bool:
  """Tells whether a cell holds nothing: None, NaN, or nothing but white space."""
  if isinstance(cell, str):
    return not cell.strip()
  return cell is None or (isinstance(cell, float | np.floating) and math.isnan(cell))


class Classes(NamedTuple):
  """Rows by what they are of.

  Attributes:
    numbers: [rows] the class of each row.
    names: [classes] 'label', or 'group/label' if there are groups.
    groups: [classes] the group of each; None if there are none.
    group_names: [groups] their names; None if there are none.
    parts: the classes of each part, if a column says it.
  """

  numbers: np.ndarray
  names: list[str]
  groups: np.ndarray | None
  group_names: list[str] | None
  parts: Parts | None


def classes_of(
  columns: Columns, label: tuple[str, str], group: str, *, part: str | None, where: object
) -> Classes:
  """Returns the classes that a column names.

  Args:
    columns: what `read_columns` returned.
    label: the argument that names the column of labels, and that column.
    group: the column of groups; '' for none.
    part: the column of parts; None for none. If it is PART, it need not be there.
    where: the file, for messages.

  Raises:
    ValueError: if there is no such column, a row has no label, a part has an unknown name, or a
      class is in two parts.
  """
  labels = texts_of(column(columns, *label, where=where), label[1], where)
  groups = texts_of(column(columns, 'group', group, where=where), group, where) if group else None
  full = labels if groups is None else [f'{g}/{n}' for g, n in zip(groups, labels, strict=True)]
  names, firsts, numbers = np.unique(full, return_index=True, return_inverse=True)
  group_names, of_class = None, None
  if groups is not None:
    found, of_class = np.unique([groups[row] for row in firsts], return_inverse=True)
    group_names = found.tolist()
  parts = None
  if part is not None and (part in columns or part != PART):
    parts = _parts(full, column(columns, 'part', part, where=where), part, where)
  return Classes(numbers.reshape(-1), names.tolist(), of_class, group_names, parts)


def texts_of(cells: Sequence[Any], name: str, where: object) -> list[str]:
  """Returns cells as texts without white space around them; ValueError names an empty one's row."""
  for row, cell in enumerate(cells, 1):
    if is_empty(cell):
      raise ValueError(f'{where}: row {row} has nothing in column {name!r}; fill it, or delete it')
  return [str(cell).strip() for cell in cells]


def _parts(classes: Sequence[str], cells: Sequence[Any], name: str, where: object) -> Parts:
  found: dict[str, dict[str, None]] = {}
  for row, (each, cell) in enumerate(zip(classes, cells, strict=True), 1):
    if not is_empty(cell):
      with naming(f'{where}: row {row}, column {name!r}'):
        found.setdefault(known_part(cell), {})[each] = None
  parts = {part: tuple(names) for part, names in found.items()}
  check_apart(
    parts, where, 'tests are on classes that training never shows: split=class parts them anew'
  )
  return parts


def _text(path: Path) -> str:
  try:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix.lower() == '.gz' else data).decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path} is no UTF-8 text ({error.reason}); save it as UTF-8') from error
  except (OSError, EOFError) as error:
    raise damaged(path, error) from error


def _read_csv(path: Path, delimiters: str = DELIMITERS) -> Columns:
  text = _text(path)
  header = text.partition('\n')[0]
  reader = csv.reader(
    io.StringIO(text, ''), delimiter=max(delimiters, key=header.count), strict=True
  )
  names: list[str] = []
  rows: list[list[str]] = []
  try:
    for row in reader:
      if not any(cell.strip() for cell in row):
        continue
      if not names:
        names = _header(path, row)
      elif len(row) != len(names):
        raise ValueError(
          f'{path}: line {reader.line_num} has {len(row)} cells and the first row names '
          f'{len(names)} columns; put cells that hold a comma, or the like, in double quotes'
        )
      else:
        rows.append(row)
  except csv.Error as error:
    raise damaged(path, f'line {reader.line_num}: {error}') from error
  return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _header(path: Path, cells: Sequence[str]) -> list[str]:
  names = [cell.strip() for cell in cells]
  if twice := sorted({name for name in names if names.count(name) > 1}):
    raise ValueError(f'{path} has two columns {twice[0]!r}; give each a name of its own')
  if all(map(_is_number, names)):
    raise ValueError(f'{path}: its first row holds numbers alone; put the names of columns there')
  return names


def _is_number(text: str) -> bool:
  try:
    float(text)
  except ValueError:
    return False
  return True


def _read_tsv(path: Path) -> Columns:
  return _read_csv(path, '\t')


def _read_lines(path: Path) -> Columns:
  lines = [
    (number, line) for number, line in enumerate(_text(path).splitlines(), 1) if line.strip()
  ]
  objects = []
  for number, line in lines:
    try:
      objects.append(json.loads(line))
    except (ValueError, RecursionError) as error:
      raise damaged(path, f'line {number} is no JSON ({error})') from error
  return _of_objects(path, objects)


def _read_json(path: Path) -> Columns:
  try:
    return _of_objects(path, json.loads(_text(path)))
  except (json.JSONDecodeError, RecursionError) as error:
    raise damaged(path, f'no JSON ({error})') from error


def _of_objects(path: Path, objects: Any) -> Columns:
  if not isinstance(objects, list):
    raise ValueError(f'{path} holds no list of objects; give [{{"column": value, ...}}, ...]')
  for row, each in enumerate(objects, 1):
    if not isinstance(each, Mapping):
      raise ValueError(f'{path}: row {row} is no object {{"column": value, ...}}, but {each!r:.40}')
    if nested := [name for name, cell in each.items() if isinstance(cell, list | dict)]:
      raise ValueError(
        f'{path}: row {row} holds several values in {nested[0]!r}; give one a column'
      )
  names = list(dict.fromkeys(name for each in objects for name in each))
  return {name: [each.get(name) for each in objects] for name in names}


def _read_parquet(path: Path) -> Columns:
  try:
    import pandas
  except ImportError as error:
    raise ValueError(
      f'{path}: Parquet is read through pandas, which is missing; pip install metakit[tables], or '
      'give a CSV file'
    ) from error
  try:
    frame = pandas.read_parquet(path)
  except Exception as error:  # of whichever engine pandas found
    raise damaged(path, error) from error
  return columns_of_frame(frame)


def columns_of_frame(frame: Any) -> Columns:
  """Returns the columns of a pandas frame."""
  return {str(name): frame[name].tolist() for name in frame.columns}


def rows_of(columns: Columns, names: Iterable[str]) -> np.ndarray:
  """Returns some columns as cells [rows, columns], Python objects."""
  chosen = [columns[name] for name in names]
  rows = np.empty((len(chosen[0]) if chosen else 0, len(chosen)), object)
  for place, cells in enumerate(chosen):
    rows[:, place] = cells
  return rows


_READERS: dict[str, Callable[[Path], Columns]] = {
  '.csv': _read_csv,
  '.tsv': _read_tsv,
  '.jsonl': _read_lines,
  '.json': _read_json,
  '.parquet': _read_parquet,
}
