"""Texts with labels: a file of two columns or more."""

from pathlib import Path

import numpy as np

from metakit.data.columns import PART, classes_of, column, is_empty, read_columns
from metakit.data.encodings import encode, text_encoding
from metakit.data.files import ZIP_DAMAGE, PathLike, check_memory, damaged, naming
from metakit.data.parts import PartedTable
from metakit.data.table import ClassTable, class_table

LENGTHS = {'characters': (3, 5), 'words': (1, 1)}  # of n-grams, as in clinc150


def text(
  path: PathLike,
  *,
  text: str = 'text',
  label: str = 'label',
  group: str = '',
  embeddings: PathLike | None = None,
  features: int = 2048,
  units: str = 'characters',
) -> ClassTable:
  """Reads a CSV, TSV, JSON lines or Parquet file of texts and labels.

  Args:
    path: the file, see metakit.data.columns.read_columns. Its first row names the columns.
    text: the column of texts.
    label: the column of labels, each of which is a class.
    group: the column of groups (a topic, an author). A class is then a label of a group, and is
      called group/label. '' if there are none.
    embeddings: an .npy file, or an .npz file with the array x, of one vector a row of the file, in
      its order. They stand for the texts. Without them texts become hashed n-grams.
    features: size of a vector of hashed n-grams.
    units: 'characters' (n-grams of 3 to 5) or 'words' (single ones: a bag of words).

  Returns:
    x [rows, features] float32; `encoding` says how other texts become vectors, and is None with
    embeddings.

  Raises:
    FileNotFoundError: if a file is missing.
    ValueError: in one line that names the file, for a damaged one, a column that is not there, a
      row without a text or label, or another number of embeddings.

  >>> import tempfile
  >>> with tempfile.NamedTemporaryFile('w', suffix='.csv') as file:
  ...   for line in ('text,label', 'Where is my card?,card', 'It was declined,payment'):
  ...     print(line, file=file, flush=True)
  ...   table = text(file.name, features=64)
  >>> table.x.shape, table.names
  ((2, 64), ('card', 'payment'))
  """
  columns = {'text': text, 'label': label, 'group': group}
  return read_text(
    path, None, **columns, embeddings=embeddings, features=features, units=units
  ).table


def read_text(
  path: PathLike,
  part: str | None = PART,
  *,
  text: str = 'text',
  label: str = 'label',
  group: str = '',
  embeddings: PathLike | None = None,
  features: int = 2048,
  units: str = 'characters',
) -> PartedTable:
  """As `text`, but also returns the parts that the column `part` names; None ignores them.

  Raises:
    ValueError: also if a class is in two parts, or a part has an unknown name.
  """
  columns = read_columns(path)
  texts = [
    '' if is_empty(cell) else str(cell) for cell in column(columns, 'text', text, where=path)
  ]
  classes = classes_of(columns, ('label', label), group, part=part, where=path)
  shortest, longest = LENGTHS.get(units, (1, 1))
  encoding = text_encoding(features, units, shortest=shortest, longest=longest)
  if embeddings:
    x, known = _embeddings(Path(embeddings).expanduser(), len(texts)), None
  else:
    _check_texts(texts, text, path)
    x, known = encode(encoding, texts), encoding
  with naming(path):
    table = class_table(
      x, classes.numbers, classes.names, groups=classes.groups, group_names=classes.group_names
    )
  said_by = f'the rows of column {part!r}' if classes.parts else ''
  return PartedTable(table._replace(encoding=known), classes.parts, said_by)


def _check_texts(texts: list[str], name: str, path: PathLike) -> None:
  if '' in texts:
    row = texts.index('') + 1
    raise ValueError(f'{path}: row {row} has no text in column {name!r}; fill it, or delete it')


def _embeddings(path: Path, rows: int) -> np.ndarray:
  """Reads vectors [rows, size] of an .npy or .npz file."""
  if not path.is_file():
    raise FileNotFoundError(f'there is no file {path} of embeddings; give an .npy or .npz file')
  check_memory(path, path.stat().st_size)
  try:
    read = np.load(path, allow_pickle=False)
    if isinstance(read, np.ndarray):
      x = read
    elif len(read.files) == 1 or 'x' in read.files:
      x = read['x' if 'x' in read.files else read.files[0]]
    else:
      raise ValueError(f'it holds {", ".join(read.files) or "nothing"}; call the embeddings x')
  except ZIP_DAMAGE as error:
    raise damaged(path, error) from error
  if x.ndim != 2 or len(x) != rows:
    raise ValueError(
      f'{path} holds an array of shape {x.shape}, and there are {rows} texts; give one vector for '
      f'each, [{rows}, size]'
    )
  return x
