"""Ends the process groups of a process that has died; `launch.children` starts it, as a script.

It is told on stdin, a line each, of groups that began (+number) and ended (-number). The end of
stdin is the end of the process at the other side of the pipe, whatever ended it.
"""

import contextlib
import glob
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence

POLL = 0.05


def end_groups(groups: Sequence[int], grace: float, left: Callable[[int], bool]) -> None:
  """Asks process groups to end, and kills what has not after `grace` seconds.

  Args:
    groups: their numbers.
    grace: seconds.
    left: tells whether a group is still there.
  """
  for group in groups:
    with contextlib.suppress(OSError):
      os.killpg(group, signal.SIGTERM)
  until = time.monotonic() + grace
  while time.monotonic() < until and any(map(left, groups)):
    time.sleep(POLL)
  for group in groups:
    with contextlib.suppress(OSError):
      os.killpg(group, signal.SIGKILL)


def is_there(group: int) -> bool:
  """Tells whether a process group has a process that has not ended."""
  try:
    os.killpg(group, 0)
  except ProcessLookupError:
    return False
  except OSError:  # it is there, and another user's
    return True
  # What has ended stays a member until it is waited for, which init does not do in all containers.
  states = list(_states(group))
  return not states or any(state not in 'ZX' for state in states)


def _states(group: int) -> Iterator[str]:
  """Yields the states of a group's processes, as proc(5) has them; nothing where it is not."""
  for path in glob.glob('/proc/[0-9]*/stat'):
    with contextlib.suppress(OSError), open(path, encoding='utf-8', errors='replace') as stat:
      state, _, its_group = stat.read().rpartition(')')[2].split()[:3]
      if int(its_group) == group:
        yield state


if __name__ == '__main__':
  running: list[int] = []
  for line in sys.stdin:
    (running.append if line[0] == '+' else running.remove)(int(line[1:]))
  end_groups(running, float(sys.argv[1]), is_there)
