"""Examples of a user's own for a trained learner: a folder of pictures, or a CSV file."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.runs.csv_table import Table, check_columns, read_csv
from metakit.data.files import listed
from metakit.data.folder import SUFFIXES, is_image
from metakit.trained import Trained

PICTURES, TEXTS, ROWS, NUMBERS = 'pictures', 'texts', 'rows', 'numbers'
COLUMN = {PICTURES: 'path', TEXTS: 'text'}  # that holds the examples
NAMES = ('id', 'name', 'path', 'file', 'text')  # columns that name a row and are no numbers


class Given(NamedTuple):
  """Examples of a user.

  Attributes:
    where: the folder or file.
    names: a name for each example.
    x: paths of pictures, texts, rows of cells, or numbers [examples, features].
    y: class names [examples], '' where the class of a query is not known; in a regression targets
      [examples, outputs], NaN where they are not; None if none is known.
    columns: the columns that the numbers come from.
  """

  where: Path
  names: list[str]
  x: Any
  y: Any
  columns: tuple[str, ...] = ()


class Expected(NamedTuple):
  """What a trained learner takes.

  Attributes:
    kind: PICTURES, TEXTS, ROWS or NUMBERS.
    classifies: whether labels are classes.
    features: numbers of an example.
    labels: the columns of the labels.
    columns: those of rows of numbers and texts, as they were in training.
  """

  kind: str
  classifies: bool
  features: int
  labels: tuple[str, ...]
  columns: tuple[str, ...] = ()


def expected(trained: Trained, labels: Sequence[str]) -> Expected:
  """Returns what a learner takes.

  Args:
    trained: the learner.
    labels: the columns of the labels in CSV files.

  Raises:
    ValueError: if there are not as many columns as the learner predicts numbers.
  """
  inputs, encoding = trained.inputs, trained.inputs.encoding
  kind = PICTURES if inputs.are_pictures else NUMBERS
  columns: tuple[str, ...] = ()
  if encoding is not None and encoding['kind'] == 'texts':
    kind = TEXTS
  if encoding is not None and encoding['kind'] == 'rows':
    kind, columns = ROWS, tuple(column['name'] for column in encoding['columns'])
  outputs = 1 if trained.classifies else trained.outputs
  if len(labels) != outputs:
    raise ValueError(
      f'--label={",".join(labels)} names {len(labels)} columns, and this learner predicts '
      f'{outputs}; give as many, with commas between them'
    )
  return Expected(kind, trained.classifies, math.prod(inputs.shape), tuple(labels), columns)


def read_support(where: str, takes: Expected) -> Given:
  """Reads the examples to learn from: a folder with a folder a class, or a CSV file.

  Raises:
    OSError: naming the file or folder, if it cannot be read.
    ValueError: in one line, for what else is wrong with it.
  """
  path = _existing(where, '--support')
  if path.is_dir():
    _check_pictures(path, takes)
    if not takes.classifies:
      raise ValueError(
        f'{path} is a folder, and this learner predicts numbers; give a CSV file with the columns '
        f'{", ".join([COLUMN[PICTURES], *takes.labels])}'
      )
    return _class_folders(path)
  table = read_csv(path)
  check_columns(table, takes.labels, 'name the column of the labels with --label=')
  for name in takes.labels:
    table.cells(name, needed=True)
  return _of_table(table, takes)


def read_queries(where: str, takes: Expected, support: Given) -> Given:
  """Reads the examples to predict: a folder with pictures anywhere below it, a picture, or a CSV.

  Args:
    where: the folder or file.
    takes: see `expected`.
    support: what `read_support` returned.

  Raises:
    OSError: naming the file or folder, if it cannot be read.
    ValueError: in one line, for what else is wrong with it, and for a label that is no class of the
      support.
  """
  path = _existing(where, '--query')
  if path.is_dir() or is_image(path):
    _check_pictures(path, takes)
    return _pictures_below(path, set(support.y) if takes.classifies else set())
  table = read_csv(path)
  if takes.kind == NUMBERS:
    _check_same_columns(table, support, takes)
  given = _of_table(table, takes, support.columns)
  if takes.classifies and given.y is not None:
    _check_known(table, given.y, support.y)
  return given


def _existing(where: str, flag: str) -> Path:
  path = Path(where).expanduser()
  if not path.exists():
    raise FileNotFoundError(f'{flag}={where}: there is no such folder or file')
  return path


def _check_pictures(path: Path, takes: Expected) -> None:
  if takes.kind != PICTURES:
    examples = takes.columns or [COLUMN.get(takes.kind, 'one for each number')]
    columns = ', '.join([*examples, *takes.labels])
    raise ValueError(
      f'{path} is for pictures, and this learner was trained on {takes.kind}; give a CSV file with '
      f'the columns {columns}'
    )


def _class_folders(root: Path) -> Given:
  """Reads root/class/picture."""
  folders = [each for each in sorted(root.iterdir()) if each.is_dir() and each.name[0] != '.']
  if not folders:
    raise ValueError(f'{root} holds no folders; put the pictures of each class into one')
  if stray := [each.name for each in sorted(root.iterdir()) if is_image(each)]:
    raise ValueError(
      f'{root} holds pictures ({listed(stray, 3)}) beside folders of classes '
      f'({listed([each.name for each in folders], 3)}); put each into the folder of its class'
    )
  names, paths, classes = [], [], []
  for folder in folders:
    pictures = [path for path in sorted(folder.iterdir()) if is_image(path)]
    if not pictures:
      raise ValueError(f'{folder} {_without_pictures(folder)}; put some there or remove it')
    names += [f'{folder.name}/{path.name}' for path in pictures]
    paths += pictures
    classes += [folder.name] * len(pictures)
  return Given(root, names, paths, classes)


def _without_pictures(folder: Path) -> str:
  """Says what a folder without pictures has."""
  there = [each for each in sorted(folder.rglob('*')) if each.is_file() and each.name[0] != '.']
  if any(map(is_image, there)):
    return 'holds folders with pictures, and no picture itself'
  seen = f', but {listed([each.name for each in there], 3)}' if there else ''
  return f'holds no picture ({", ".join(SUFFIXES)}){seen}'


def _pictures_below(root: Path, classes: set[str]) -> Given:
  """Reads all pictures below a folder. Those in a folder of the name of a class are of it."""
  if is_image(root):
    return Given(root.parent, [root.name], [root], None)
  shown = lambda path: not any(part[0] == '.' for part in path.relative_to(root).parts)
  pictures = [path for path in sorted(root.rglob('*')) if is_image(path) and shown(path)]
  if not pictures:
    raise ValueError(f'{root} {_without_pictures(root)}; give a folder of pictures')
  names = [path.relative_to(root).as_posix() for path in pictures]
  parents = [path.parent.name if path.parent != root else '' for path in pictures]
  labels = [parent if parent in classes else '' for parent in parents]
  return Given(root, names, pictures, labels if any(labels) else None)


def _check_same_columns(table: Table, support: Given, takes: Expected) -> None:
  """Raises ValueError if queries have other columns of numbers than the support."""
  there = _features(table, takes)
  if missing := [name for name in support.columns if name not in there]:
    raise ValueError(
      f'{table.path} has no column {missing[0]!r}, which {support.where} has; it has '
      f'{listed(table.columns)}; add it'
    )
  if more := [name for name in there if name not in support.columns]:
    raise ValueError(f'{table.path} has a column {more[0]!r}, which {support.where} lacks; drop it')


def _check_known(table: Table, labels: Sequence[str], classes: Sequence[str]) -> None:
  known = sorted(set(classes))
  for number, label in enumerate(labels):
    if label and label not in known:
      raise ValueError(
        f'{table.at(number)}: {label!r} is no class of the support ({listed(known)}); mend it, or '
        'leave the cell empty'
      )


def _features(table: Table, takes: Expected) -> tuple[str, ...]:
  """Returns the columns of numbers: all that are no labels and do not name rows."""
  counts = lambda name: name not in takes.labels and name.lower() not in NAMES
  return tuple(filter(counts, table.columns))


def _of_table(table: Table, takes: Expected, columns: tuple[str, ...] = ()) -> Given:
  """Returns the examples of a CSV file; `columns` gives the order of the numbers."""
  naming = next((name for name in table.columns if name.lower() in NAMES), None)
  rows = [f'row {number + 1}' for number in range(table.rows)]
  given = Given(table.path, table.cells(naming) if naming else rows, None, _labels(table, takes))
  if takes.kind == NUMBERS:
    columns = columns or _features(table, takes)
    return given._replace(x=_numbers(table, takes, columns), columns=columns)
  if takes.kind == ROWS:
    check_columns(table, takes.columns, 'this learner was trained on rows of these columns')
    in_order = zip(*(table.cells(name) for name in takes.columns), strict=True)
    return given._replace(x=list(in_order), columns=takes.columns)
  column = COLUMN[takes.kind]
  check_columns(table, [column], f'this learner was trained on {takes.kind}, {column} holds them')
  cells = table.cells(column, needed=True)
  if takes.kind == TEXTS:
    return given._replace(x=cells)
  return given._replace(x=[table.path.parent / Path(each).expanduser() for each in cells])


def _labels(table: Table, takes: Expected) -> Any:
  if not set(takes.labels) <= set(table.columns):
    return None
  if takes.classifies:
    cells = table.cells(takes.labels[0])
    return cells if any(cells) else None
  targets = np.stack([table.numbers(name, needed=False) for name in takes.labels], 1)
  return None if np.isnan(targets).all() else targets


def _numbers(table: Table, takes: Expected, columns: Sequence[str]) -> np.ndarray:
  """Returns the numbers of some columns, [examples, features] float32."""
  if len(columns) != takes.features:
    raise ValueError(
      f'{table.path} has {len(columns)} columns of numbers ({listed(columns) or "none"}), and this '
      f'learner was trained on {takes.features} numbers an example; columns called '
      f'{", ".join((*NAMES, *takes.labels))} do not count'
    )
  return np.stack([table.numbers(name) for name in columns], 1).astype(np.float32)
