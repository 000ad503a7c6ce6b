"""A lock on files that only one process may write, such as the folder of a training."""

import os
import socket
import warnings
from collections.abc import Callable
from pathlib import Path

from metakit.distributed import is_first
from metakit.files import naming

NAME = '.metakit.lock'  # of the file that locks a workdir


def lock_file(path: Path) -> None:
  """Locks a file of results, and those of the same name, until this process ends (see `lock`)."""
  lock(path.with_name(f'.{path.stem}{NAME}'))


def lock(path: Path) -> Callable[[], None]:
  """Locks a file, made if it does not exist, for as long as this process lives.

  It is a lock of the operating system (flock(2)), which any kind of kill releases. The file stays:
  it names the process that had the lock last. The lock holds between the processes of one machine.
  On NFS it holds between machines too, if the mount has locks. If a file system has no locks, there
  is a warning. Children of this process do not have the lock. Of the processes of one run, only the
  first one takes it.

  Args:
    path: the file; its folder is created too.

  Returns:
    () -> None, which releases it before the end.

  Raises:
    ValueError: if another process has the lock, in one line that names the process.
    OSError: if the file cannot be written.
  """
  if not is_first():
    return lambda: None
  with naming(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), 'r+b', buffering=0)
  try:
    import fcntl  # not on every system

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    holder = file.read(200).decode(errors='replace').strip() or 'another process'
    file.close()
    raise ValueError(
      f'{path.parent} is in use by {holder}; wait until it ends, or use another folder'
    ) from None
  except (ImportError, OSError) as error:
    file.close()
    warnings.warn(
      f'{path} cannot be locked ({error}); see to it that no second process writes to its folder',
      stacklevel=2,
    )
    return file.close
  os.register_at_fork(after_in_child=file.close)  # which also keeps the file open, and so the lock
  with naming(path):
    file.truncate()
    file.write(f'process {os.getpid()} on {socket.gethostname()}\n'.encode())
  return file.close
