"""Tables kept in the user's cache, so that images are decoded, or drawn, once."""

import hashlib
import importlib.metadata
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import PIL

from metakit.data.saved import open_table, save_table
from metakit.data.table import ClassTable
from metakit.program_cache import cache_folder, processor

VERSION = 1  # of how tables are made; a change makes all anew
OPTIONS = ('jax_threefry_partitionable', 'jax_optimization_level')  # of what is drawn


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
  said = f'{place} is decoded at every start'
  return _kept(f'{kind}-{_state(place, files)}', make, said)


def kept_drawing(
  kind: str, code: Sequence[Path], arguments: Any, *, make: Callable[[], ClassTable]
) -> ClassTable:
  """Returns a table that a program draws, memory-mapped, from where it is kept; or draws it.

  It is drawn anew with another code, version or option of JAX, or on another kind of device. If
  nothing can be written, it is drawn at every start, which needs no warning.

  Args:
    kind: the start of the name of its folder.
    code: the files that draw it.
    arguments: what is drawn; equal ones have equal texts.
    make: draws it.
  """
  options = [getattr(jax.config, name) for name in OPTIONS]
  versions = VERSION, jax.__version__, importlib.metadata.version('jaxlib')
  device = jax.devices()[0].device_kind, processor(), os.environ.get('XLA_FLAGS', '')
  known = repr((arguments, options, versions, device)).encode()
  known += b''.join(file.read_bytes() for file in code)
  return _kept(f'{kind}-{_brief(hashlib.sha256(known))}', make)


def _kept(name: str, make: Callable[[], ClassTable], said: str = '') -> ClassTable:
  """Returns the table of a name, or makes and keeps it; warns if it cannot and `said` is given."""
  folder = cache_folder() / 'data' / name
  there = _opened(folder)
  if there is not None:
    return there
  table = make()
  try:
    if folder.is_dir():  # damaged
      shutil.rmtree(folder)
    save_table(table, folder)
  except OSError as error:
    there = _opened(folder)  # another process may have kept it in the meantime
    if there is None:
      reason = error.strerror or ' '.join(str(error).split())
      if said:
        warnings.warn(
          f'{folder}: {said}, since its table cannot be kept ({reason}); set XDG_CACHE_HOME to a '
          'folder that can be written',
          stacklevel=3,
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
  return _brief(digest)


def _brief(digest: Any) -> str:
  return str(digest.hexdigest())[:16]
