"""How texts and rows of a table became numbers: values that a trained learner is stored with.

An encoding is a dictionary that JSON can hold. Its 'kind' says what examples are:

  texts: hashed n-grams (metakit.data.ngrams)
  rows: columns of numbers, less the mean of training and divided by its deviation, and columns of
    texts, one number for each text of training, 0 or 1
  numbers: examples stay as they are

In a regression 'targets' holds the mean and the deviation of each number of the targets.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metakit.data.columns import columns_of_frame, is_empty, rows_of
from metakit.data.files import listed
from metakit.data.ngrams import hashed_ngrams
from metakit.data.table import ClassTable

MOST_TEXTS = 200  # different ones of a column; with more, most would be seen once


def text_encoding(
  features: int = 2048, units: str = 'characters', *, shortest: int = 3, longest: int = 5
) -> dict[str, Any]:
  """Returns the encoding of texts by hashed n-grams; see metakit.data.ngrams.hashed_ngrams."""
  return {
    'kind': 'texts',
    'features': features,
    'units': units,
    'shortest': shortest,
    'longest': longest,
  }


def rows_encoding(table: ClassTable) -> dict[str, Any]:
  """Returns the encoding of rows, measured on a table of training.

  Args:
    table: x [rows, columns], numbers or Python objects. Its encoding may have the names of the
      columns, {'names': [...]}; otherwise they are numbered.

  Raises:
    ValueError: if a column has more than MOST_TEXTS different texts.
  """
  if np.ndim(table.x) != 2:
    return {'kind': 'numbers'}
  names = (table.encoding or {}).get('names') or [str(n) for n in range(table.x.shape[1])]
  return {
    'kind': 'rows',
    'columns': [_measured(name, table.x[:, place]) for place, name in enumerate(names)],
  }


def _measured(name: str, cells: np.ndarray) -> dict[str, Any]:
  values, wrong = _numbers(cells)
  if 2 * len(wrong) < len(cells):
    _check_numbers(name, cells, values, wrong)
    values = values[~np.isnan(values)]
    return {'name': name, **_moments(values if len(values) else np.zeros(1))}
  texts = sorted({_text(cell) for cell in cells})
  if len(texts) > MOST_TEXTS:
    raise ValueError(
      f'column {name!r} has {len(texts):,} different texts, more than {MOST_TEXTS}; leave it out: '
      'columns=FIRST+SECOND names those that count'
    )
  return {'name': name, 'texts': texts}


def _moments(values: np.ndarray) -> dict[str, float]:
  deviation = float(values.std())
  return {'mean': float(values.mean()), 'deviation': deviation if deviation > 0 else 1.0}


def targets_of(y: np.ndarray) -> dict[str, list[float]]:
  """Returns mean and deviation of targets [rows, outputs]."""
  each = [_moments(y[:, place]) for place in range(y.shape[1])]
  return {name: [moments[name] for moments in each] for name in ('mean', 'deviation')}


def scaled(encoding: Mapping[str, Any] | None, y: np.ndarray) -> np.ndarray:
  """Returns targets [rows, outputs] in the units of training."""
  known = (encoding or {}).get('targets')
  return (y - known['mean']) / known['deviation'] if known else y


def unscaled(encoding: Mapping[str, Any] | None, y: np.ndarray) -> np.ndarray:
  """Returns predictions [rows, outputs] in the units of the user's targets."""
  known = (encoding or {}).get('targets')
  return y * known['deviation'] + known['mean'] if known else y


def encode(encoding: Mapping[str, Any], x: Any) -> np.ndarray:
  """Returns texts or rows as vectors [examples, features] float32.

  Args:
    encoding: of kind 'texts' or 'rows'.
    x: a sequence of strings; or rows: a list of dictionaries or a pandas frame with the columns of
      training (others do not count), or an array or list [rows, columns] in their order. An empty
      cell of a column of numbers counts as its mean, and a text that training did not have as none.

  Raises:
    ValueError: in one line, for an unknown encoding, and for what is no text or no such row.
  """
  if encoding['kind'] == 'texts':
    return _encode_texts(encoding, x)
  if encoding['kind'] == 'rows':
    return _encode_rows(encoding['columns'], x)
  raise ValueError(f'the encoding {encoding["kind"]!r} is unknown to this version')


