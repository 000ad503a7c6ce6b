"""Which classes are in which part: names of parts, lists of classes, and split files."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from metakit.data.files import PathLike, damaged, listed
from metakit.data.table import ClassTable, select_classes

PARTS = ('train', 'validation', 'test')
_ALIASES = {'training': 'train', 'testing': 'test'}
_ALIASES |= dict.fromkeys(('val', 'valid', 'dev'), 'validation') | {part: part for part in PARTS}
# Headers of a csv file, in lower case.
_CLASS_COLUMNS = ('class', 'label', 'class_name', 'name', 'category')
_PART_COLUMNS = ('part', 'split', 'set', 'subset', 'partition')
_FILE_COLUMNS = ('filename', 'file', 'image', 'path')
_SPLIT_FILES = ('split.json', 'splits.json', 'split.csv', 'splits.csv')

Parts = dict[str, tuple[str, ...]]  # part -> names of its classes


class ClassLists(NamedTuple):
  """What the files of a split say.

  Attributes:
    parts: the classes of each part.
    files: the images of each class, where a list names them; otherwise {}.
  """

  parts: Parts
  files: dict[str, list[str]]


class PartedTable(NamedTuple):
  """A data set, and what is known of its parts.

  Attributes:
    table: all its classes.
    parts: the classes of each part, if the data set or the files of a split name them; or None.
    said_by: where the parts come from: 'folders', or the names of files.
    left_out: images that cannot be read and are skipped.
  """

  table: ClassTable
  parts: Parts | None = None
  said_by: str = ''
  left_out: tuple[str, ...] = ()


def part_named(name: str) -> str | None:
  """Returns the part that a name stands for in any case, or None.

  >>> part_named('Val'), part_named('training'), part_named('trains')
  ('validation', 'train', None)
  """
  return _ALIASES.get(name.lower())


def find_lists(folder: Path) -> list[Path]:
  """Returns the files of a folder that say which class is in which part; [] if there are none.

  Those are lists of classes, one for each part (train.txt, val.txt, test.txt, or .csv as those of
  mini-ImageNet), or one file for all (split.json or split.csv).
  """
  each = [f for f in folder.iterdir() if f.suffix.lower() in ('.txt', '.csv') and f.is_file()]
  of_parts = sorted(file for file in each if part_named(file.stem))
  if len({part_named(file.stem) for file in of_parts}) > 1:
    return of_parts
  return [folder / name for name in _SPLIT_FILES if (folder / name).is_file()][:1]


def read_lists(path: PathLike) -> ClassLists:
  """Reads which classes are in which part.

  Args:
    path: a .json file, {"train": [class, ...], "val": [...], "test": [...]} or {class: part}; a
      .csv file with a class and its part in each row; or a folder of files as `find_lists` knows
      them: .txt files with a class in each line, .csv files with the columns filename and label
      (mini-ImageNet, Ravi and Larochelle 2017) or a class in each row.

  Raises:
    FileNotFoundError: if there is no such file, or none in the folder.
    ValueError: if a file is no such list, or a class is in two parts; the file and class are named.
  """
  path = Path(path).expanduser()
  files = find_lists(path) if path.is_dir() else [path] if path.is_file() else []
  if not files:
    raise FileNotFoundError(
      f'split: no lists of classes in {path}; give a .json or .csv file, or a folder of train.txt, '
      'val.txt and test.txt'
    )
  rows = [row for file in files for row in _rows(file)]
  parts: dict[str, dict[str, None]] = {part: {} for part in PARTS}
  images: dict[str, list[str]] = {}
  for part, name, image in rows:
    parts[part][name] = None
    if image is not None:
      images.setdefault(name, []).append(image)
  lists = {part: tuple(names) for part, names in parts.items() if names}
  check_apart(lists, path, 'give it to one of them')
  return ClassLists(lists, images)


def check_apart(parts: Mapping[str, Sequence[str]], where: object, remedy: str) -> None:
  """Raises ValueError if a class is in two parts, since a test would then see training classes."""
  owner: dict[str, str] = {}
  twice = {}
  for part, names in parts.items():
    for name in names:
      if owner.setdefault(name, part) != part:
        twice[name] = f'{name!r} (in {owner[name]} and {part})'
  if twice:
    classes = 'one class is' if len(twice) == 1 else f'{len(twice)} classes are'
    raise ValueError(f'{where}: {classes} in two parts: {listed([*twice.values()])}; {remedy}')


def select_part(table: ClassTable, parts: Parts, part: str, *, where: object) -> ClassTable:
  """Returns the classes of a part, in the order of the table.

  A class goes by its name, or by the last component of its name if no other class has that.

  Raises:
    ValueError: if there is no such part, a listed class is not in the table, or one class is listed
      in two parts by several names.
  """
  if part not in parts:
    raise ValueError(
      f'{where} has no part {part!r} (it has {", ".join(parts) or "none"}); add it, or use '
      'split=class, which parts all classes at random'
    )
  numbers = _numbers(table.names)
  unknown = [repr(name) for name in parts[part] if numbers.get(name) is None]
  if unknown:
    raise ValueError(
      f'{where}: part {part} names {listed(unknown)}, of which there are no examples; use names of '
      f'classes, such as {table.names[0]!r}'
    )
  known = {
    each: {number for name in names if (number := numbers.get(name)) is not None}
    for each, names in parts.items()
  }
  in_full = {each: [table.names[number] for number in known[each]] for each in parts}
  check_apart(in_full, where, 'give it to one of them')
  return select_classes(table, sorted(known[part]))


def _numbers(names: Sequence[str]) -> dict[str, int | None]:
  short: dict[str, int | None] = {}
  for number, name in enumerate(names):
    last = name.rpartition('/')[2]
    short[last] = None if last in short else number
  return short | {name: number for number, name in enumerate(names)}


def _rows(file: Path) -> Iterable[tuple[str, str, str | None]]:
  """Yields (part, class, image or None) of a file."""
  try:
    text = file.read_text(encoding='utf-8-sig')
    if file.suffix.lower() == '.json':
      return _json_rows(json.loads(text))
    if file.suffix.lower() == '.csv':
      return _csv_rows([row for row in csv.reader(text.splitlines()) if any(row)], file.stem)
  except (ValueError, csv.Error) as error:
    raise damaged(file, error) from error
  of_file = part_named(file.stem)
  if of_file is None:
    raise ValueError(f'{file}: the split is no .json or .csv file; use one, or a folder of lists')
  return [(of_file, line.strip(), None) for line in text.splitlines() if line.strip()]


def known_part(name: object) -> str:
  """Returns the part that a name stands for; ValueError if it stands for none."""
  part = part_named(str(name).strip())
  if part is None:
    raise ValueError(f'part {name!r} is unknown: use one of {", ".join(PARTS)}')
  return part


def _json_rows(value: object) -> list[tuple[str, str, None]]:
  if not isinstance(value, dict):
    raise ValueError('no object, {"train": [class, ...], ...} or {class: part}')
  if all(isinstance(names, list) for names in value.values()):
    return [(known_part(part), str(n), None) for part, names in value.items() for n in names]
  return [(known_part(part), str(name), None) for name, part in value.items()]


def _csv_rows(rows: list[list[str]], stem: str) -> list[tuple[str, str, str | None]]:
  rows = [[cell.strip() for cell in row] for row in rows]
  header = [cell.lower() for cell in rows[0]] if rows else []
  column = lambda names: next((i for i, cell in enumerate(header) if cell in names), None)
  of_class, of_part, of_file = map(column, (_CLASS_COLUMNS, _PART_COLUMNS, _FILE_COLUMNS))
  part_of_file = part_named(stem)
  if of_class is None:  # no header
    of_class, of_part, of_file = 0, None if part_of_file else 1, None
  else:
    rows = rows[1:]
  if part_of_file is None and of_part is None:
    raise ValueError(f'no column {" or ".join(_PART_COLUMNS)}')
  wide = max(column for column in (of_class, of_part, of_file) if column is not None)
  if short := [row for row in rows if len(row) <= wide]:
    raise ValueError(f'a row of {len(short[0])} columns, {",".join(short[0])!r}')
  image = lambda row: None if of_file is None else row[of_file]
  part = lambda row: known_part(stem if of_part is None else row[of_part])
  return [(part(row), row[of_class], image(row)) for row in rows]
