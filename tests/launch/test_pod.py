"""Several processes of the training binary on this machine, started by the launcher."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.output.metrics_log import read_metrics
from tests.experiments.commands import (
  REPOSITORY,
  TINY,
  environment,
  finish,
  images_file,
  run,
  start,
  task,
)
from tests.experiments.runs.test_binaries import parameters
from tests.test_processes import free_port

SGD = '--optimizer=sgd:learning_rate=0.05'
STEPS = ['--steps=8', '--save_every=4', '--validate_every=4', '--tasks_per_step=8', SGD]


def pod(folder, *given, processes=2, devices=4):
  """Trains as a local pod; returns the finished process."""
  sizes = [f'--processes={processes}', f'--devices={devices}', '--grace=5']
  train = [sys.executable, '-m', 'experiments.train', task(images_file(folder)), *TINY, *given]
  return subprocess.run(
    [sys.executable, '-m', 'launch.local_pod', *sizes, '--', *train, '--parallel=shard_map'],
    env=environment(),
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
    timeout=300,
  )


@pytest.mark.compiler
@pytest.mark.slow
def test_a_pod_trains_what_one_device_trains_and_either_continues_the_other(tmp_path):
  done = pod(tmp_path, *STEPS, f'--workdir={tmp_path / "pod"}')
  assert done.returncode == 0, done.stdout
  alone = [task(images_file(tmp_path)), *TINY, *STEPS, f'--workdir={tmp_path / "one"}']
  status, out, error = run('train', *alone)
  assert status == 0, error
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)
  jax.tree.map(close, parameters(tmp_path / 'pod')[1], parameters(tmp_path / 'one')[1])
  # One process alone reports and writes, and all test.
  assert done.stdout.count('test episodes') == out.count('test episodes') == 1
  files = lambda run: sorted(p.name for p in (tmp_path / run).iterdir())
  assert files('pod') == files('one')
  for a, b in zip(read_metrics(tmp_path / 'pod'), read_metrics(tmp_path / 'one'), strict=True):
    assert a == pytest.approx(b, abs=1e-4)
  with (
    np.load(tmp_path / 'pod' / 'episodes.npz') as a,
    np.load(tmp_path / 'one' / 'episodes.npz') as b,
  ):
    np.testing.assert_allclose(a['loss'], b['loss'], atol=1e-4)
  # From the step before the last one on the other topology.
  for folder in ('pod', 'one'):
    for path in (tmp_path / folder / 'checkpoints').glob('8*'):
      path.rename(tmp_path / f'{folder}_{path.name}')
  done = pod(tmp_path, *STEPS, f'--workdir={tmp_path / "one"}')
  assert done.returncode == 0 and 'at step 4' in done.stdout
  status, _, error = run('train', *alone[:-1], f'--workdir={tmp_path / "pod"}')
  assert status == 0 and 'at step 4' in error
  jax.tree.map(close, parameters(tmp_path / 'pod')[1], parameters(tmp_path / 'one')[1])


@pytest.mark.slow
def test_a_pod_that_is_told_to_end_saves_and_continues(tmp_path):
  given = [*STEPS, '--steps=2000', '--save_every=2000', '--validate_every=2000']
  workdir = tmp_path / 'pod'
  train = [sys.executable, '-m', 'experiments.train', task(images_file(tmp_path)), *TINY, *given]
  train += ['--parallel=shard_map', f'--workdir={workdir}']
  with subprocess.Popen(
    [sys.executable, '-m', 'launch.local_pod', '--', *train],
    env=environment(),
    cwd=REPOSITORY,
    stdout=subprocess.PIPE,
    text=True,
  ) as process:
    while not (workdir / 'metrics.jsonl').exists() or len(read_metrics(workdir)) < 3:
      assert process.poll() is None
      time.sleep(0.05)
    process.terminate()
    out, _ = process.communicate(timeout=120)
  assert process.returncode == 75, out
  (saved,) = (workdir / 'checkpoints').glob('*.json')
  assert f'step {saved.stem} of 2000 is saved; the same command continues' in out


def test_a_missing_host_is_named_in_the_time_that_was_given(tmp_path):
  with socket.create_server(('127.0.0.1', 0)) as free:
    port = free.getsockname()[1]
  given = [f'--coordinator=127.0.0.1:{port}', '--num_processes=2', '--meeting_seconds=1']
  begun = time.monotonic()
  status, _, error = run('train', *TINY, *given, '--process_id=0', f'--workdir={tmp_path / "run"}')
  assert (status, error) == (1, 'error: processes [1] did not come within 1 s; see their logs\n')
  status, _, error = run('train', *TINY, *given, '--process_id=1', f'--workdir={tmp_path / "run"}')
  assert status == 1
  assert error.startswith(f'error: no answer of process 0 at 127.0.0.1:{port} within 1 s')
  assert time.monotonic() - begun < 60
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('failing', [0, 1])
def test_why_a_process_fails_is_said_by_the_others_too(failing, tmp_path):
  """The same flags; what they name is not on both machines."""
  images_file(tmp_path)
  homes = {True: str(tmp_path / 'gone'), False: str(tmp_path)}
  data = '--task=arrays:path=~/images.npz,ways=3,shots=1,queries=2'
  given = [f'--coordinator=127.0.0.1:{free_port()}', '--num_processes=2', '--parallel=shard_map']
  begun = time.monotonic()
  processes = [
    start('train', data, *TINY, *STEPS, *given, f'--process_id={i}',
          f'--workdir={tmp_path / "run"}', HOME=homes[i == failing])
    for i in range(2)
  ]  # fmt: skip
  ended = [finish(process) for process in processes]
  reason = ended[failing][2].removeprefix('error: ')
  assert 'gone/images.npz' in reason
  assert ended[failing] == (1, '', f'error: {reason}')
  assert ended[1 - failing] == (1, '', f'error: process {failing} failed: {reason}')
  assert time.monotonic() - begun < 60


def test_processes_that_were_told_differently_say_so_and_end(tmp_path):
  shared = [task(images_file(tmp_path)), *TINY, f'--coordinator=127.0.0.1:{free_port()}']
  shared += ['--num_processes=2', '--parallel=shard_map', f'--workdir={tmp_path / "run"}']
  given = [['--seed=0', '--steps=8'], ['--seed=1', '--steps=4']]
  processes = [start('train', *shared, *each, f'--process_id={i}') for i, each in enumerate(given)]
  said = 'error: process 1 has --seed=1 --steps=4, process 0 --seed=0 --steps=8; start all with the'
  assert [finish(process, 60) for process in processes] == [(1, '', f'{said} same\n')] * 2
  assert not (tmp_path / 'run').exists()


def test_preflight_without_a_compiler_for_tpus_says_what_to_install():
  pytest.importorskip('jax')
  command = [sys.executable, '-c', 'import libtpu']
  if subprocess.run(command, capture_output=True, check=False).returncode == 0:
    pytest.skip('libtpu is installed')
  command = [sys.executable, '-m', 'launch.preflight', '--task=glyphs']
  done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
  assert done.returncode == 1
  assert done.stderr == "error: libtpu is missing; pip install 'metakit[tpu]'\n"


@pytest.mark.slow
def test_preflight_of_a_pod(tmp_path):
  pytest.importorskip('libtpu')
  found = tmp_path / 'found.json'
  given = ['--task=glyphs:ways=3', '--network=conv4:width=8,depth=2', '--tasks_per_step=16']
  command = [sys.executable, '-m', 'launch.preflight', *given, f'--json={found}']
  done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
  assert done.returncode == 0, done.stderr
  record = json.loads(found.read_text())
  assert record['chips'] == 16 and record['collectives'] == {'all-reduce': 1}


# experiments.chaos with a training that takes seconds.
CHAOS = """
import runpy, sys
from experiments.runs import chaos
chaos.TRAINING = tuple(sys.argv.pop().split())
runpy.run_module('experiments.chaos', run_name='__main__', alter_sys=True)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_at_random_ends_as_if_it_was_not(tmp_path):
  steps = ['--steps=60', '--save_every=10', '--save_minutes=0.02', '--validate_every=30']
  training = [task(images_file(tmp_path)), *TINY, *steps, '--curve=none']
  command = [sys.executable, '-c', CHAOS, '--runs=1', f'--workdir={tmp_path}', ' '.join(training)]
  done = subprocess.run(
    command,
    capture_output=True,
    text=True,
    cwd=REPOSITORY,
    env=environment(),
    check=False,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  record = json.loads(Path(tmp_path / 'chaos.json').read_text())
  assert record['seen']['runs that ended differently'] == 0
  assert any(name.startswith('SIG') for name in record['seen'])
