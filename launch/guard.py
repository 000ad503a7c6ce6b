"""Ends the programs of a process that has died. `launch.children` starts this as a script.

It reads lines from stdin: +number when a group begins, and -number when one ends. When stdin
closes, the process at the other side of the pipe has ended, for whatever reason.
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
  """Asks process groups to end, and kills those that have not ended after `grace` seconds.

  Args:
    groups: the numbers of the groups.
    grace: seconds between the two.
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
  except OSError:  # it is there, and belongs to another user
    return True
  # An ended process stays a member of its group until somebody waits for it. In some containers
  # init does not do that.
  states = list(_states(group))
  return not states or any(state not in 'ZX' for state in states)


def _states(group: int) -> Iterator[str]:
  """Yields the states of the processes of a group (see proc(5)); none where there is no /proc."""
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
