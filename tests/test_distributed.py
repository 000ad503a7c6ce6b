import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import jax
import pytest

from metakit import distributed
from metakit.cluster import Cluster, detect, first_node
from metakit.distributed import (
  agreed,
  barrier,
  check_same,
  difference,
  from_first,
  initialize,
  watch_preemption,
)
from metakit.meeting import bind_address, meet
from tests.test_processes import free_port

SLURM = {
  'SLURM_JOB_ID': '4100',
  'SLURM_STEP_NODELIST': 'node7',
  'SLURM_STEP_NUM_TASKS': '4',
  'SLURM_PROCID': '2',
  'SLURM_LOCALID': '0',
}
GPUS = {'CUDA_VISIBLE_DEVICES': '0,1', 'SLURM_LOCALID': '1'}
MPI = {'OMPI_COMM_WORLD_SIZE': '2', 'OMPI_COMM_WORLD_LOCAL_SIZE': '2', 'OMPI_COMM_WORLD_RANK': '1'}
TPU = {'TPU_WORKER_HOSTNAMES': 't0,t1,t2', 'TPU_WORKER_ID': '1'}
TOLD = {'METAKIT_COORDINATOR': 'a:1', 'METAKIT_NUM_PROCESSES': '3', 'METAKIT_PROCESS_ID': '2'}
POD = {'METAKIT_COORDINATOR': 'a:1', 'METAKIT_NUM_PROCESSES': '3', 'JOB_COMPLETION_INDEX': '1'}


@pytest.mark.parametrize(
  ('environment', 'cluster'),
  [
    ({}, Cluster()),
    (SLURM, Cluster('node7:61444', 4, 2)),
    (
      SLURM | {'CUDA_VISIBLE_DEVICES': '0,1', 'SLURM_LOCALID': '1'},
      Cluster('node7:61444', 4, 2, 1),
    ),
    (SLURM | {'CUDA_VISIBLE_DEVICES': '3'}, Cluster('node7:61444', 4, 2)),
    (SLURM | {'SLURM_STEP_NUM_TASKS': '1', 'SLURM_PROCID': '0'}, Cluster()),
    ({'SLURM_JOB_ID': '4', 'SLURM_NTASKS': '8'}, Cluster()),  # in a batch file, outside srun
    (MPI, Cluster('127.0.0.1:8482', 2, 1)),
    (TPU, Cluster('t0:8482', 3, 1)),
    ({'TPU_WORKER_HOSTNAMES': 'localhost'}, Cluster()),
    (POD, Cluster('a:1', 3, 1)),
    (TOLD | SLURM, Cluster('a:1', 3, 2)),  # a local pod within a job
  ],
)
def test_a_launcher_is_recognised(environment, cluster):
  assert detect(environment) == cluster


@pytest.mark.parametrize(
  ('environment', 'said'),
  [
    (MPI | {'OMPI_COMM_WORLD_SIZE': '4'}, 'on several machines; give coordinator='),
    ({'TPU_WORKER_HOSTNAMES': 'a,b'}, 'TPU_WORKER_ID is not; set both'),
    ({'METAKIT_COORDINATOR': 'a:1'}, 'set METAKIT_NUM_PROCESSES and METAKIT_PROCESS_ID too'),
    (TOLD | {'METAKIT_PROCESS_ID': '3'}, 'rank=3 is not one of 0 to 2'),
    (TOLD | {'METAKIT_COORDINATOR': 'a'}, "coordinator 'a' is not host:port"),
  ],
)
def test_an_incomplete_description_is_refused(environment, said):
  with pytest.raises(ValueError, match=said):
    detect(environment)


def test_compressed_nodes_are_expanded_by_slurm(tmp_path, monkeypatch):
  script = tmp_path / 'scontrol'
  script.write_text(
    '#!/bin/sh\n[ "$*" = "show hostnames rack[1-2]n[01-04]" ] && echo rack1n01 rack1n02'
  )
  script.chmod(script.stat().st_mode | stat.S_IEXEC)
  monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
  assert first_node('rack[1-2]n[01-04]') == 'rack1n01'
  assert first_node('node7') == 'node7'
  monkeypatch.setenv('PATH', str(tmp_path / 'none'))
  with pytest.raises(ValueError, match=r'scontrol is not there .* give coordinator='):
    first_node('a,b')


@pytest.mark.parametrize(
  ('given', 'said'),
  [
    ({'coordinator': 'a:1'}, 'needs processes=N and rank=I'),
    ({'coordinator': 'a:1', 'processes': 2, 'rank': 2}, 'rank=2 is not one of 0 to 1'),
    ({'processes': 4}, '1 processes were found, 4 asked for'),
  ],
)
def test_what_is_given_must_be_complete(given, said, monkeypatch):
  for name in (*SLURM, *TPU, *TOLD):
    monkeypatch.delenv(name, raising=False)
  with pytest.raises(ValueError, match=said):
    initialize(**given)


