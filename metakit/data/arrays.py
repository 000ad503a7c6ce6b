"""Arrays with labels: an .npz file or NumPy arrays."""

import io
import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from metakit.data.files import (
  ZIP_DAMAGE,
  PathLike,
  check_memory,
  check_packing,
  damaged,
  naming,
  open_zip,
  truncated,
)
from metakit.data.numbers import plain_array
from metakit.data.table import ClassTable, check_labelled, check_shapes, class_table
from metakit.data.targets import regression_table

# Each value of the table and the keys under which an .npz file may hold it.
_KEYS = {
  'x': ('x', 'images'),
  'labels': ('y', 'labels'),
  'names': ('names',),
  'groups': ('groups',),
  'group_names': ('group_names',),
}

_HEADER = 65536  # bytes of a member that are read for its header; NumPy's own limit is 10,000
_HEADERS = {
  (1, 0): np.lib.format.read_array_header_1_0,
  (2, 0): np.lib.format.read_array_header_2_0,
}


def arrays(
  x: Any, labels: Any = None, names: Any = None, *, groups: Any = None, group_names: Any = None
) -> ClassTable:
  """Makes a table of examples and labels: of arrays, or of an .npz file.

  Labels that are floats are targets of a regression, and the classes of the table then are tasks
  (see metakit.data.targets.regression_table).

  Args:
    x: [rows, ...] numbers, or the path of an .npz file which holds 'x' (or 'images') and 'y' (or
      'labels'), and may hold 'names', 'groups' and 'group_names'.
    labels: [rows] strings, or integers of which none is negative; not given with a path. With
      `names` they are class numbers; without, every value that occurs is a class, in sorted order,
      with that value as its name. Or targets: floats [rows] or [rows, outputs] with groups, or
      [rows, tasks] without.
    names: [classes] class names; in a regression those of the tasks.
    groups: [classes] group of each class: numbers, or strings if group_names is not given. In a
      regression [rows], the task of each row.
    group_names: [groups] group names.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if the file is no .npz file, is damaged, lacks a key, or has Python objects. If its
      arrays are larger than their place in the file, or than the memory that is left. If labels do
      not match x, or one is -1, which stands for an example without a label. If a table cannot hold
      x (see metakit.data.class_table, which also says how images are kept).

  >>> arrays(np.zeros((4, 2)), ['cat', 'dog', 'cat', 'eel']).names
  ('cat', 'dog', 'eel')
  """
  if isinstance(x, str | os.PathLike):
    others = {'labels': labels, 'names': names, 'groups': groups, 'group_names': group_names}
    if extra := [key for key, value in others.items() if value is not None]:
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
  x, labels = plain_array('x', x), plain_array('labels', labels)
  if labels.dtype.kind == 'f' and labels.size:
    return regression_table(x, labels, groups, names=_strings(names))
  check_shapes(x, labels)  # first: no labels at all are of no type that was meant
  if labels.dtype.kind not in 'iuU':
    raise ValueError(f'labels are {labels.dtype}; give integers or strings')
  if names is None:
    check_labelled(labels)
    values, places = np.unique(labels, return_inverse=True)
    names, labels = values, places.reshape(labels.shape)
  if groups is not None and plain_array('groups', groups).dtype.kind == 'U' and group_names is None:
    group_names, groups = np.unique(groups, return_inverse=True)
  return class_table(x, labels, _strings(names), groups=groups, group_names=_strings(group_names))


def _strings(names: Any) -> list[str] | None:
  return None if names is None else [str(name) for name in np.asarray(names)]


def _read(path: Path) -> dict[str, np.ndarray]:
  if not path.is_file():
    raise FileNotFoundError(f'arrays: there is no file {path}; give the path of an .npz file')
  with naming(path):
    if not zipfile.is_zipfile(path):
      size = path.stat().st_size
      raise ValueError(f'no .npz file, or truncated ({size} bytes); make it with numpy.savez')
    with open_zip(path) as archive:
      members = {m.filename.removesuffix('.npy'): m for m in archive.infolist()}
      _check_keys(list(members))
      pairs = [(name, key) for name, keys in _KEYS.items() for key in keys if key in members]
      chosen = {name: members[key] for name, key in pairs}
      for member in chosen.values():
        _check_member(archive, member)
      check_memory(path.name, sum(member.file_size for member in chosen.values()))
      return {name: _member(archive, member) for name, member in chosen.items()}


def _check_keys(held: list[str]) -> None:
  for keys in (_KEYS['x'], _KEYS['labels']):
    if sum(key in held for key in keys) != 1:
      raise ValueError(f'give one array {" or ".join(keys)}; the file holds {", ".join(held)}')


def outputs_of(path: PathLike) -> int:
  """Returns how many numbers a target of an .npz file has; 0 if it holds classes.

  It reads no array, and raises nothing: what is wrong with a file is said when it is read.
  """
  try:
    with zipfile.ZipFile(Path(path).expanduser()) as archive:
      members = {m.filename.removesuffix('.npy'): m for m in archive.infolist()}
      key = next(key for key in _KEYS['labels'] if key in members)
      with archive.open(members[key]) as file:
        version = np.lib.format.read_magic(file)
        shape, _, dtype = _HEADERS[version](file)
  except (StopIteration, KeyError, *ZIP_DAMAGE):
    return 0
  if dtype.kind != 'f':
    return 0
  return shape[1] if len(shape) == 2 and 'groups' in members else 1


def _check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
  """Checks that an array is as large as its place in the file, before anything is allocated."""
  key = member.filename.removesuffix('.npy')
  with naming(key):
    check_packing(member)
  start = io.BytesIO(_unpacked(archive, member, lambda file: file.read(_HEADER)))
  try:
    version = np.lib.format.read_magic(start)
    shape, _, dtype = _HEADERS[version](start)
  except (ValueError, EOFError, KeyError) as error:
    raise damaged(key, error) from error
  if dtype.hasobject:
    raise ValueError(f'{key} holds Python objects; save plain numbers or strings')
  if dtype.kind == 'V' or dtype.itemsize == 0:
    # NumPy writes bfloat16 without its name.
    raise ValueError(f'{key} holds values of type {dtype.str}; save float32, integers or strings')
  size = start.tell() + math.prod(shape) * dtype.itemsize
  if size != member.file_size:
    raise truncated(key, member.file_size, size)


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
  read = lambda file: np.lib.format.read_array(file, allow_pickle=False)
  return _unpacked(archive, member, read)


def _unpacked(
  archive: zipfile.ZipFile, member: zipfile.ZipInfo, read: Callable[[IO[bytes]], Any]
) -> Any:
  try:
    with archive.open(member) as file:
      return read(file)
  except ZIP_DAMAGE as error:
    raise damaged(member.filename.removesuffix('.npy'), error) from error
