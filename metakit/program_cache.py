"""What is kept from one run to the next: compiled programs, and the folder for all else."""

import contextlib
import hashlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import jax


def keep_programs(environment: Mapping[str, str] = os.environ) -> None:
  """Keeps compiled programs in the user's cache, so that the next run starts sooner.

  - Small programs are kept too. JAX leaves them out, but a run has two hundred of them, which take
    7 s to compile.
  - If a variable or an option of JAX names a folder, that is used.
  - If the folder cannot be written, nothing is kept.
  - Each kind of processor has a folder of its own. A program of another processor would be loaded,
    and may end in an illegal instruction.

  Args:
    environment: the variables of the process.
  """
  chosen = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
  if chosen or 'JAX_COMPILATION_CACHE_DIR' in environment:
    return
  folder = cache_folder(environment) / f'jax-{processor()}'
  with contextlib.suppress(OSError):
    folder.mkdir(parents=True, exist_ok=True)
    if os.access(folder, os.W_OK):
      jax.config.update('jax_compilation_cache_dir', str(folder))
      if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in environment:
        jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
  """Returns metakit's folder in the user's cache, which need not exist.

  >>> cache_folder({'XDG_CACHE_HOME': '/scratch'}).as_posix()
  '/scratch/metakit'
  """
  home = environment.get('XDG_CACHE_HOME') or Path(environment.get('HOME', '')) / '.cache'
  return Path(home).absolute() / 'metakit'


def processor() -> str:
  """Returns a name for the kind of this machine's processor.

  >>> len(processor())
  12
  """
  known = platform.machine() + platform.processor()
  with contextlib.suppress(OSError):
    lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    known += next((line for line in lines if line.startswith(('flags', 'Features'))), '')
  return hashlib.sha256(known.encode()).hexdigest()[:12]
