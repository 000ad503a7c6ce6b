"""Writes whole files or nothing. Errors name the file in one line."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from metakit.distributed import is_first


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes a text file as UTF-8, like `write_bytes`."""
  write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
  """Writes a whole file or nothing: first a temporary file beside it, which is then renamed.

  Missing folders are created. Of several processes, only the first one writes.

  Raises:
    OSError: if it cannot be written, in one line that names the file. An existing file is then
      unchanged.
  """
  if not is_first():
    return
  path = Path(path)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  with naming(path):
    _make_folder(path.parent)
    try:
      with open(temporary, 'wb') as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # without it a power cut may leave an empty file of the new name
      os.replace(temporary, path)
    except BaseException:
      with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
      raise


def check_writable(paths: Iterable[Path]) -> None:
  """Raises OSError, in one line that names the file, if one of the files could not be written."""
  for path in paths if is_first() else ():
    with naming(path):
      if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, 'it is a folder')
      _make_folder(path.parent)
      with tempfile.TemporaryFile(dir=path.parent):
        pass  # write_bytes needs such a file


def _make_folder(folder: Path) -> None:
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except FileExistsError:
    raise NotADirectoryError(errno.ENOTDIR, f'{folder} is not a folder') from None


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
  """Turns an OSError inside the block into one of the same kind that names the file in one line."""
  try:
    yield
  except OSError as error:
    reason = error.strerror or str(error)
    remedy = 'free some space or write elsewhere'
    raise OSError(error.errno, f'cannot write {path}: {reason}; {remedy}') from error


def with_ending(path: Path, ending: str) -> Path:
  """Returns a path with an ending added to its name. The name may have dots; with_suffix cuts them.

  >>> with_ending(Path('runs/of_1.5'), '.json').name
  'of_1.5.json'
  """
  return path.with_name(path.name + ending)
