"""What Ctrl-C does: one line, and the exit status that a shell expects."""

import contextlib
import os
import signal
import sys
from typing import Any, NoReturn

INTERRUPTED = 128 + signal.SIGINT


def end_interrupted(number: int = signal.SIGINT, frame: Any = None) -> NoReturn:
  """Ends the process, now: an exception may be swallowed where a signal strikes."""
  del number, frame
  with contextlib.suppress(Exception):
    sys.stdout.flush()
  with contextlib.suppress(OSError):
    os.write(2, b'interrupted\n')
  os._exit(INTERRUPTED)


def handle_imports() -> None:
  """Lets Ctrl-C be answered in one line while a program of `python -m` is imported.

  That takes seconds, and the program can handle the signal only afterwards. Whoever imports a
  module of its package otherwise keeps the signal.
  """
  if sys.argv[:1] == ['-m'] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, end_interrupted)
