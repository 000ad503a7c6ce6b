"""MNIST (LeCun, Bottou, Bengio, Haffner 1998) and the data sets in IDX files of the same names.

Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747) and KMNIST (Clanuwat et al. 2018,
arXiv:1812.01718).
"""

import math
import zlib
from pathlib import Path

import numpy as np

from metakit.data.files import (
  PathLike,
  check_choice,
  check_memory,
  damaged,
  data_folder,
  find_data,
  naming,
  read_file,
  truncated,
)
from metakit.data.table import ClassTable, class_table

ORIGINS = {
  'mnist': 'https://storage.googleapis.com/cvdf-datasets/mnist',
  'fashion_mnist': 'https://github.com/zalandoresearch/fashion-mnist',
  'kmnist': 'https://github.com/rois-codh/kmnist',
}
_PREFIX = {'train': 'train', 'test': 't10k'}
# Bytes that are read beyond those that a header announces, to say by how many a file is too long.
_MORE = 65536


def mnist(
  data_dir: PathLike | None = None, split: str = 'train', name: str = 'mnist'
) -> ClassTable:
  """Reads MNIST, or a data set in the same format, from its IDX files, gzipped or not.

  All ten classes are in both parts; `metakit.data.splits.split_classes` parts the classes.

  Args:
    data_dir: the folder above that of the four files, which has the name of the data set (that of
      MNIST may be given itself); None stands for the environment variable METAKIT_DATA.
    split: 'train' (60,000 images) or 'test' (10,000).
    name: 'mnist', 'fashion_mnist' or 'kmnist'.

  Returns:
    x [images, 28, 28, 1] uint8, ink 255; classes '0' to '9'.

  Raises:
    FileNotFoundError: if a file is missing.
    ValueError: if the split or name is unknown, a file is damaged, or labels do not match images.

  >>> table = mnist('data', split='test')  # doctest: +SKIP
  >>> table.x.shape, table.names[:3]  # doctest: +SKIP
  ((10000, 28, 28, 1), ('0', '1', '2'))
  """
  check_choice('split', split, tuple(_PREFIX))
  check_choice('name', name, tuple(ORIGINS))
  if name != 'mnist':  # the files have the same names: never take those of another set
    data_dir = data_folder(data_dir, name) / name
  return read_part(data_dir, split, name)


def read_part(data_dir: PathLike | None, split: str, name: str) -> ClassTable:
  """As `mnist`, but reads whatever lies in the folder; `name` is for messages alone."""
  images = _find(data_dir, name, f'{_PREFIX[split]}-images', 3)
  labels = _find(data_dir, name, f'{_PREFIX[split]}-labels', 1)
  x, y = read_idx(images, 3), read_idx(labels, 1)
  if len(x) != len(y):
    raise ValueError(f'{labels}: {len(y)} labels for the {len(x)} images of {images.name}')
  with naming(labels):
    return class_table(x[..., None], y, names=[str(digit) for digit in range(10)])


def _find(data_dir: PathLike | None, name: str, stem: str, rank: int) -> Path:
  files = [f'{stem}{dot}idx{rank}-ubyte{end}' for dot in '-.' for end in ('.gz', '')]
  return find_data(data_dir, name, *files, origin=ORIGINS[name])


def read_idx(path: Path, rank: int) -> np.ndarray:
  """Reads an IDX file of unsigned bytes, gzipped if its name ends in .gz.

  The format: two zero bytes, the type (8 for unsigned bytes), the rank, the dimensions as
  big-endian 32-bit integers, the values.

  Args:
    path: the file.
    rank: how many dimensions it must have.

  Returns:
    uint8 array.

  Raises:
    ValueError: if the file is no such IDX file, truncated, too long, or says that it is larger than
      the memory that is left.
  """
  data, size = read_file(path), 4 + 4 * rank
  packed = path.suffix == '.gz'
  header = _gunzip(data, path, size)[0] if packed else data[:size]
  magic, whole = bytes([0, 0, 8, rank]), True
  if header[:4] != magic:
    raise damaged(path, f'no IDX file of {rank} dimensions (it starts with {header[:4].hex()!r})')
  if len(header) < size:
    raise truncated(path, len(header), size)
  shape = np.frombuffer(header, '>u4', rank, offset=4).tolist()
  size += math.prod(shape)
  check_memory(path, size)
  if packed:
    data, whole = _gunzip(data, path, size + _MORE)
  if len(data) != size:
    raise truncated(path, len(data), size)
  if not whole:
    raise damaged(path, 'truncated: it ends before its check sum')
  return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _gunzip(data: bytes, path: Path, most: int) -> tuple[bytes, bool]:
  """Unpacks at most `most` bytes; the second value tells whether the stream ends there.

  At a truncated end the module gzip raises an error and returns nothing. This function returns what
  was read, so that the error can say how much is there.
  """
  stream = zlib.decompressobj(wbits=31)  # 31: gzip, with its check sum
  try:
    return stream.decompress(data, most), stream.eof
  except zlib.error as error:
    raise damaged(path, f'no gzip file, or damaged ({error})') from error
