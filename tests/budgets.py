"""What the quick tests of each file may cost: programs compiled and seconds of the processor.

`budgets.txt` has a line for each file of tests: programs and seconds measured, from a cold start on
the machine that wrote it. A run fails, naming the file, where one takes many more programs or
several times the seconds, or has no line. `pytest --write-budgets [FILE ...]` measures the files
that it runs and writes their lines. Costs of processes that tests start count for their file.

`budgets_slow.txt` has the same of the slow tests; `pytest -m 'slow and not compiler'
--write-budgets` writes it. It is for their order alone: what takes long has to begin early, or one
worker waits for the other.
"""

import collections
import contextlib
import ctypes
import gc
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import pytest
from xdist.scheduler import LoadGroupScheduling

TABLE, SLOW = (Path(__file__).with_name(name) for name in ('budgets.txt', 'budgets_slow.txt'))
COMPILES = '/jax/core/compile/backend_compile_duration'
# Which programs a file finds compiled depends on the files before it in its process: one that runs
# alone, or beside three other workers, compiles the small programs that all files share itself.
MORE_PROGRAMS, SOME_PROGRAMS = 1.25, 100
# Another machine is slower, and this one busy; it is the programs that tell.
MORE_SECONDS, SOME_SECONDS = 4, 10

# A worker drops its programs between two groups above the first, in the middle of one above the
# second. Each program also takes about six of the 65,530 memory maps that Linux gives a process,
# and XLA crashes when there are no more.
MUCH_MEMORY, TOO_MUCH_MEMORY, TOO_MANY_MAPS = 1.2e9, 1.5e9, 40_000
LOOK_EVERY = 20


class Cost(NamedTuple):
  """Programs compiled (or read from the cache) and processor seconds."""

  programs: int
  seconds: float

  def __add__(self, other):
    return Cost(self.programs + other.programs, self.seconds + other.seconds)

  def __sub__(self, other):
    return Cost(self.programs - other.programs, self.seconds - other.seconds)


def read(text: str) -> dict[str, Cost]:
  """Reads lines 'file programs seconds'."""
  rows = (line.split() for line in text.splitlines() if line and not line.startswith('#'))
  return {name: Cost(int(programs), float(seconds)) for name, programs, seconds in rows}


def written(costs: Mapping[str, Cost]) -> str:
  """The text that `read` reads, with the sum of all."""
  total = sum(costs.values(), Cost(0, 0))
  lines = [f'# In all {total.programs} programs, {total.seconds:.0f} seconds; tests/budgets.py.']
  width = max(map(len, costs), default=0)
  for name, cost in sorted(costs.items()):
    lines.append(f'{name:{width}} {cost.programs:5} {cost.seconds:6.1f}')
  return '\n'.join(lines) + '\n'


def excesses(costs: Mapping[str, Cost], budgets: Mapping[str, Cost]) -> list[str]:
  """Says which files cost more than their budget."""
  lines = []
  for name, cost in sorted(costs.items()):
    if name not in budgets:
      # pytest knows the option from tests/, which has to be among its arguments.
      given = name if name.startswith('tests/') else f'tests/test_budgets.py {name}'
      lines.append(f'{name} has no line in {TABLE.name}: pytest --write-budgets {given}')
      continue
    budget = budgets[name]
    if cost.programs > MORE_PROGRAMS * budget.programs + SOME_PROGRAMS:
      lines.append(f'{name} compiled {cost.programs} programs, budget {budget.programs}')
    if cost.seconds > MORE_SECONDS * budget.seconds + SOME_SECONDS:
      lines.append(f'{name} took {cost.seconds:.0f} s of processor, budget {budget.seconds:.0f}')
  return lines


def kept(costs: Mapping[str, Cost]) -> dict[str, Cost]:
  """Without the files that are no more."""
  return {name: cost for name, cost in costs.items() if (TABLE.parents[1] / name).exists()}


def added(parts: Iterable[Mapping[str, tuple]]) -> dict[str, Cost]:
  """The costs of each file in all workers."""
  total: dict[str, Cost] = {}
  for costs in parts:
    for name, cost in costs.items():
      total[name] = total.get(name, Cost(0, 0)) + Cost(*cost)
  return total


def group_of(item: pytest.Item) -> str:
  """What runs in one process one after the other: a file, or what is marked xdist_group."""
  marks = [str(mark.args[0]) for mark in item.iter_markers('xdist_group')]
  return '_'.join(sorted(marks)) or file_of(item)


def file_of(item: pytest.Item) -> str:
  """The file of a test, from the root."""
  return item.nodeid.partition('::')[0]


def in_order(items: Iterable[pytest.Item], budgets: Mapping[str, Cost]) -> list[pytest.Item]:
  """Groups as wholes, the most expensive first, so that the last to end is a small one."""
  groups = collections.defaultdict(list)
  for item in items:
    groups[group_of(item)].append(item)
  sizes = collections.Counter(file_of(item) for group in groups.values() for item in group)

  def seconds(group):
    share = lambda item: budgets.get(file_of(item), Cost(0, 1e3)).seconds / sizes[file_of(item)]
    return -sum(map(share, group))

  return [item for group in sorted(groups.values(), key=seconds) for item in group]