def test_one_process_starts_no_service(monkeypatch):
  for name in (*SLURM, *TPU, *TOLD):
    monkeypatch.delenv(name, raising=False)
  assert initialize() == Cluster()
  assert not jax.distributed.is_initialized()


def met(clusters, seconds=20.0):
  """Lets processes meet, as threads; returns what each raised, by rank."""
  raised = {}

  def one(cluster):
    try:
      meet(cluster, seconds)
      raised[cluster.rank] = None
    except Exception as error:
      raised[cluster.rank] = error

  threads = [threading.Thread(target=one, args=(cluster,)) for cluster in clusters]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(seconds + 20)
  return raised


def test_processes_meet_and_the_port_is_free_again():
  coordinator = f'127.0.0.1:{free_port()}'
  for _ in range(2):
    assert met([Cluster(coordinator, 4, rank) for rank in range(4)]) == dict.fromkeys(range(4))


def test_strangers_at_the_port_are_ignored():
  port = free_port()

  def knock():
    for said in (b'GET / HTTP/1.1\r\n\r\n', b'metakit one two\n', b''):
      with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', port), 2) as caller:
        caller.sendall(said)

  stranger = threading.Timer(0.2, knock)
  late = threading.Timer(0.5, lambda: meet(Cluster(f'127.0.0.1:{port}', 2, 1), 10))
  stranger.start()
  late.start()
  meet(Cluster(f'127.0.0.1:{port}', 2, 0), 10)
  late.join()


@contextlib.contextmanager
def calling(port, *said):
  """Calls as often as something is said, and stays until the end of the block."""
  with contextlib.ExitStack() as stack:
    for each in said:
      until = time.monotonic() + 10
      while True:
        try:
          caller = stack.enter_context(socket.create_connection(('127.0.0.1', port), 5))
          break
        except OSError:
          assert time.monotonic() < until
      with contextlib.suppress(OSError):
        caller.sendall(each)
    yield


@pytest.mark.parametrize('said', [[b''] * 300, [b'a' * 1_000_000] * 3, [b'1 2 a b\n'] * 3])
def test_strangers_cannot_hold_up_or_end_a_meeting(said):
  """Many that are silent, one endless line, and a proof that is none."""
  port, begun = free_port(), time.monotonic()
  cluster = Cluster(f'127.0.0.1:{port}', 2)
  first = threading.Thread(target=meet, args=(cluster, 20, 'secret'))
  first.start()
  with calling(port, *said):
    meet(cluster._replace(rank=1), 20, 'secret')
    first.join()
  assert time.monotonic() - begun < 4  # less than any of them may take to speak


def test_another_token_is_turned_away_and_both_are_told():
  cluster = Cluster(f'127.0.0.1:{free_port()}', 3)
  tokens, raised = {0: 'a', 1: 'b', 2: 'a'}, {}

  def one(rank):
    try:
      # A wrong number of processes would end the meeting, were it believed.
      meet(cluster._replace(rank=rank, processes=3 + (rank == 1)), 0.5, tokens[rank])
    except Exception as error:
      raised[rank] = str(error)

  threads = [threading.Thread(target=one, args=(rank,)) for rank in tokens]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert 'processes [1] did not come' in raised[0] and 'another METAKIT_TOKEN' in raised[0]
  assert 'is METAKIT_TOKEN the same?' in raised[1]


def test_it_listens_at_the_coordinators_address_alone(monkeypatch):
  port = free_port()
  first = threading.Thread(target=meet, args=(Cluster(f'127.0.0.1:{port}', 2), 20))
  first.start()
  with calling(port, b''), pytest.raises(ConnectionRefusedError):
    socket.create_connection(('127.0.0.2', port), 5)
  meet(Cluster(f'127.0.0.1:{port}', 2, 1), 20)
  first.join()
  given = {}
  monkeypatch.setattr(distributed, 'meet', lambda *_: None)
  monkeypatch.setattr(jax.distributed, 'initialize', lambda *_, **named: given.update(named))
  initialize(f'127.0.0.1:{port}', 2, 0)
  assert given['coordinator_bind_address'] == f'127.0.0.1:{port}'
  assert given['heartbeat_timeout_seconds'] <= 30


def test_a_name_that_others_cannot_reach_means_all_addresses(monkeypatch):
  found = lambda address: lambda *_, **__: [(socket.AF_INET, 1, 6, '', (address, 0))]
  for address in ('127.0.1.1', '192.0.2.1'):  # of Debian's hosts file, and of nobody
    monkeypatch.setattr(socket, 'getaddrinfo', found(address))
    assert bind_address('node7:80') is None


