"""Starts programs that do not outlive this process, however it ends.

Each program runs in a process group of its own. SIGTERM, SIGHUP (a closed terminal) and SIGINT
(Ctrl-C) are passed on as SIGTERM, and a training answers that by saving. No process can answer
SIGKILL. So a second process, `launch.guard`, waits until a pipe closes, and then ends the programs
that are left.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from launch import guard

PREEMPTED = 75  # exit status of a run that the same command continues: EX_TEMPFAIL of sysexits.h
GRACE = 30.0  # seconds to save and end, before a process is killed
ENDING = signal.SIGTERM, signal.SIGHUP, signal.SIGINT


class Children(NamedTuple):
  """The programs of a block.

  Attributes:
    start: (argv, **options of subprocess.Popen) -> the process, in a group of its own.
    signals: numbers of the signals that this process got and passed on.
    forget: () -> None. Call it soon after a program has ended, since the system gives its process
      number to another program later.
  """

  start: Callable[..., subprocess.Popen]
  signals: list[int]
  forget: Callable[[], None]


@contextlib.contextmanager
def children(grace: float = GRACE) -> Iterator[Children]:
  """Yields a value that starts programs. At the end of the block it ends them and all they started.

  Args:
    grace: seconds from SIGTERM to SIGKILL, at the end of the block.
  """
  running: dict[int, subprocess.Popen] = {}
  signals: list[int] = []
  there = lambda group: running[group].poll() is None or guard.is_there(group)

  with _guard(grace) as tell:

    def start(argv: Sequence[str], **options: Any) -> subprocess.Popen:
      forget()
      process = subprocess.Popen(argv, start_new_session=True, **options)
      running[process.pid] = process
      tell(f'+{process.pid}')
      if signals:  # a signal came while the program was started
        ask_to_end(process.pid)
      return process

    def forget() -> None:
      for group in [group for group in running if not there(group)]:
        tell(f'-{group}')
        del running[group]

    def ask_to_end(group: int) -> None:
      with contextlib.suppress(OSError):
        if there(group):
          os.killpg(group, signal.SIGTERM)

    def pass_on(number: int, frame: Any) -> None:
      del frame
      signals.append(number)
      for group in list(running):
        ask_to_end(group)

    with _handled(pass_on):
      try:
        yield Children(start, signals, forget)
      finally:
        forget()
        guard.end_groups(list(running), grace, there)
        for group, process in running.items():
          process.wait()
          tell(f'-{group}')


@contextlib.contextmanager
def _guard(grace: float) -> Iterator[Callable[[str], None]]:
  """Runs the guard of this process; yields a function that sends it a line."""
  script = [sys.executable, '-ES', os.path.abspath(guard.__file__), str(grace)]
  # The guard has no terminal, and holds no pipe of this process open. Otherwise whoever reads such
  # a pipe would wait until the guard ends.
  process = subprocess.Popen(
    script,
    stdin=subprocess.PIPE,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
    bufsize=0,
    cwd='/',
    start_new_session=True,
  )
  pipe = process.stdin
  assert pipe is not None

  def tell(line: str) -> None:
    with contextlib.suppress(OSError):  # the guard was killed
      pipe.write(f'{line}\n'.encode())

  try:
    yield tell
  finally:
    pipe.close()
    process.wait()


@contextlib.contextmanager
def _handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
  """Handles the signals that end a process, except those that it ignores (nohup, background)."""
  numbers = [number for number in ENDING if signal.getsignal(number) not in (signal.SIG_IGN, None)]
  before = {number: signal.signal(number, handler) for number in numbers}
  try:
    yield
  finally:
    for number, earlier in before.items():
      signal.signal(number, earlier)


def run_child(argv: Sequence[str], grace: float = GRACE) -> int:
  """Runs a program to its end.

  Returns:
    Its exit status; PREEMPTED if this process was told to end meanwhile.
  """
  with children(grace) as programs:
    status = programs.start(argv).wait()
  return PREEMPTED if programs.signals else status
