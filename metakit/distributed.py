"""Several processes as one run: who takes part, what they agree on, when to stop.

`initialize` comes first in every binary, for one process too. Processes meet before JAX starts its
own service: that aborts a process whose peers are missing, without a word that names them.
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
_passed: Counter[str] = Counter()  # barriers, by name
MEETING_SECONDS = 300.0
# After how long without a word a process counts as lost, and all others end. JAX's service says one
# every half of it, from a thread that neither Python nor a computation holds up: so it outlasts a
# pause of the machine (live migration, a swapping host) of 15 s. JAX's own value is 100.
HEARTBEAT_SECONDS = 30
SLOWEST_PAUSE = 1.0  # seconds between looks at who has come to a barrier
FAILED, SAME = 'failed/', 'same'
KEPT_ANSWERS = 64  # more than one process can be ahead of another


def initialize(
  coordinator: str | None = None,
  processes: int | None = None,
  rank: int | None = None,
  seconds: float = MEETING_SECONDS,
) -> Cluster:
  """Joins the processes of a run; to be called before JAX is asked for a device.

  Args:
    coordinator: host:port of process 0; without it the environment is asked (`detect`).
    processes: how many; what was detected must agree.
    rank: number of this process.
    seconds: how long to wait for the others.

  Returns:
    The cluster.

  Raises:
    ValueError: if what is given is incomplete or contradicts the environment, or the processes do
      not agree.
    TimeoutError: naming who is missing, after `seconds`.
    OSError: if the coordinator's port is taken.
  """
  cluster = given(coordinator, processes, rank) if coordinator else detect(os.environ)
  if processes not in (None, cluster.processes):
    raise ValueError(
      f'{cluster.processes} processes were found, {processes} asked for; start as many, or leave '
      '--num_processes out'
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
  """Leaves the other processes, when all do: a process that ends before aborts those that stay."""
  if jax.distributed.is_initialized():
    jax.distributed.shutdown()


def is_first() -> bool:
  """Tells whether this process is the one that logs and writes; asks JAX for no device alone."""
  return not jax.distributed.is_initialized() or jax.process_index() == 0


def from_first(value: T | None, like: T) -> T | None:
  """Returns the first process's value everywhere.

  Args:
    value: arrays and numbers, or None; what other processes give is ignored.
    like: of the same structure, shapes and types (jax.ShapeDtypeStruct will do); not None.
  """
  if jax.process_count() == 1:
    return value
  zeros = jax.tree.map(lambda leaf: np.zeros(np.shape(leaf), jax.dtypes.result_type(leaf)), like)
  there, received = multihost_utils.broadcast_one_to_all(
    (np.int32(value is not None), zeros if value is None else value)
  )
  return jax.tree.map(np.asarray, received) if int(there) else None


def barrier(name: str, seconds: float = MEETING_SECONDS) -> None:
  """Waits for all processes at a named place, which they pass equally often.

  Raises:
    TimeoutError: naming the place and who is missing, after `seconds`.
    ConnectionError: with the last words of a process that failed (`abort`).
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
    pause = min(2 * pause, SLOWEST_PAUSE)  # the more processes ask, the longer it takes anyhow


def check_same(described: Mapping[str, Any], seconds: float = MEETING_SECONDS) -> None:
  """Checks that all processes would do the same; they come here equally often, and wait.

  Args:
    described: what must be equal, by the name that users know it by (--seed), compared as text.
    seconds: how long to wait for the others.

  Raises:
    ValueError: in all processes, naming the first process that differs from process 0, and in what.
    TimeoutError, ConnectionError: as `barrier` does.
  """
  if jax.process_count() == 1:
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
  """Returns name=value of both for each value that is not the same.

  >>> difference({'--seed': '0', '--steps': '8'}, {'--seed': '1', '--steps': '8'})
  [('--seed=0', '--seed=1')]
  """
  none = 'none'
  names = [name for name in {**first, **other} if first.get(name, none) != other.get(name, none)]
  return [(f'{n}={first.get(n, none)}', f'{n}={other.get(n, none)}') for n in names]


def abort(said: str, status: int = 1) -> None:
  """Ends this process, telling those that wait at a barrier why; alone, it does nothing."""
  if not jax.distributed.is_initialized():
    return
  with contextlib.suppress(jax.errors.JaxRuntimeError):  # it has said so before
    _client().key_value_set(f'{FAILED}{jax.process_index()}', said)
  if is_first():
    time.sleep(2 * SLOWEST_PAUSE)  # it is the first process that the others ask
  for stream in (sys.stdout, sys.stderr):
    stream.flush()
  os._exit(status)  # JAX's own end would wait for the others


def _told_by(folder: str) -> dict[int, str]:
  """Returns what processes have told in a folder of JAX's service, by their numbers."""
  found = _client().key_value_dir_get(folder)
  return {int(key.rpartition('/')[2]): value for key, value in found}


def agreed(name: str, number: int, value: bool) -> bool:
  """Returns what the first process says to a question, asked again and again.

  Args:
    name: of the question.
    number: of this time, rising by one.
    value: what is said; that of other processes is ignored.
  """
  if jax.process_count() == 1:
    return value
  if is_first():
    _client().key_value_set(f'{name}/{number}', str(int(value)))
    _client().key_value_delete(f'{name}/{number - KEPT_ANSWERS}')
    return value
  return _client().blocking_key_value_get(f'{name}/{number}', int(MEETING_SECONDS * 1000)) == '1'


def _client() -> Any:
  from jax._src.distributed import global_state  # JAX has no public name for it; Orbax does so too

  return global_state.client


@contextlib.contextmanager
def watch_preemption() -> Iterator[Callable[[int], bool]]:
  """Yields (number) -> whether to stop: a process was sent SIGTERM, or Ctrl-C was typed.

  All processes are told so at the same number. It is to be asked with numbers that rise by one.
  Ctrl-C once more does what it does outside the block.
  """
  with _interrupts_ask_to_end():
    if jax.process_count() > 1:  # JAX's service has the signal, and agrees on the number
      yield multihost_utils.reached_preemption_sync_point
    else:
      with _watch_alone() as told:
        yield told


@contextlib.contextmanager
def _interrupts_ask_to_end() -> Iterator[None]:
  """Turns the first SIGINT into SIGTERM, unless it is ignored."""
  before = signal.getsignal(signal.SIGINT)

  def ask(number: int, frame: FrameType | None) -> None:
    del frame
    signal.signal(number, before)
    os.kill(os.getpid(), signal.SIGTERM)  # whoever has its handler

  if before not in (signal.SIG_IGN, None):
    signal.signal(signal.SIGINT, ask)
  try:
    yield
  finally:
    if before is not None:
      signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _watch_alone() -> Iterator[Callable[[int], bool]]:
  told: list[int] = []
  asked: list[int] = []

  def note(number: int, frame: FrameType | None) -> None:
    del frame
    told.append(number)

  def stop(number: int) -> bool:
    del number
    asked.extend(told)
    return bool(told)

  before = signal.signal(signal.SIGTERM, note)
  try:
    yield stop
  finally:
    signal.signal(signal.SIGTERM, before)
  if told and not asked:
    signal.raise_signal(signal.SIGTERM)  # it came too late to be asked for
