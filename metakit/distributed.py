"""Several processes as one run: who takes part, what they agree on, when they stop.

Every program calls `initialize` first, also if it is the only process. Processes meet before JAX
starts its own service. If others are missing, that service aborts a process and does not name them.
"""

import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from metakit.cluster import Cluster, detect, given
from metakit.meeting import TOKEN, bind_address, meet

T = TypeVar('T')
_passed: Counter[str] = Counter()  # how often each barrier was passed, by its name
MEETING_SECONDS = 300.0
# A process that is silent for so long counts as lost, and all others end. Each process sends a sign
# twice in this time, from a thread of JAX that neither Python nor a computation holds up. So a run
# survives pauses of a machine of 15 s (live migration, a swapping host). The default of JAX is 100.
HEARTBEAT_SECONDS = 30
SLOWEST_PAUSE = 1.0  # the most seconds between two looks at who has come to a barrier
HEARING_SECONDS = 15  # how long a first process that failed waits for the others to hear of it
FAILED, SAME = 'failed/', 'same'
KEPT_ANSWERS = 64  # one process is never ahead of another by so many answers


def initialize(
  coordinator: str | None = None,
  processes: int | None = None,
  rank: int | None = None,
  *,
  seconds: float = MEETING_SECONDS,
) -> Cluster:
  """Joins the processes of a run. Call it before JAX is asked for a device.

  Args:
    coordinator: host:port of process 0; without it the environment decides (`detect`).
    processes: how many there are; a detected number must be the same.
    rank: the number of this process.
    seconds: how long to wait for the others.

  Returns:
    The cluster.

  Raises:
    ValueError: if the arguments are incomplete or contradict the environment, or if the processes
      do not agree.
    TimeoutError: if processes are missing after `seconds`; it names them.
    OSError: if the coordinator's port is taken.
  """
  cluster = given(coordinator, processes, rank) if coordinator else detect(os.environ)
  if processes not in (None, cluster.processes):
    raise ValueError(
      f'{cluster.processes} processes were found, {processes} asked for; start as many, or leave '
      'processes=N out'
    )
  if cluster.processes == 1:
    return cluster
  meet(cluster, seconds, os.environ.get(TOKEN, ''))
  coordinator = str(cluster.coordinator)
  chosen = None if cluster.local_index is None else [cluster.local_index]
  jax.distributed.initialize(
    coordinator,
    cluster.processes,
    cluster.rank,
    chosen,
    initialization_timeout=int(seconds),
    coordinator_bind_address=bind_address(coordinator) if cluster.rank == 0 else None,
    heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
  )
  return cluster


def leave() -> None:
  """Leaves the run. All processes leave together: one that ends earlier would abort the others."""
  if jax.distributed.is_initialized():
    jax.distributed.shutdown()


def is_first() -> bool:
  """Says whether this process is the one that logs and writes. A single process needs no device."""
  return not jax.distributed.is_initialized() or jax.process_index() == 0


def from_first(value: T | None, like: T) -> T | None:
  """Returns the value of the first process in all processes.

  Args:
    value: arrays and numbers, or None; that of other processes is ignored.
    like: a tree of the same structure, shapes and types (jax.ShapeDtypeStruct will do); not None.
  """
  if jax.process_count() == 1:
    return value
  zeros = jax.tree.map(lambda leaf: np.zeros(np.shape(leaf), jax.dtypes.result_type(leaf)), like)
  there, received = multihost_utils.broadcast_one_to_all(
    (np.int32(value is not None), zeros if value is None else value)
  )
  return jax.tree.map(np.asarray, received) if int(there) else None


def barrier(name: str, seconds: float = MEETING_SECONDS) -> None:
  """Waits until all processes have come to a named place. All must come equally often.

  Raises:
    TimeoutError: if processes are missing after `seconds`; it names them and the place.
    ConnectionError: if a process failed (`abort`); it says why.
  """
  if jax.process_count() == 1:
    return
  _passed[name] += 1
  here, until, pause = f'here/{name}/{_passed[name]}/', time.monotonic() + seconds, 0.05
  _client().key_value_set(f'{here}{jax.process_index()}', '')
  while missing := sorted(set(range(jax.process_count())) - _told_by(here).keys()):
    if failed := _told_by(FAILED):
      rank, said = next(iter(failed.items()))
      raise ConnectionError(f'process {rank} failed: {said}')
    if time.monotonic() > until:
      raise TimeoutError(
        f'processes {missing} did not come to {name!r} within {seconds:g} s; see their logs'
      )
    time.sleep(pause)
    pause = min(2 * pause, SLOWEST_PAUSE)


