"""Finding the files of data sets, and errors that name the file and the remedy."""

import contextlib
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from zipfile import BadZipFile, ZipFile

PathLike = str | os.PathLike[str]


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
    raise FileNotFoundError(f'{name}: no data folder given; set --data_dir or METAKIT_DATA')
  folder = Path(root).expanduser()
  if not folder.is_dir():
    raise FileNotFoundError(f'{name}: there is no folder {folder}; set --data_dir or METAKIT_DATA')
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
    f'set --data_dir or METAKIT_DATA to its folder{source}'
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
  """Puts the name of a file or data set in front of the ValueErrors of the block."""
  try:
    yield
  except ValueError as error:
    raise ValueError(f'{file}: {error}') from error


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
  """Raises ValueError if an argument is none of its choices."""
  if value not in choices:
    raise ValueError(f'{name}={value!r} is unknown; use one of {", ".join(choices)}')


def open_zip(path: Path) -> ZipFile:
  """Opens a zip file; ValueError if it is none."""
  try:
    return ZipFile(path)
  except BadZipFile as error:
    raise damaged(path, f'no zip file, or truncated ({path.stat().st_size} bytes)') from error


def read_member(archive: ZipFile, member: str) -> bytes:
  """Reads one file of a zip file; ValueError names both if it is damaged."""
  try:
    return archive.read(member)
  # RuntimeError and its subclass NotImplementedError: encrypted, or an unknown compression.
  except (BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
    raise damaged(f'{archive.filename}: {member}', error) from error