def _encode_texts(encoding: Mapping[str, Any], x: Any) -> np.ndarray:
  texts = [x] if isinstance(x, str) else list(x)
  for number, text in enumerate(texts):
    if not isinstance(text, str):
      raise ValueError(
        f'example {number} of x is {type(text).__name__}, and this learner was trained on texts; '
        'give a list of strings'
      )
  if isinstance(x, str):
    raise ValueError('x is one text; give a list of texts, [text] for instance')
  sizes = {name: encoding[name] for name in ('shortest', 'longest')}
  return hashed_ngrams(texts, encoding['features'], encoding['units'], **sizes)


def _encode_rows(columns: Sequence[Mapping[str, Any]], x: Any) -> np.ndarray:
  cells = _cells([column['name'] for column in columns], x)
  parts = [_encode_column(column, cells[:, place]) for place, column in enumerate(columns)]
  return np.concatenate(parts, axis=1).astype(np.float32)


def _encode_column(column: Mapping[str, Any], cells: np.ndarray) -> np.ndarray:
  if 'texts' in column:
    texts = np.array([_text(cell) for cell in cells], object)
    return (texts[:, None] == np.array(column['texts'], object)).astype(np.float32)
  values, wrong = _numbers(cells)
  _check_numbers(column['name'], cells, values, wrong)
  return np.nan_to_num((values - column['mean']) / column['deviation'], nan=0.0)[:, None]


def _cells(names: Sequence[str], x: Any) -> np.ndarray:
  """Returns the cells of rows [rows, columns], numbers or Python objects."""
  if hasattr(x, 'columns'):  # a pandas frame
    _check_names(names, list(map(str, x.columns)), 'x')
    return rows_of(columns_of_frame(x), names)
  if isinstance(x, Mapping | str):
    raise ValueError(f'x is one {type(x).__name__}; give a list of rows, each with {listed(names)}')
  if isinstance(x, np.ndarray):
    if x.shape[1:] != (len(names),):
      raise _other_columns(names, x.shape)
    return x
  rows = list(x)
  if any(isinstance(row, Mapping) for row in rows):
    return _cells_of_objects(names, rows)
  cells = np.empty((len(rows), len(names)), object)
  for number, row in enumerate(rows):
    if np.shape(row) != (len(names),):
      raise _other_columns(names, (len(rows), *np.shape(row)))
    cells[number] = list(row)
  return cells


def _other_columns(names: Sequence[str], shape: tuple[int, ...]) -> ValueError:
  return ValueError(
    f'x has shape {shape}, and this learner was trained on rows of {len(names)} columns: '
    f'{listed(names)}'
  )


def _cells_of_objects(names: Sequence[str], rows: Sequence[Any]) -> np.ndarray:
  for number, row in enumerate(rows):
    if not isinstance(row, Mapping):
      raise ValueError(f'row {number} of x is {type(row).__name__}, and others are dictionaries')
    _check_names(names, list(row), f'row {number} of x')
  return rows_of({name: [row[name] for row in rows] for name in names}, names)


def _check_names(names: Sequence[str], given: Sequence[str], where: str) -> None:
  if missing := [name for name in names if name not in given]:
    raise ValueError(
      f'{where} lacks column {missing[0]!r}; this learner was trained on {listed(names)}'
    )


def _text(cell: Any) -> str:
  return '' if is_empty(cell) else str(cell).strip()


def _numbers(cells: np.ndarray) -> tuple[np.ndarray, list[int]]:
  """Returns cells as numbers, NaN where there is none, and the rows of what is no number."""
  if cells.dtype.kind in 'biuf':
    return cells.astype(np.float64), []
  values, wrong = np.full(len(cells), np.nan), []
  for row, cell in enumerate(cells):
    try:
      values[row] = np.nan if is_empty(cell) else float(cell)
    except (TypeError, ValueError):
      wrong.append(row)
  return values, wrong


def _check_numbers(name: str, cells: np.ndarray, values: np.ndarray, wrong: list[int]) -> None:
  infinite = np.flatnonzero(np.isinf(values))
  if wrong or len(infinite):
    row = wrong[0] if wrong else int(infinite[0])
    raise ValueError(
      f'row {row + 1} has {cells[row]!r} in column {name!r}, which holds numbers; give one, or '
      'leave the cell empty'
    )
