"""The official archive of CIFAR-100 for Python, read without running what pickles may hold.

cifar-100-python.tar.gz of www.cs.toronto.edu/~kriz/cifar.html, or the folder cifar-100-python that
it unpacks to: the files `train`, `test` and `meta`. Each is a pickle of Python 2 of one dictionary.
"""

import codecs
import io
import pickle
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from metakit.data.files import check_memory, damaged, listed, read_file
from metakit.data.table import ClassTable, class_table

ARCHIVES = ('cifar-100-python.tar.gz', 'cifar-100-python.tgz', 'cifar-100-python.tar')
FILES = ('train', 'test', 'meta')
LARGEST = 1 << 28  # bytes of an unpacked file; the largest has 155 million
SHAPE = (3, 32, 32)
REMEDY = 'another set; use cifar-100-python.tar.gz'


def find_archive(place: Path) -> list[Path]:
  """Returns the archive that a folder holds, or the files that it unpacks to, or []."""
  for name in ARCHIVES:
    if (place / name).is_file():
      return [place / name]
  files = [place / name for name in FILES]
  return files if all(file.is_file() for file in files) else []


def read_archive(files: list[Path], part: str) -> ClassTable:
  """Reads the images of a part.

  Args:
    files: what `find_archive` returned.
    part: 'train' or 'test', or 'all' for both.

  Returns:
    x [images, 32, 32, 3] uint8, in the order of the files.

  Raises:
    ValueError: if the files are damaged, of another set, or hold anything but plain values.
  """
  parts = ['train', 'test'] if part == 'all' else [part]
  where = files[0] if len(files) == 1 else files[0].parent
  packed = _unpacked(where, {'meta', *parts}) if len(files) == 1 else _read(files, parts)
  contents = {name: load_plain(data, where / name) for name, data in packed.items()}
  field = lambda name, key: _field(contents[name], where / name, key)
  names = field('meta', 'fine_label_names')
  labels = [label for each in parts for label in field(each, 'fine_labels')]
  x = np.concatenate([_pixels(field(each, 'data'), where / each) for each in parts])
  try:
    return class_table(x, labels, [str(name) for name in names])
  except (ValueError, TypeError) as error:
    raise damaged(where, error) from error


def _read(files: list[Path], parts: list[str]) -> dict[str, bytes]:
  return {file.name: read_file(file) for file in files if file.name in ('meta', *parts)}


def _unpacked(archive: Path, wanted: set[str]) -> dict[str, bytes]:
  """Returns the wanted files of the archive; reads on only until all are found."""
  found: dict[str, bytes] = {}
  others: list[str] = []
  try:
    with tarfile.open(archive) as tar:
      for member in tar:
        folder, _, name = member.name.rpartition('/')
        if member.isfile() and name in wanted and folder.endswith('cifar-100-python'):
          found[name] = _member(archive, tar, member)
        others.append(member.name)
        if wanted <= found.keys():
          return found
  except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
    raise damaged(archive, f'no .tar archive, or truncated ({error})') from error
  missing = ', '.join(sorted(wanted - found.keys()))
  raise ValueError(f'{archive}: no {missing} of CIFAR-100, but {listed(others, 3)}: {REMEDY}')


def _member(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
  if member.size > LARGEST:
    raise ValueError(f'{archive}: {member.name} has {member.size:,} bytes; {REMEDY}')
  check_memory(archive, member.size)
  file = tar.extractfile(member)
  return b'' if file is None else file.read()


def _field(values: Any, file: Path, key: str) -> Any:
  """Returns one entry of the dictionary of a file: a list, or the array `data`."""
  if not isinstance(values, dict) or key not in values:
    held = listed(sorted(map(str, values)), 5) if isinstance(values, dict) else 'no dictionary'
    raise ValueError(f'{file}: no {key} in it, but {held}: {REMEDY}')
  kind = np.ndarray if key == 'data' else list
  if not isinstance(values[key], kind):
    raise ValueError(f'{file}: {key} is no {kind.__name__}: {REMEDY}')
  return values[key]


def _pixels(data: np.ndarray, file: Path) -> np.ndarray:
  if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != np.prod(SHAPE):
    raise ValueError(f'{file}: data of {data.dtype} {data.shape}: {REMEDY}')
  return data.reshape(-1, *SHAPE).transpose(0, 2, 3, 1)


def load_plain(data: bytes, name: object) -> Any:
  """Reads a pickle of Python's plain values and NumPy arrays, and of nothing else.

  A pickle can name any function of the machine, and have it called. Here it may name only what an
  array is written with.

  Args:
    data: the bytes. Texts of Python 2 are read as Latin-1.
    name: the file, for messages.

  Raises:
    ValueError: if it names anything else, or is damaged.
  """
  try:
    return _Plain(io.BytesIO(data), encoding='latin1').load()
  except pickle.UnpicklingError as error:
    raise damaged(name, error) from error
  # What the opcodes of a damaged pickle raise.
  except (EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
    raise damaged(name, f'no pickle, or truncated ({len(data):,} bytes)') from error
  except (MemoryError, OverflowError, RecursionError) as error:
    raise damaged(name, 'a pickle that does not fit into memory') from error


def _latin(text: str, encoding: str) -> bytes:
  """Stands for codecs.encode, with which Python 3 writes bytes for Python 2."""
  if codecs.lookup(encoding).name != 'iso8859-1':
    raise pickle.UnpicklingError(f'it encodes a text as {encoding}')
  return text.encode(encoding)


def _dtype(name: str, *_: Any) -> np.dtype:
  """Stands for numpy.dtype, without arguments that only structures need."""
  return np.dtype(str(name))


_RECONSTRUCT = np.zeros(0).__reduce__()[0]
_PLAIN = {
  **{(f'numpy.{core}.multiarray', '_reconstruct'): _RECONSTRUCT for core in ('core', '_core')},
  ('numpy', 'ndarray'): np.ndarray,
  ('numpy', 'dtype'): _dtype,
  ('_codecs', 'encode'): _latin,
}


class _Plain(pickle.Unpickler):
  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in _PLAIN:
      raise pickle.UnpicklingError(f'it names {module}.{name}, which no image set needs')
    return _PLAIN[module, name]
