"""Arrays with labels: an .npz file or NumPy arrays."""

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from metakit.data.files import damaged, naming, open_zip
from metakit.data.table import ClassTable, class_table

# Each value of the table and the keys under which an .npz file may hold it.
_KEYS = {
  'x': ('x', 'images'),
  'labels': ('y', 'labels'),
  'names': ('names',),
  'groups': ('groups',),
  'group_names': ('group_names',),
}


def arrays(
  x: Any, labels: Any = None, names: Any = None, groups: Any = None, group_names: Any = None
) -> ClassTable:
  """Makes a table of examples and labels.

  Args:
    x: [rows, ...] numbers, or the path of an .npz file which holds 'x' (or 'images') and 'y' (or
      'labels'), and may hold 'names', 'groups' and 'group_names'.
    labels: [rows] integers or strings; not given with a path. With `names` they are class numbers;
      without, every value that occurs is a class, in sorted order, with that value as its name.
    names: [classes] class names.
    groups: [classes] group of each class: numbers, or strings if group_names is not given.
    group_names: [groups] group names.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if the file is none, damaged, lacks a key or holds Python objects; if labels do not
      match x; if x holds NaN or infinity.

  >>> arrays(np.zeros((4, 2)), ['cat', 'dog', 'cat', 'eel']).names
  ('cat', 'dog', 'eel')
  """
  if isinstance(x, str | os.PathLike):
    given = {'labels': labels, 'names': names, 'groups': groups, 'group_names': group_names}
    if extra := [key for key, value in given.items() if value is not None]:
      raise ValueError(f'{", ".join(extra)} given beside the file {x}; put them into the file')
    path = Path(x).expanduser()
    values = _read(path)
    with naming(path):
      return _table(**values)
  if labels is None:
    raise ValueError('labels are missing; give one integer or string an example')
  return _table(x, labels, names, groups, group_names)


def _table(
  x: Any, labels: Any, names: Any = None, groups: Any = None, group_names: Any = None
) -> ClassTable:
  x, labels = _plain('x', x), _plain('labels', labels)
  if labels.dtype.kind not in 'iuU':
    raise ValueError(f'labels are {labels.dtype}; give integers or strings')
  if x.dtype.kind not in 'biuf':
    raise ValueError(f'x is {x.dtype}; give numbers')
  if names is None:
    values, places = np.unique(labels, return_inverse=True)
    names, labels = values, places.reshape(labels.shape)
  if groups is not None and _plain('groups', groups).dtype.kind == 'U' and group_names is None:
    group_names, groups = np.unique(groups, return_inverse=True)
  return class_table(x, labels, _strings(names), groups, _strings(group_names))


def _strings(names: Any) -> list[str] | None:
  return None if names is None else [str(name) for name in np.asarray(names)]


def _plain(name: str, values: Any) -> np.ndarray:
  try:
    array = np.asarray(values)
  except ValueError as error:  # rows of several lengths
    raise ValueError(f'{name} is no array of one shape: {error}') from error
  if array.dtype == object:
    raise ValueError(f'{name} holds Python objects; give an array of plain numbers or strings')
  return array


def _read(path: Path) -> dict[str, np.ndarray]:
  if not path.is_file():
    raise FileNotFoundError(f'arrays: there is no file {path}; give the path of an .npz file')
  with naming(path):
    if not zipfile.is_zipfile(path):
      size = path.stat().st_size
      raise ValueError(f'no .npz file, or truncated ({size} bytes); make it with numpy.savez')
    with open_zip(path) as archive:
      held = [member.removesuffix('.npy') for member in archive.namelist()]
    _check_keys(held)
    with np.load(path, allow_pickle=False) as file:
      return {
        name: _member(file, key) for name, keys in _KEYS.items() for key in keys if key in held
      }


def _check_keys(held: list[str]) -> None:
  for keys in (_KEYS['x'], _KEYS['labels']):
    if sum(key in held for key in keys) != 1:
      raise ValueError(f'give one array {" or ".join(keys)}; the file holds {", ".join(held)}')


def _member(file: Any, key: str) -> np.ndarray:
  try:
    return file[key]
  except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
    if 'allow_pickle' in str(error):  # NumPy's advice to allow what could run any code
      raise ValueError(f'{key} holds Python objects; save plain numbers or strings') from error
    raise damaged(key, error) from error
