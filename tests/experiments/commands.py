"""Runs the binaries as a user does: a process of its own, a command line, an exit status."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).parents[2]
# The runs of these tests compile the same programs, which takes longer than running them.
CACHE = {
  'JAX_COMPILATION_CACHE_DIR': str(REPOSITORY / '.pytest_cache' / 'jax'),
  'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '0',
  'TF_CPP_MIN_LOG_LEVEL': '3',  # jaxlib 0.10.0 complains when it reads a program of its own
}
# Two runs may write one entry at once; JAX then compiles as if there were none.
WARNINGS = ['-W', 'error', '-W', 'ignore:Error reading persistent compilation cache']
TINY = [
  '--network=conv4:width=4,depth=2',
  '--tasks_per_step=2',
  '--steps_per_dispatch=2',
  '--validation_episodes=4',
  '--episodes=12',
]


ENVIRONMENT = {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ''} | CACHE


def start(module: str, *arguments: object, **environment: str) -> subprocess.Popen:
  """Starts python -m experiments.MODULE with one CPU device."""
  variables = os.environ | ENVIRONMENT | environment
  return subprocess.Popen(
    [sys.executable, *WARNINGS, '-m', f'experiments.{module}', *map(str, arguments)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=variables,
    cwd=REPOSITORY,
  )


def finish(process: subprocess.Popen, timeout: float = 300) -> tuple[int, str, str]:
  """Waits; returns the exit status, stdout and stderr."""
  try:
    out, error = process.communicate(timeout=timeout)
  finally:
    process.kill()
  return process.returncode, out, error


def run(module: str, *arguments: object, **environment: str) -> tuple[int, str, str]:
  """Starts and finishes."""
  return finish(start(module, *arguments, **environment))


def run_forked(
  commands: Sequence[Sequence[str]], folder: Path, **environment: str
) -> list[tuple[int, str, str]]:
  """Runs python -m experiments.MODULE for each [MODULE, argument, ...], its imports done once."""
  out, error = (str(folder / name) for name in ('stdout', 'stderr'))
  forks = subprocess.Popen(
    [sys.executable, *WARNINGS, '-m', 'tests.experiments.forks'],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    env=os.environ | ENVIRONMENT | environment,
    cwd=REPOSITORY,
  )
  results = []
  with forks:
    for module, *arguments in commands:
      print(json.dumps([module, arguments, out, error]), file=forks.stdin, flush=True)
      status = int(forks.stdout.readline())
      results.append((status, Path(out).read_text(), Path(error).read_text()))
  return results


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
