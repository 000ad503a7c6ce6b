"""Decoded tables, kept in the user's cache so that images are decoded once."""

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import PIL

from metakit.data.saved import open_table, save_table
from metakit.data.table import ClassTable
from metakit.program_cache import cache_folder

VERSION = 1  # of how tables are made; a change makes all anew


def kept_table(
  kind: str, place: Path, files: Sequence[Path], *, make: Callable[[], ClassTable]
) -> ClassTable:
  """Returns a table that is kept, memory-mapped, or makes and keeps it.

  It is made anew if a file has another name, size or time of change, or with another version of
  Pillow. It lies in `metakit/data` of the user's cache ($XDG_CACHE_HOME, or ~/.cache), and may be
  deleted at any time. If nothing can be written there, the table is not kept, and a warning says
  so.

  Args:
    kind: the start of the name of its folder.
    place: a folder above all files, or the only file.
    files: what the table is made of.
    make: makes it.
  """
  folder = cache_folder() / 'data' / f'{kind}-{_state(place, files)}'
  kept = _opened(folder)
  if kept is not None:
    return kept
  table = make()
  try:
    if folder.is_dir():  # damaged
      shutil.rmtree(folder)
    save_table(table, folder)
  except OSError as error:
    kept = _opened(folder)  # another process may have kept it in the meantime
    if kept is None:
      reason = error.strerror or ' '.join(str(error).split())
      warnings.warn(
        f'{folder}: {place} is decoded at every start, since its table cannot be kept ({reason}); '
        'set XDG_CACHE_HOME to a folder that can be written',
        stacklevel=2,
      )
      return table
  return open_table(folder)


def _opened(folder: Path) -> ClassTable | None:
  try:
    return open_table(folder)
  except (OSError, ValueError):
    return None


def _state(place: Path, files: Sequence[Path]) -> str:
  """Returns a checksum of the names, sizes and times of files."""
  digest = hashlib.sha256(f'{VERSION} {PIL.__version__}'.encode())
  above = len(str(place.parent))
  for file in map(str, files):
    known = os.stat(file)
    digest.update(f'\n{file[above:]} {known.st_size} {known.st_mtime_ns}'.encode())
  return digest.hexdigest()[:16]
