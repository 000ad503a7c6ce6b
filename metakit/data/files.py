"""Finding the files of data sets, and errors that name the file and the remedy."""

import contextlib
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from metakit.sizes import memory_left

PathLike = str | os.PathLike[str]

LARGEST_MEMBER = 64 << 20  # bytes; no image or list in a zip file is nearly so large
SMALL = 64 << 20  # so many bytes are assumed to be free, without a look at the machine
# What says how many bytes a Linux machine has left, and a container on it may have.


def data_folder(data_dir: PathLike | None, name: str) -> Path:
  """Returns the folder that `data_dir`, or else the environment variable METAKIT_DATA, names.

  Args:
    data_dir: a folder; None or '' stands for METAKIT_DATA.
    name: the data set, for the message.

  Raises:
    FileNotFoundError: if neither is given or there is no such folder.
  """
  root = data_dir or os.environ.get('METAKIT_DATA')
  if not root:
    raise FileNotFoundError(f'{name}: no data folder given; set data_dir=FOLDER or METAKIT_DATA')
  folder = Path(root).expanduser()
  if not folder.is_dir():
    raise FileNotFoundError(
      f'{name}: there is no folder {folder}; set data_dir=FOLDER or METAKIT_DATA'
    )
  return folder


def find_data(data_dir: PathLike | None, name: str, *files: str, origin: str = '') -> Path:
  """Finds a file of a data set.

  Args:
    data_dir: the folder of the data set `name`, or the folder above it; None stands for the
      environment variable METAKIT_DATA.
    name: the data set, and the name of its folder.
    *files: names under which the file goes; the first that exists is taken.
    origin: where to get the files, for the message.

  Raises:
    FileNotFoundError: if there is no such file; says what was looked for, where, and the remedy.
  """
  root = data_folder(data_dir, name)
  for path in (folder / file for folder in (root, root / name) for file in files):
    if path.is_file():
      return path
  source = f' (get it from {origin})' if origin else ''
  raise FileNotFoundError(
    f'{name}: no {" or ".join(files)} in {root} or {root / name}; '
    f'set data_dir=FOLDER or METAKIT_DATA to its folder{source}'
  )


def damaged(file: object, reason: object) -> ValueError:
  """Returns the error for a file that is there but cannot be used; one line."""
  return ValueError(f'{file}: {" ".join(str(reason).split())}; get or make the file again')


def listed(items: Sequence[object], most: int = 10) -> str:
  """Returns the first items, and how many more there are.

  >>> listed(['a', 'b', 'c'], 2)
  'a, b and 1 more'
  """
  more = f' and {len(items) - most:,} more' if len(items) > most else ''
  return ', '.join(map(str, items[:most])) + more


def truncated(file: object, size: int, expected: int) -> ValueError:
  """Returns the error for a file of `size` bytes which says that it has `expected` bytes."""
  state = 'truncated' if size < expected else 'too long'
  return damaged(file, f'{state}: {size} of {expected} bytes')


@contextlib.contextmanager
def naming(file: object) -> Iterator[None]:
  """Puts the name of a file or data set in front of the ValueErrors of the block.

  A MemoryError becomes one of them.
  """
  try:
    yield
  except ValueError as error:
    raise ValueError(f'{file}: {error}') from error
  except MemoryError as error:
    raise too_large(file, str(error) or 'more memory than there is') from error


def too_large(file: object, reason: object) -> ValueError:
  """Returns the error for what does not fit into memory; one line."""
  return ValueError(
    f'{file}: {" ".join(str(reason).split())}; give less data, or keep it on disk with save_table'
  )


def check_memory(file: object, size: int) -> None:
  """Raises ValueError if `size` bytes are more than the memory that is left."""
  left = math.inf if size <= SMALL else memory_left()
  if size > left:
    raise too_large(file, f'needs {size / 2**30:,.1f} GiB of memory, {left / 2**30:,.1f} are left')


def read_file(path: Path) -> bytes:
  """Reads a file whole; ValueError names it if it is larger than the memory that is left."""
  check_memory(path, path.stat().st_size)
  return path.read_bytes()


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
  """Raises ValueError if an argument is none of its choices."""
  if value not in choices:
    raise ValueError(f'{name}={value!r} is unknown; use one of {", ".join(choices)}')


def open_zip(path: Path) -> ZipFile:
  """Opens a zip file; ValueError if it is none."""
  try:
    return ZipFile(path)
  except (BadZipFile, RuntimeError, ValueError) as error:
    raise damaged(path, f'no zip file, or truncated ({path.stat().st_size} bytes)') from error


# What reading a member raises. RuntimeError and its subclass NotImplementedError: encrypted, or an
# unknown compression; ValueError: a name that is no text.
ZIP_DAMAGE = BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError


def check_packing(member: ZipInfo) -> None:
  """Raises ValueError for a compression that may unpack to more bytes at once than it is asked."""
  if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
    raise ValueError(f'compression {member.compress_type} is not read; pack it with deflate')


def read_member(archive: ZipFile, member: str, most: int = LARGEST_MEMBER) -> bytes:
  """Reads one file of a zip file.

  Args:
    archive: the zip file.
    member: the file in it.
    most: bytes that it may have.

  Raises:
    ValueError: if it is damaged or says that it is larger; names both.
  """
  name = f'{archive.filename}: {member}'
  info = archive.getinfo(member)
  with naming(name):
    check_packing(info)
    if info.file_size > most:
      raise ValueError(f'{info.file_size:,} bytes, more than the {most:,} that are read')
  try:
    with archive.open(info) as file:
      return file.read(info.file_size + 1)  # read() alone would unpack all there is at once
  except ZIP_DAMAGE as error:
    raise damaged(name, error) from error
