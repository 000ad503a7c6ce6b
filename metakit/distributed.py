"""Several processes as one run: who takes part, what they agree on, when to stop.

`initialize` comes first in every binary, for one process too. Processes meet before JAX starts its
own service: that aborts a process whose peers are missing, without a word that names them.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar('T')
_passed: Counter[str] = Counter()  # barriers, by name
PORT = 8482  # what JAX uses between TPU hosts
MEETING_SECONDS = 300.0
PAUSE = 0.2  # seconds between attempts to connect
HELLO, GO = 'metakit', 'go'
SLOWEST_PAUSE = 1.0  # seconds between looks at who has come to a barrier
FAILED = 'failed/'
KEPT_ANSWERS = 64  # more than one process can be ahead of another


class Cluster(NamedTuple):
  """The processes of a run.

  Attributes:
    coordinator: host:port of process 0; None for a single process.
    processes: how many.
    rank: the number of this one.
    local_index: its number on its machine, if each process there uses one GPU; otherwise None.
  """

  coordinator: str | None = None
  processes: int = 1
  rank: int = 0
  local_index: int | None = None


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
  cluster = _given(coordinator, processes, rank) if coordinator else detect(os.environ)
  if processes not in (None, cluster.processes):
    raise ValueError(
      f'{cluster.processes} processes were found, {processes} asked for; start as many, or leave '
      '--num_processes out'
    )
  if cluster.processes == 1:
    return cluster
  meet(cluster, seconds)
  chosen = None if cluster.local_index is None else [cluster.local_index]
  jax.distributed.initialize(
    cluster.coordinator,
    cluster.processes,
    cluster.rank,
    chosen,
    initialization_timeout=int(seconds),
  )
  return cluster


def _given(coordinator: str, processes: int | None, rank: int | None) -> Cluster:
  if processes is None or rank is None:
    raise ValueError('--coordinator needs --num_processes and --process_id')
  if not 0 <= rank < processes:
    raise ValueError(f'--process_id={rank} is not one of 0 to {processes - 1}')
  address_of(coordinator)
  return Cluster(coordinator, processes, rank)


def address_of(coordinator: str) -> tuple[str, int]:
  """Reads host:port.

  Raises:
    ValueError: if it is none.
  """
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdigit():
    raise ValueError(f'coordinator {coordinator!r} is not host:port')
  return host, int(port)


def detect(environment: Mapping[str, str]) -> Cluster:
  """Returns the cluster that was described by launch/ (Kubernetes too), Slurm, MPI or TPU hosts.

  Raises:
    ValueError: if the description is incomplete.
  """
  for find in (_told, _slurm, _mpi, _tpu):
    if cluster := find(environment):
      return cluster if cluster.processes > 1 else Cluster()
  return Cluster()


def _slurm(environment: Mapping[str, str]) -> Cluster | None:
  nodes = environment.get('SLURM_STEP_NODELIST')  # there is one within srun only
  if not nodes:
    return None
  port = 61440 + int(environment['SLURM_JOB_ID']) % 4096  # of the dynamic ports; one for each job
  return Cluster(
    coordinator=f'{first_node(nodes)}:{port}',
    processes=int(environment['SLURM_STEP_NUM_TASKS']),
    rank=int(environment['SLURM_PROCID']),
    local_index=_one_gpu(environment, int(environment['SLURM_LOCALID'])),
  )


def first_node(nodes: str) -> str:
  """Returns the first host of Slurm's compressed list, such as rack[1-2]n[01-04].

  Raises:
    ValueError: if it is compressed and there is no scontrol to ask.
  """
  if '[' not in nodes and ',' not in nodes:
    return nodes
  if shutil.which('scontrol') is None:
    raise ValueError(f'scontrol is not there to expand the nodes {nodes}; give --coordinator')
  asked = subprocess.run(
    ['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=True
  )
  return asked.stdout.split()[0]


def _one_gpu(environment: Mapping[str, str], local: int) -> int | None:
  """Returns the GPU of the `local`th process of a machine, if it can see those of others too."""
  visible = [gpu for gpu in environment.get('CUDA_VISIBLE_DEVICES', '').split(',') if gpu]
  return local if len(visible) > 1 else None


def _mpi(environment: Mapping[str, str]) -> Cluster | None:
  if 'OMPI_COMM_WORLD_SIZE' not in environment:
    return None
  size, alone = (int(environment[f'OMPI_COMM_WORLD_{name}']) for name in ('SIZE', 'LOCAL_SIZE'))
  if size > alone:
    raise ValueError(
      f'mpirun started {size} processes on several machines; give --coordinator=HOST:PORT of rank 0'
      ', --num_processes and --process_id'
    )
  rank = int(environment['OMPI_COMM_WORLD_RANK'])
  return Cluster(f'127.0.0.1:{PORT}', size, rank, _one_gpu(environment, rank))


def _tpu(environment: Mapping[str, str]) -> Cluster | None:
  hosts = environment.get('TPU_WORKER_HOSTNAMES', '').split(',')
  if len(hosts) < 2:
    return None
  if 'TPU_WORKER_ID' not in environment:
    raise ValueError('TPU_WORKER_HOSTNAMES is set and TPU_WORKER_ID is not; set both')
  return Cluster(f'{hosts[0]}:{PORT}', len(hosts), int(environment['TPU_WORKER_ID']))


def _told(environment: Mapping[str, str]) -> Cluster | None:
  """What the programs of launch/ set; an indexed Job of Kubernetes numbers its processes itself."""
  if 'METAKIT_COORDINATOR' not in environment:
    return None
  rank = environment.get('METAKIT_PROCESS_ID', environment.get('JOB_COMPLETION_INDEX'))
  if rank is None or 'METAKIT_NUM_PROCESSES' not in environment:
    raise ValueError(
      'METAKIT_COORDINATOR is set; set METAKIT_NUM_PROCESSES and METAKIT_PROCESS_ID too'
    )
  processes = int(environment['METAKIT_NUM_PROCESSES'])
  return _given(environment['METAKIT_COORDINATOR'], processes, int(rank))


def meet(cluster: Cluster, seconds: float) -> None:
  """Waits until every process of a cluster has said that it is there.

  Process 0 listens at the coordinator's address, which is free again afterwards.

  Raises:
    ValueError: if two processes have one number, or count differently.
    TimeoutError: after `seconds`.
    OSError: if the port is taken.
  """
  until = time.monotonic() + seconds
  if cluster.rank == 0:
    _gather(cluster, seconds, until)
  else:
    _report(cluster, seconds, until)


def _gather(cluster: Cluster, seconds: float, until: float) -> None:
  _, port = address_of(str(cluster.coordinator))
  with contextlib.ExitStack() as stack:
    try:
      listener = stack.enter_context(socket.create_server(('', port), backlog=cluster.processes))
    except OSError as error:
      raise OSError(
        error.errno,
        f'port {port} of the coordinator cannot be used ({error.strerror}); use another',
      ) from error
    there: dict[int, socket.socket] = {}
    wrong = ''
    while len(there) + 1 < cluster.processes and not wrong:
      listener.settimeout(max(until - time.monotonic(), 0.001))
      try:
        caller = stack.enter_context(listener.accept()[0])
      except TimeoutError:
        missing = sorted(set(range(1, cluster.processes)) - set(there))
        wrong = f'processes {missing} did not come within {seconds:g} s; see their logs'
        break
      wrong = _admit(caller, cluster, there)
    for caller in there.values():
      with contextlib.suppress(OSError):
        _say(caller, wrong or GO)
        caller.recv(1)  # it closes first, so that no address stays in use
    if wrong:
      raise (TimeoutError if 'did not come' in wrong else ValueError)(wrong)


def _admit(caller: socket.socket, cluster: Cluster, there: dict[int, socket.socket]) -> str:
  """Notes who calls; returns what is wrong. Strangers are ignored."""
  caller.settimeout(5)
  with contextlib.suppress(OSError, ValueError):
    hello, index, processes = caller.makefile().readline().split()
    if hello == HELLO:
      number, counted = int(index), int(processes)
      if counted != cluster.processes:
        there[-number] = caller
        return f'process {number} counts {counted} processes, process 0 {cluster.processes}'
      if number in there or not 0 < number < cluster.processes:
        there[-number] = caller
        return f'two processes have the number {number}; give each its own --process_id'
      there[number] = caller
  return ''


def _say(to: socket.socket, text: str) -> None:
  to.sendall(f'{text}\n'.encode())


def _report(cluster: Cluster, seconds: float, until: float) -> None:
  address = address_of(str(cluster.coordinator))
  answer = ''
  while time.monotonic() < until and not answer:
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=5) as caller:
      _say(caller, f'{HELLO} {cluster.rank} {cluster.processes}')
      caller.settimeout(max(until - time.monotonic(), 0.001) + 5)  # process 0 gives up first
      answer = caller.makefile().readline().strip()
    if not answer:
      time.sleep(PAUSE)
  if not answer:
    raise TimeoutError(
      f'no answer of process 0 at {cluster.coordinator} within {seconds:g} s; is it running, and '
      'the port open?'
    )
  if answer != GO:
    raise ValueError(f'process 0 says: {answer}')


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


def abort(said: str) -> None:
  """Ends this process, telling those that wait at a barrier why; alone, it does nothing."""
  if not jax.distributed.is_initialized():
    return
  with contextlib.suppress(jax.errors.JaxRuntimeError):  # it has said so before
    _client().key_value_set(f'{FAILED}{jax.process_index()}', said)
  if is_first():
    time.sleep(2 * SLOWEST_PAUSE)  # it is the first process that the others ask
  for stream in (sys.stdout, sys.stderr):
    stream.flush()
  os._exit(1)  # JAX's own end would wait for the others


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
  """Yields (number) -> whether to stop: a process was sent SIGTERM.

  All processes are told so at the same number. It is to be asked with numbers that rise by one.
  """
  if jax.process_count() > 1:  # JAX's service has the signal, and agrees on the number
    yield multihost_utils.reached_preemption_sync_point
    return
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
