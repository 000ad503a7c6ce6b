"""Which processes make up a run: given by a launcher, or found in the environment."""

import shutil
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

PORT = 8482  # what JAX uses between TPU hosts


class Cluster(NamedTuple):
  """The processes of a run.

  Attributes:
    coordinator: host:port of process 0; None for a single process.
    processes: how many there are.
    rank: the number of this process.
    local_index: its number on its machine, if each process there uses one GPU; otherwise None.
  """

  coordinator: str | None = None
  processes: int = 1
  rank: int = 0
  local_index: int | None = None


def given(coordinator: str, processes: int | None, rank: int | None) -> Cluster:
  """Returns the cluster that the arguments describe in full.

  Args:
    coordinator: host:port of process 0.
    processes: how many there are.
    rank: the number of this process.

  Raises:
    ValueError: if something is missing or out of range.
  """
  if processes is None or rank is None:
    raise ValueError('coordinator=HOST:PORT needs processes=N and rank=I')
  if not 0 <= rank < processes:
    raise ValueError(f'rank={rank} is not one of 0 to {processes - 1}')
  address_of(coordinator)
  return Cluster(coordinator, processes, rank)


def address_of(coordinator: str) -> tuple[str, int]:
  """Reads host:port.

  Raises:
    ValueError: if it has another form.
  """
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdigit():
    raise ValueError(f'coordinator {coordinator!r} is not host:port')
  return host.strip('[]'), int(port)  # brackets around an address of IPv6


def detect(environment: Mapping[str, str]) -> Cluster:
  """Returns the cluster that launch/ (also on Kubernetes), Slurm, MPI or TPU hosts describe.

  Raises:
    ValueError: if the description is incomplete.
  """
  for find in (_told, _slurm, _mpi, _tpu):
    if cluster := find(environment):
      return cluster if cluster.processes > 1 else Cluster()
  return Cluster()


def _slurm(environment: Mapping[str, str]) -> Cluster | None:
  nodes = environment.get('SLURM_STEP_NODELIST')  # only srun sets it
  if not nodes:
    return None
  port = 61440 + int(environment['SLURM_JOB_ID']) % 4096  # a dynamic port; each job has another
  return Cluster(
    coordinator=f'{first_node(nodes)}:{port}',
    processes=int(environment['SLURM_STEP_NUM_TASKS']),
    rank=int(environment['SLURM_PROCID']),
    local_index=_one_gpu(environment, int(environment['SLURM_LOCALID'])),
  )


def first_node(nodes: str) -> str:
  """Returns the first host of Slurm's compressed list, such as rack[1-2]n[01-04].

  Raises:
    ValueError: if it is compressed and there is no scontrol to expand it.
  """
  if '[' not in nodes and ',' not in nodes:
    return nodes
  if shutil.which('scontrol') is None:
    raise ValueError(
      f'scontrol is not there to expand the nodes {nodes}; give coordinator=HOST:PORT'
    )
  hostnames = subprocess.run(
    ['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=True
  )
  return hostnames.stdout.split()[0]


def _one_gpu(environment: Mapping[str, str], local: int) -> int | None:
  """Returns the GPU of process `local` of a machine, if the process sees several GPUs."""
  visible = [gpu for gpu in environment.get('CUDA_VISIBLE_DEVICES', '').split(',') if gpu]
  return local if len(visible) > 1 else None


def _mpi(environment: Mapping[str, str]) -> Cluster | None:
  if 'OMPI_COMM_WORLD_SIZE' not in environment:
    return None
  size, alone = (int(environment[f'OMPI_COMM_WORLD_{name}']) for name in ('SIZE', 'LOCAL_SIZE'))
  if size > alone:
    raise ValueError(
      f'mpirun started {size} processes on several machines; give coordinator=HOST:PORT of rank 0, '
      'processes=N and rank=I'
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
  """Reads what launch/ has set. An indexed Job of Kubernetes numbers its processes itself."""
  if 'METAKIT_COORDINATOR' not in environment:
    return None
  rank = environment.get('METAKIT_PROCESS_ID', environment.get('JOB_COMPLETION_INDEX'))
  if rank is None or 'METAKIT_NUM_PROCESSES' not in environment:
    raise ValueError(
      'METAKIT_COORDINATOR is set; set METAKIT_NUM_PROCESSES and METAKIT_PROCESS_ID too'
    )
  processes = int(environment['METAKIT_NUM_PROCESSES'])
  return given(environment['METAKIT_COORDINATOR'], processes, int(rank))
