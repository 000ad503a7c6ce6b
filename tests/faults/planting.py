"""Runs tests on copies of a checkout, with a fault or without, in forks of one process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from compileall import compile_dir
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.faults.fault import Fault, in_checkout

SECONDS = 600  # of one run; then it counts as hanging
OWN = 'metakit', 'experiments', 'launch', 'tests'  # packages of a checkout
# What takes long to import, once for all forks; none of them asks JAX for a device.
SLOW = 'jax', 'optax', 'flax.linen', 'flax.nnx', 'orbax.checkpoint', 'scipy.optimize', 'pytest'
OPTIONS = (
  *('-n0', '-x', '-q', '--tb=short', '--show-capture=no'),
  *('-W', 'ignore:Error (reading|writing) persistent compilation cache'),  # two may write at once
)
MARKS = {'quick': 'not slow', 'slow': 'slow', 'optimised': 'compiler'}  # see .ci/run


class Run(NamedTuple):
  """Some tests (ids below tests/) of a tier, with a fault or None."""

  fault: Fault | None
  tests: tuple[str, ...]
  tier: str


class Outcome(NamedTuple):
  """What became of a run.

  Attributes:
    test: the first that failed, or ''.
    passed: whether some ran and all passed.
    seconds: it took.
    said: by pytest.
  """

  test: str
  passed: bool
  seconds: float
  said: str

  def right(self, run: Run) -> bool:
    """Tells whether a fault was caught, or nothing failed where there is none."""
    return bool(self.test) if run.fault else self.passed


def copies(checkout: Path, folder: Path, number: int) -> list[Path]:
  """Copies the files of a checkout that git does not ignore, so many times.

  All copies share a cache of compiled programs, which stays in the checkout.
  """
  command = ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard']
  listed = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout
  first = folder / '0'
  for name in filter(None, listed.split('\0')):
    if (checkout / name).exists():
      (first / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy2(checkout / name, first / name)
  compile_dir(first, quiet=1)
  cache = checkout / '.pytest_cache' / 'faults'
  cache.mkdir(parents=True, exist_ok=True)
  (first / '.pytest_cache').symlink_to(cache)
  others = [folder / str(i) for i in range(1, number)]
  return [first, *(shutil.copytree(first, each, symlinks=True) for each in others)]


def run_all(runs: Sequence[Run], trees: Sequence[Path]) -> Iterator[tuple[Run, Outcome]]:
  """Yields the outcomes of runs as they end, as many at once as there are trees."""
  for name in SLOW:
    __import__(name)
  waiting, free, running = list(runs), list(trees), {}
  while waiting or running:
    while waiting and free:
      run, tree = waiting.pop(0), free.pop()
      before = plant(tree, run.fault) if run.fault else ''
      running[begin(run, tree)] = run, tree, before, time.monotonic()
    pid, _ = os.wait()
    run, tree, before, begun = running.pop(pid)
    with suppress(OSError):
      os.killpg(pid, signal.SIGKILL)  # what its tests have started and not ended
    if run.fault:
      (tree / run.fault.file).write_text(before, encoding='utf-8')
    free.append(tree)
    yield run, outcome(tree, time.monotonic() - begun)


def plant(tree: Path, fault: Fault) -> str:
  """Changes the file of a fault; returns what it held before.

  Raises:
    ValueError: unless the file holds what is to be changed once.
  """
  path = tree / fault.file
  before = path.read_text(encoding='utf-8')
  if before.count(fault.old) != 1:
    raise ValueError(f'{fault.file} holds {before.count(fault.old)} times {fault.old!r}')
  for compiled in path.parent.glob(f'__pycache__/{path.stem}.*.pyc'):
    compiled.unlink()
  path.write_text(before.replace(fault.old, fault.new), encoding='utf-8')
  return before


def begin(run: Run, tree: Path) -> int:
  """Forks the process of the tests of a run; returns its number."""
  log(tree).unlink(missing_ok=True)
  with warnings.catch_warnings():
    warnings.filterwarnings('ignore', '.*fork')  # JAX has no device yet, and so no threads
    pid = os.fork()
  if pid:
    return pid
  try:
    os.setsid()
    signal.alarm(SECONDS)
    run_tests(run, tree)
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stderr.flush()
    os._exit(0)


def log(tree: Path) -> Path:
  """Returns the file of what was said by the tests of a tree."""
  return tree.with_suffix('.txt')


class Results:
  """A plugin of pytest that notes what failed first, and what passed."""

  def __init__(self):
    self.failed, self.passed = '', 0

  def pytest_runtest_logreport(self, report):
    self.failed = self.failed or (report.nodeid if report.failed else '')
    self.passed += report.passed and report.when == 'call'

  def pytest_collectreport(self, report):
    if report.failed:
      self.failed = self.failed or f'{report.nodeid} (collection)'


def run_tests(run: Run, tree: Path) -> None:
  """Runs tests in this process and writes what came out beside the tree."""
  import pytest

  out = os.open(log(tree), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
  for number in (1, 2):
    os.dup2(out, number)
  enter(tree, run.tier)
  results = Results()
  pytest.main([*OPTIONS, '-m', MARKS[run.tier], *map(in_checkout, run.tests)], [results])
  metakit = sys.modules.get('metakit')
  if metakit and not metakit.__file__.startswith(str(tree)):
    raise ImportError(f'{metakit.__file__} was tested in place of {tree}')
  found = {'test': results.failed, 'passed': results.passed > 0 and not results.failed}
  tree.with_suffix('.json').write_text(json.dumps(found))


def enter(tree: Path, tier: str) -> None:
  """Makes this process one that has started in a tree."""
  checkout = os.getcwd()
  for name in [name for name in sys.modules if name.partition('.')[0] in OWN]:
    del sys.modules[name]
  sys.path[:] = [str(tree), *(path for path in sys.path if path not in ('', checkout))]
  sys.dont_write_bytecode = True
  os.environ |= {'PYTHONPATH': str(tree), 'PYTHONDONTWRITEBYTECODE': '1'}
  os.environ.setdefault('METAKIT_DATA', str(Path(checkout).parent / 'shared' / 'data'))
  if tier == 'optimised':
    os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=8'
  os.chdir(tree)


def outcome(tree: Path, seconds: float) -> Outcome:
  """Reads what a run has left."""
  said = log(tree).read_text(encoding='utf-8', errors='replace') if log(tree).exists() else ''
  path = tree.with_suffix('.json')
  found = json.loads(path.read_text()) if path.exists() else {'test': '', 'passed': False}
  path.unlink(missing_ok=True)
  return Outcome(found['test'], found['passed'], seconds, said)