class ByGroup(LoadGroupScheduling):
  """Groups over workers; a test without a group goes with its file."""

  def _split_scope(self, nodeid: str) -> str:
    scope = super()._split_scope(nodeid)
    return nodeid.partition('::')[0] if scope == nodeid else scope


class Spent:
  """What this process and those that it started have cost until now."""

  def __init__(self):
    self.programs, self.elsewhere = 0, Cost(0, 0)
    jax.monitoring.register_event_duration_secs_listener(self.listen)

  def listen(self, event: str, *_, **__):
    self.programs += event == COMPILES

  def now(self) -> Cost:
    return Cost(self.programs, sum(os.times()[:4])) + self.elsewhere


class Room:
  """Drops compiled programs before they take too much memory."""

  def __init__(self):
    self.tests, self.peak, self.least = 0, 0.0, 0.0

  def look(self, between_groups: bool):
    """Before each test."""
    self.tests += 1
    self.peak = max(self.peak, resident())
    # What stays when programs are dropped is of no use to drop them for again.
    allowed = max(MUCH_MEMORY if between_groups else TOO_MUCH_MEMORY, self.least + 150e6)
    if resident() > allowed:
      give_back_memory()  # compiling frees much that the process keeps
    many_maps = self.tests % LOOK_EVERY == 0 and memory_maps() > TOO_MANY_MAPS
    if many_maps or resident() > allowed:
      jax.clear_caches()
      gc.collect()
      give_back_memory()
      self.least = resident()


def give_back_memory():
  """Gives the memory that was freed back to Linux, which the C library alone does late."""
  with contextlib.suppress(AttributeError, OSError):
    ctypes.CDLL(None).malloc_trim(0)


def resident() -> float:
  """Bytes of memory that this process has; 0 where Linux does not say."""
  try:
    pages = Path('/proc/self/statm').read_text().split()[1]
  except OSError:
    return 0.0
  return int(pages) * os.sysconf('SC_PAGE_SIZE')


def memory_maps() -> int:
  try:
    return Path('/proc/self/maps').read_bytes().count(b'\n')
  except OSError:
    return 0


SPENT = Spent()


class Budgets:
  """Counts in the process that runs tests, judges in the one that reports."""

  def __init__(self, config: pytest.Config):
    self.config, self.room = config, Room()
    self.costs: dict[str, Cost] = {}
    self.workers: list[dict] = []
    self.excesses: list[str] = []
    self.group = ''
    self.before = Cost(0, 0)

  @property
  def table(self) -> Path:
    return SLOW if self.config.option.markexpr.startswith('slow') else TABLE

  @property
  def budgets(self) -> dict[str, Cost]:
    return read(self.table.read_text()) if self.table.exists() else {}

  @pytest.hookimpl(trylast=True)
  def pytest_collection_modifyitems(self, items):
    items[:] = in_order(items, self.budgets)

  def pytest_collection_finish(self):
    # Tracing makes many objects and few circles: looking for these took 6% of all seconds.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)

  @pytest.hookimpl(wrapper=True, tryfirst=True)
  def pytest_runtest_protocol(self, item):
    group, file = group_of(item), file_of(item)
    self.room.look(group != self.group)
    self.group, before = group, SPENT.now()
    try:
      return (yield)
    finally:
      self.costs[file] = self.costs.get(file, Cost(0, 0)) + (SPENT.now() - before)

  def pytest_xdist_make_scheduler(self, config, log):
    return ByGroup(config, log) if config.getoption('dist') == 'loadgroup' else None

  @pytest.hookimpl(optionalhook=True)
  def pytest_testnodedown(self, node):
    self.workers.append(getattr(node, 'workeroutput', {}).get('spent', {}))

  @pytest.hookimpl(tryfirst=True)
  def pytest_sessionfinish(self, session):
    costs = {name: tuple(cost) for name, cost in self.costs.items()}
    spent = {'costs': costs, 'peak': self.room.peak}
    if hasattr(self.config, 'workeroutput'):
      self.config.workeroutput['spent'] = spent
      return
    self.workers = self.workers or [spent]
    self.costs = added(worker.get('costs', {}) for worker in self.workers)
    if self.config.getoption('write_budgets'):
      self.table.write_text(written(kept(self.budgets | self.costs)))
    elif self.judged():
      self.excesses = excesses(self.costs, self.budgets)
    if self.excesses and session.exitstatus == pytest.ExitCode.OK:
      session.exitstatus = pytest.ExitCode.TESTS_FAILED

  def judged(self) -> bool:
    """Budgets are of the quick tests, compiled without optimisation."""
    quick = TABLE.exists() and self.config.option.markexpr == 'not slow'
    return quick and 'backend_optimization_level=0' in os.environ.get('XLA_FLAGS', '')

  def pytest_terminal_summary(self, terminalreporter):
    total = sum(self.costs.values(), Cost(0, 0))
    peak = max((worker.get('peak', 0) for worker in self.workers), default=0) / 1e9
    terminalreporter.write_line(
      f'{total.programs} programs, {total.seconds:.0f} s of processor in tests, at most '
      f'{peak:.2f} GB a worker'
    )
    for line in self.excesses:
      terminalreporter.write_line(f'FAILED budget: {line}', red=True)
