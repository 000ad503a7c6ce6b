import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from metakit.dispatch import make_dispatch
from metakit.evaluation import evaluate
from metakit.objectives import cross_entropy
from tests import tiny
from tests.test_train import ROOTS, SGD, TASKS, start, trained


def free_port() -> int:
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


def run_two(parallel, name, out):
  flags = os.environ['XLA_FLAGS'].replace('device_count=8', 'device_count=4')
  environment = os.environ | {'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'}
  port = str(free_port())
  worker = [sys.executable, '-W', 'error', '-m', 'tests.worker', port, '2']
  command = lambda i: [*worker, str(i), parallel, name, out]
  running = [subprocess.Popen(command(i), env=environment) for i in range(2)]
  try:
    assert [process.wait(timeout=240) for process in running] == [0, 0]
  finally:
    for process in running:
      process.kill()
  return np.load(out)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
  ('name', 'parallel'),
  [
    ('drawing', 'shard_map'),
    pytest.param('maml', 'pmap', marks=SLOW),
    pytest.param('in_context', 'shard_map', marks=SLOW),
  ],
)
def test_two_processes_of_four_devices_equal_one_device(name, parallel, tmp_path):
  result = run_two(parallel, name, str(tmp_path / 'out.npz'))
  assert result['devices'] == 8
  learner, source = tiny.learners()[name], tiny.source()
  for i, leaf in enumerate(jax.tree.leaves(trained(name, 'none', 2)[0].params)):
    np.testing.assert_allclose(result[f'leaf{i}'], leaf, rtol=0, atol=2e-6)
    np.testing.assert_allclose(result[f'fed{i}'], leaf, rtol=0, atol=2e-6)
  plan = make_dispatch(learner, SGD, source, ROOTS, tasks_per_step=TASKS).plan
  np.testing.assert_array_equal(result['rows'], plan(2, 0).support.x)
  alone = evaluate(
    learner, cross_entropy, start(learner).params, source=source, root=ROOTS.test, episodes=21
  )
  np.testing.assert_allclose(result['losses'], alone['loss'], rtol=1e-5, atol=1e-5)
