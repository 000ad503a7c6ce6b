"""When a training stops before its end: to save, every so many minutes, or to end."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from metakit.distributed import agreed, watch_preemption


class Interruptions(NamedTuple):
  """Reasons to stop between two dispatches, the same in all processes.

  Attributes:
    due: () -> whether to stop here, to save or to end; asked once a dispatch.
    preempted: () -> whether it was to end.
    saved: () -> None, notes that a checkpoint was made.
  """

  due: Callable[[], bool]
  preempted: Callable[[], bool]
  saved: Callable[[], None]


NEVER = Interruptions(lambda: False, lambda: False, lambda: None)


@contextlib.contextmanager
def interruptions(
  seconds: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[Interruptions]:
  """Watches for SIGTERM and the time while the block runs.

  Args:
    seconds: between checkpoints, by the first process's clock; 0 for none by time.
    clock: returns seconds; another one for tests.
  """
  number, ending, last = 0, False, clock()
  with watch_preemption() as told:

    def due() -> bool:
      nonlocal number, ending
      number += 1
      ending = ending or told(number)
      late = bool(seconds) and clock() - last >= seconds
      return ending or (bool(seconds) and agreed('save', number, late))

    def saved() -> None:
      nonlocal last
      last = clock()

    yield Interruptions(due, lambda: ending, saved)
