"""Tells a training when to save by the clock, and when to end early."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from metakit.distributed import agreed, watch_preemption


class Interruptions(NamedTuple):
  """Reasons to stop between two dispatches, the same in all processes.

  Attributes:
    due: () -> whether to stop here, in order to save or to end. Call it once a dispatch.
    preempted: () -> whether the training has been told to end.
    saved: () -> None. Call it when a checkpoint was made.
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
    seconds: seconds between checkpoints, by the clock of the first process; 0 for no such ones.
    clock: returns seconds; tests replace it.
  """
  number, ending, last = 0, False, clock()
  with watch_preemption() as told_to_end:

    def due() -> bool:
      nonlocal number, ending
      number += 1
      ending = ending or told_to_end(number)
      late = bool(seconds) and clock() - last >= seconds
      return ending or (bool(seconds) and agreed('save', number, late))

    def saved() -> None:
      nonlocal last
      last = clock()

    yield Interruptions(due, lambda: ending, saved)
