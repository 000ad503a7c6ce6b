"""Runs the binaries as a user does: a command line, a process of its own, an exit status.

`run` and `start` fork a process that has done the imports, and compile without optimisation, as the
tests do (tests/experiments/forks.py); `run_whole` and `start_whole` start from nothing, as users.
"""

import atexit
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.budgets import SPENT, Cost
from tests.conftest import FAST

REPOSITORY = Path(__file__).parents[2]
# Two runs may write one entry of the cache at once; JAX then compiles as if there were none.
WARNINGS = ['-W', 'error', '-W', 'ignore:Error reading persistent compilation cache']
TINY = [
  '--network=conv4:width=4,depth=1',
  '--tasks_per_step=2',
  '--steps_per_dispatch=2',
  '--validation_episodes=4',
  '--episodes=12',
]


def whole_environment(**variables: str) -> dict[str, str]:
  """The variables of a process with one CPU device and the compiler that users have."""
  return os.environ | {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ''} | variables


def environment(**variables: str) -> dict[str, str]:
  """The same with the compiler that the tests have, usually without optimisation."""
  fast = all(flag in os.environ['XLA_FLAGS'] for flag in FAST)
  return whole_environment(XLA_FLAGS=' '.join(FAST) if fast else '', **variables)


def start_whole(module: str, *arguments: object, **variables: str) -> subprocess.Popen:
  """Starts python -m experiments.MODULE with one CPU device."""
  return subprocess.Popen(
    [sys.executable, *WARNINGS, '-m', f'experiments.{module}', *map(str, arguments)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=whole_environment(**variables),
    cwd=REPOSITORY,
  )


def run_whole(module: str, *arguments: object, **variables: str) -> tuple[int, str, str]:
  """Starts and finishes."""
  return finish(start_whole(module, *arguments, **variables))


@functools.cache
def forks() -> subprocess.Popen:
  """The process that is forked, one for each process that runs tests."""
  process = subprocess.Popen(
    [sys.executable, *WARNINGS, '-m', 'tests.experiments.forks'],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    env=whole_environment(),
    cwd=REPOSITORY,
  )
  atexit.register(process.communicate)  # closes its input, at which it ends
  return process


def ask(**request) -> object:
  """Sends a request to `forks`; returns its answer."""
  process = forks()
  print(json.dumps(request), file=process.stdin, flush=True)
  return json.loads(process.stdout.readline())


class Forked:
  """A command line in a fork, with those methods of a Popen that tests use."""

  def __init__(self, module: str, arguments: Sequence[object], variables: dict[str, str]):
    folder = tempfile.mkdtemp(prefix='forked')
    self.files = [f'{folder}/{name}' for name in ('out', 'error')]
    self.returncode: int | None = None
    self.texts = '', ''
    out, error = self.files
    arguments = [str(each) for each in arguments]
    self.pid = ask(module=module, arguments=arguments, variables=variables, out=out, error=error)

  def poll(self, block: bool = False) -> int | None:
    """Returns the exit status, or None before the end; keeps what was written."""
    if self.returncode is None and (end := ask(wait=self.pid, block=block)):
      self.returncode = end['status']
      SPENT.elsewhere += Cost(end['programs'], end['seconds'])
      out, error = (Path(file).read_text() for file in self.files)
      self.texts = out, error
      shutil.rmtree(Path(self.files[0]).parent)
    return self.returncode

  def wait(self) -> int | None:
    return self.poll(block=True)

  def communicate(self, timeout: float | None = None) -> tuple[str, str]:
    """Waits; forks.py has a time limit of its own."""
    self.wait()
    return self.texts

  def send_signal(self, number: int):
    if self.poll() is None:
      os.kill(self.pid, number)

  def terminate(self):
    self.send_signal(signal.SIGTERM)

  def kill(self):
    self.send_signal(signal.SIGKILL)


def start(module: str, *arguments: object, **variables: str) -> Forked:
  """Starts python -m experiments.MODULE with one CPU device, its imports done before."""
  return Forked(module, arguments, environment(**variables))


def finish(process, timeout: float = 300) -> tuple[int, str, str]:
  """Waits; returns the exit status, stdout and stderr."""
  try:
    out, error = process.communicate(timeout=timeout)
  finally:
    process.kill()
  return process.returncode, out, error


def run(module: str, *arguments: object, **variables: str) -> tuple[int, str, str]:
  """Starts and finishes."""
  return finish(start(module, *arguments, **variables))


def done(module: str, *arguments: object, **variables: str) -> str:
  """Runs a command that has to end well; returns what it printed."""
  status, out, error = run(module, *arguments, **variables)
  assert status == 0, error
  return out


def refused(ended: tuple[int, str, str]) -> str:
  """Returns the one line that a command said when it was refused; it printed nothing else."""
  status, out, error = ended
  assert (status, out, len(error.strip().splitlines())) == (1, '', 1), error
  return error


def run_all(commands: Sequence[Sequence[str]]) -> list[tuple[int, str, str]]:
  """Runs python -m experiments.MODULE for each [MODULE, argument, ...]."""
  return [run(*command) for command in commands]


def images_file(folder: Path, **changed: np.ndarray) -> Path:
  """Writes an .npz of 20 classes of 6 noisy 8x8 images, or with the given arrays instead."""
  random = np.random.default_rng(0)
  patterns = np.repeat(random.integers(0, 200, (20, 8, 8, 1)), 6, axis=0)
  x = (patterns + random.integers(0, 55, patterns.shape)).astype(np.uint8)
  path = folder / 'images.npz'
  np.savez(path, **({'x': x, 'y': np.repeat(np.arange(20), 6)} | changed))
  return path


def task(path: Path, ways: int = 3) -> str:
  """The task spec of an images_file."""
  return f'--task=arrays:path={path},ways={ways},shots=1,queries=2'
