"""Ctrl-C ends a program with one line and the exit status that a shell expects."""

import contextlib
import os
import signal
import sys
from typing import Any, NoReturn

INTERRUPTED = 128 + signal.SIGINT


def end_interrupted(number: int = signal.SIGINT, frame: Any = None) -> NoReturn:
  """Ends the process at once. An exception would not do: the code that runs may swallow it."""
  del number, frame
  with contextlib.suppress(Exception):
    sys.stdout.flush()
  with contextlib.suppress(OSError):
    os.write(2, b'interrupted\n')
  os._exit(INTERRUPTED)


def handle_imports() -> None:
  """Makes Ctrl-C end a program of `python -m` with one line while its modules are imported.

  The imports take seconds, and the program can handle the signal only afterwards. In any other
  process that imports the package, nothing changes.
  """
  if sys.argv[:1] == ['-m'] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, end_interrupted)
