"""Tables on disk: a folder for each, which is read without loading x."""

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from metakit.data.files import PathLike, damaged
from metakit.data.numbers import is_numeric
from metakit.data.table import ClassTable

_X, _CLASSES = 'x.npy', 'classes.json'


def save_table(table: ClassTable, folder: PathLike) -> None:
  """Writes a table to a new folder, from which `open_table` reads it without loading x.

  The folder appears only when it is complete.

  Args:
    table: any table; x may be memory-mapped and larger than memory.
    folder: a folder that does not exist or is empty.

  Raises:
    FileExistsError: if the folder holds something.

  >>> import tempfile
  >>> from metakit.data.table import class_table
  >>> with tempfile.TemporaryDirectory() as folder:
  ...   save_table(class_table(np.eye(4), [0, 1, 0, 1]), f'{folder}/table')
  ...   open_table(f'{folder}/table').counts.tolist()
  [2, 2]
  """
  target = Path(folder).expanduser().absolute()
  if target.exists() and (not target.is_dir() or any(target.iterdir())):
    raise FileExistsError(f'{target} exists; give a folder that does not, or delete it')
  target.parent.mkdir(parents=True, exist_ok=True)
  unfinished = target.parent / f'.{target.name}.{uuid.uuid4().hex}'
  unfinished.mkdir()
  try:
    x = np.asarray(table.x)
    np.save(unfinished / _X, x, allow_pickle=False)
    classes = {
      key: np.asarray(value).tolist() for key, value in table._asdict().items() if key != 'x'
    }
    if x.dtype.kind == 'V':  # bfloat16 and its like: .npy files keep their bytes, not their names
      classes['dtype'] = x.dtype.name
    (unfinished / _CLASSES).write_text(json.dumps(classes))
    os.replace(unfinished, target)
  except BaseException:
    shutil.rmtree(unfinished, ignore_errors=True)
    raise


def open_table(folder: PathLike) -> ClassTable:
  """Opens a table of `save_table`; x is memory-mapped and read only where it is used.

  Args:
    folder: the folder.

  Raises:
    FileNotFoundError: if there is no table in the folder.
    ValueError: if a file is damaged or the two files do not belong together.

  >>> import tempfile
  >>> from metakit.data.table import class_table
  >>> with tempfile.TemporaryDirectory() as folder:
  ...   save_table(class_table(np.eye(4), [0, 1, 0, 1]), f'{folder}/table')
  ...   type(open_table(f'{folder}/table').x).__name__  # x is not read into memory
  'memmap'
  """
  path = Path(folder).expanduser()
  for file in (_X, _CLASSES):
    if not (path / file).is_file():
      raise FileNotFoundError(f'no {file} in {path}; write the table with save_table')
  classes, dtype = _open_classes(path / _CLASSES)
  table = ClassTable(x=_open_array(path / _X, dtype), **classes)
  counted = int(table.counts.sum())
  if counted != len(table.x):
    raise damaged(path, f'{_CLASSES} counts {counted} rows, {_X} has {len(table.x)}')
  if table.y is not None and (table.y.ndim != 2 or len(table.y) != counted):
    raise damaged(path, f'{_CLASSES} has targets of shape {table.y.shape} for {counted} rows')
  return table


def _open_array(path: Path, dtype: str | None) -> np.ndarray:
  try:
    x = np.load(path, mmap_mode='r', allow_pickle=False)
  except (ValueError, EOFError, OSError) as error:
    reason = f'no .npy file, or truncated ({path.stat().st_size} bytes)'
    raise damaged(path, reason) from error
  try:
    x = x if dtype is None else x.view(np.dtype(dtype))
  except (TypeError, ValueError) as error:
    raise damaged(path, f'{x.dtype} where {dtype} was written') from error
  if x.ndim == 0 or not is_numeric(x):
    raise ValueError(f'{path}: {x.dtype} of shape {x.shape}, no rows of numbers; save it again')
  return x


def _open_classes(path: Path) -> tuple[dict[str, Any], str | None]:
  """Returns what a table holds beside x, and the type of x where its file does not say it."""
  try:
    values = json.loads(path.read_text())
    arrays = {key: np.asarray(values[key], np.int64) for key in ('starts', 'counts', 'groups')}
    y = None if values.get('y') is None else np.asarray(values['y'], np.float64)
    names = {key: tuple(values[key]) for key in ('names', 'group_names')}
  except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
    raise damaged(path, f'no table of classes ({error})') from error
  counts, groups = arrays['counts'], arrays['groups']
  agree = counts.shape == groups.shape == (len(names['names']),) and counts.min(initial=0) >= 0
  agree = agree and np.array_equal(arrays['starts'], np.cumsum(counts) - counts)
  if not agree or not np.isin(groups, np.arange(len(names['group_names']))).all():
    raise damaged(path, 'its starts, counts, names and groups do not agree')
  return arrays | names | {'y': y, 'encoding': values.get('encoding')}, values.get('dtype')