def check_same(described: Mapping[str, Any], seconds: float = MEETING_SECONDS) -> None:
  """Checks that all processes would do the same. All must come here equally often; they wait.

  Args:
    described: what must be equal, as text, by the names that users know (--seed).
    seconds: how long to wait for the others.

  Raises:
    ValueError: in all processes, if one differs from process 0; it names the first such process and
      the difference.
    TimeoutError, ConnectionError: as `barrier` does.
  """
  # A single process takes no device, since the programs that it starts may need it.
  if not jax.distributed.is_initialized() or jax.process_count() == 1:
    return
  folder = f'{SAME}/{_passed[SAME]}/'
  text = json.dumps({name: str(value) for name, value in described.items()})
  _client().key_value_set(f'{folder}{jax.process_index()}', text)
  barrier(SAME, seconds)
  said = {rank: json.loads(each) for rank, each in _told_by(folder).items()}
  for rank in range(1, jax.process_count()):
    if differing := difference(said[0], said[rank]):
      ours, theirs = (' '.join(each) for each in zip(*differing, strict=True))
      raise ValueError(f'process {rank} has {theirs}, process 0 {ours}; start all with the same')


def difference(first: Mapping[str, str], other: Mapping[str, str]) -> list[tuple[str, str]]:
  """Returns a pair of texts name=value for each value that differs.

  >>> difference({'--seed': '0', '--steps': '8'}, {'--seed': '1', '--steps': '8'})
  [('--seed=0', '--seed=1')]
  """
  none = 'none'
  names = [name for name in {**first, **other} if first.get(name, none) != other.get(name, none)]
  return [(f'{n}={first.get(n, none)}', f'{n}={other.get(n, none)}') for n in names]


def abort(said: str, status: int = 1) -> None:
  """Ends this process, and tells those that wait at a barrier why. A single process goes on."""
  if not jax.distributed.is_initialized():
    return
  with contextlib.suppress(jax.errors.JaxRuntimeError):  # this process has set the key before
    _client().key_value_set(f'{FAILED}{jax.process_index()}', said)
  if is_first():
    _wait_for_the_others_to_fail()
  for stream in (sys.stdout, sys.stderr):
    stream.flush()
  os._exit(status)  # an ordinary exit would let JAX wait for the others


def _wait_for_the_others_to_fail() -> None:
  """Waits until all processes have failed. They hear the reason from the first, at a barrier."""
  until = time.monotonic() + HEARING_SECONDS
  while len(_told_by(FAILED)) < jax.process_count() and time.monotonic() < until:
    time.sleep(0.1)
  time.sleep(0.5)  # what they do last


def _told_by(folder: str) -> dict[int, str]:
  """Returns what processes have written to a folder of JAX's service, by their numbers."""
  entries = _client().key_value_dir_get(folder)
  return {int(key.rpartition('/')[2]): value for key, value in entries}


def agreed(name: str, number: int, value: bool) -> bool:
  """Returns the first process's answer to a question that is asked again and again.

  Args:
    name: name of the question.
    number: how often it was asked before; it rises by one.
    value: the answer of this process; only that of the first process counts.
  """
  if jax.process_count() == 1:
    return value
  if is_first():
    _client().key_value_set(f'{name}/{number}', str(int(value)))
    _client().key_value_delete(f'{name}/{number - KEPT_ANSWERS}')
    return value
  return _client().blocking_key_value_get(f'{name}/{number}', int(MEETING_SECONDS * 1000)) == '1'


def _client() -> Any:
  from jax._src.distributed import global_state  # JAX has no public name for it; Orbax uses it too

  return global_state.client


@contextlib.contextmanager
def watch_preemption() -> Iterator[Callable[[int], bool]]:
  """Yields a function (number) -> whether to stop, because of SIGTERM to any process or Ctrl-C.

  Call it with numbers that rise by one. All processes get the answer True at the same number. A
  second Ctrl-C does what it does outside the block.
  """
  with _interrupts_ask_to_end():
    if jax.process_count() > 1:  # JAX's service handles the signal, and finds a common number
      yield multihost_utils.reached_preemption_sync_point
    else:
      with _watch_alone() as stop:
        yield stop


@contextlib.contextmanager
def _interrupts_ask_to_end() -> Iterator[None]:
  """Turns the first SIGINT into SIGTERM, unless it is ignored."""
  before = signal.getsignal(signal.SIGINT)

  def ask(number: int, frame: FrameType | None) -> None:
    del frame
    signal.signal(number, before)
    os.kill(os.getpid(), signal.SIGTERM)  # reaches JAX's handler or that of `_watch_alone`

  if before not in (signal.SIG_IGN, None):
    signal.signal(signal.SIGINT, ask)
  try:
    yield
  finally:
    if before is not None:
      signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _watch_alone() -> Iterator[Callable[[int], bool]]:
  signals: list[int] = []
  answered: list[int] = []  # signals that `stop` has answered

  def note(number: int, frame: FrameType | None) -> None:
    del frame
    signals.append(number)

  def stop(number: int) -> bool:
    del number
    answered.extend(signals)
    return bool(signals)

  before = signal.signal(signal.SIGTERM, note)
  try:
    yield stop
  finally:
    signal.signal(signal.SIGTERM, before)
  if signals and not answered:
    signal.raise_signal(signal.SIGTERM)  # the signal came after the last question