def test_who_is_missing_is_named_in_time():
  begun, coordinator = time.monotonic(), f'127.0.0.1:{free_port()}'
  raised = met([Cluster(coordinator, 4, rank) for rank in (0, 2)], seconds=0.5)
  assert isinstance(raised[0], TimeoutError)
  assert 'processes [1, 3] did not come within 0.5 s' in str(raised[0])
  assert 'process 0 says: processes [1, 3] did not come' in str(raised[2])
  assert time.monotonic() - begun < 5


def test_an_absent_coordinator_is_named_in_time():
  begun, coordinator = time.monotonic(), f'127.0.0.1:{free_port()}'
  raised = met([Cluster(coordinator, 2, 1)], seconds=0.5)
  assert f'no answer of process 0 at {coordinator} within 0.5 s' in str(raised[1])
  assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
  ('others', 'said'),
  [([(3, 2)], 'process 2 counts 3 processes, process 0 4'), ([(4, 1), (4, 1)], 'the number 1')],
)
def test_processes_that_do_not_agree_are_told_so(others, said):
  coordinator = f'127.0.0.1:{free_port()}'
  raised = met([Cluster(coordinator, *each) for each in [(4, 0), *others]])
  assert all(said in str(error) for error in raised.values())


def test_a_port_in_use_is_named():
  with socket.create_server(('', 0)) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(OSError, match=f'port {port} of the coordinator cannot be used'):
      meet(Cluster(f'127.0.0.1:{port}', 2, 0), 5)


def test_a_process_alone_takes_no_device_to_find_that_it_is(monkeypatch):
  """The programs that it starts may need it."""
  monkeypatch.setattr(jax, 'process_count', lambda: pytest.fail('a device was asked for'))
  check_same({'--seed': 3}, 1)


def test_alone_every_agreement_is_ones_own():
  assert from_first({'a': 1}, {'a': 0}) == {'a': 1}
  assert from_first(None, {'a': 0}) is None
  assert [agreed('save', 1, value) for value in (False, True)] == [False, True]
  barrier('alone', 0.1)
  assert distributed.is_first()


COMES = """
import sys
from metakit.distributed import barrier, check_same, initialize, leave
address, rank = sys.argv[1:]
initialize(address, 2, int(rank), seconds=60)
check_same({'--seed': 3, 'jax': '1'}, 60)
try:
  check_same({'--seed': rank, '--steps': 4, **({'--rate': '.1'} if rank == '1' else {})}, 60)
except ValueError as error:
  print(error, flush=True)
barrier('both come here', 60)
if rank == '0':
  try:
    barrier('one comes here', 1)
  except TimeoutError as error:
    print(error)
sys.stdin.read()
barrier('both end', 60)
leave()
"""


def test_what_one_process_alone_has_is_a_difference():
  ours, theirs = {'--seed': '0', '--steps': '8'}, {'--seed': '0', '--name': 'a'}
  assert difference(ours, theirs) == [('--steps=8', '--steps=none'), ('--name=none', '--name=a')]


def test_who_does_not_come_to_a_barrier_is_named_in_time():
  address = f'127.0.0.1:{free_port()}'
  pipes = {name: subprocess.PIPE for name in ('stdin', 'stdout', 'stderr')}
  start = lambda rank: subprocess.Popen(
    [sys.executable, '-c', COMES, address, str(rank)], text=True, **pipes
  )
  with start(0) as first, start(1) as other:
    same = [process.stdout.readline() for process in (first, other)]
    said = first.stdout.readline()
    for process in (first, other):
      process.stdin.close()
    for process in (first, other):
      assert process.wait() == 0, process.stderr.read()
  wrong = (
    'process 1 has --seed=1 --rate=.1, process 0 --seed=0 --rate=none; start all with the same'
  )
  assert same == [f'{wrong}\n'] * 2
  assert said == "processes [1] did not come to 'one comes here' within 1 s; see their logs\n"


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noticed_at_the_next_question(number):
  before = signal.getsignal(number)
  with watch_preemption() as told:
    assert [told(1), told(2)] == [False, False]
    signal.raise_signal(number)
    assert told(3)
  assert signal.getsignal(number) is before


def test_a_signal_that_nobody_asked_for_any_more_is_not_lost():
  heard = []
  before = signal.signal(signal.SIGTERM, lambda *_: heard.append('outside'))
  try:
    with watch_preemption():
      signal.raise_signal(signal.SIGTERM)
      assert not heard
    assert heard == ['outside']
  finally:
    signal.signal(signal.SIGTERM, before)
