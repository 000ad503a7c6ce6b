"""What a binary does to its process before it starts: memory, errors, exit codes."""

import contextlib
import ctypes
import sys
from collections.abc import Callable, Iterator
from typing import Any

from absl import app, flags, logging

from experiments.flags import component_help

# Parameters of glibc's mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
  """Makes glibc keep the memory that XLA frees, where there is glibc; otherwise does nothing.

  XLA on a CPU allocates the temporaries of each call anew. Large ones are mapped, zeroed page by
  page and unmapped every time: a conv4 training step on 360 images takes a tenth less without it.
  One arena for all threads would take another sixth off that step, but add a fourth to those of
  second-order MAML, whose many small products each ask for memory.
  """
  with contextlib.suppress(OSError, AttributeError):
    libc = ctypes.CDLL('libc.so.6')
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


# What a user can mend: wrong flags or data, a missing or full disk, a missing optional package.
BAD_INPUT = (ValueError, OSError, ImportError)


@contextlib.contextmanager
def one_line_errors(*kinds: type[Exception]) -> Iterator[None]:
  """Turns the given errors into one line on stderr and exit status 1."""
  try:
    yield
  except kinds as error:
    logging.debug('stopped by', exc_info=True)  # --verbosity=1 shows where
    print(f'error: {" ".join(str(error).split())}', file=sys.stderr)
    sys.exit(1)


def run(main: Callable[[], Any], doc: str) -> None:
  """Runs a binary: parses flags, shows every component in --help, returns exit status 0 or not."""

  def wrapped(arguments: list[str]) -> None:
    if len(arguments) > 1:
      stray = arguments[1]
      print(f'error: unexpected argument {stray!r}; flags are --name=value', file=sys.stderr)
      sys.exit(1)
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.FATAL)  # Orbax narrates every save, and what it raises too
    keep_freed_memory()
    main()

  sys.modules['__main__'].__doc__ = doc + component_help() if wants_help() else doc
  app.run(wrapped, flags_parser=_parse)


def wants_help() -> bool:
  """Says whether the command line asks for help, whose text takes a while to make."""
  return any(a.lstrip('-').startswith('help') for a in sys.argv[1:])


def _parse(arguments: list[str]) -> list[str]:
  """Parses flags; absl's own handler prints the whole usage text after an error."""
  try:
    return flags.FLAGS(arguments)
  except flags.Error as error:
    print(f'error: {" ".join(str(error).split())}; see --help', file=sys.stderr)
    sys.exit(1)
