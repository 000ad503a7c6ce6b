"""One process of tests/test_processes.py: trains two steps and writes what came out."""

import sys

import jax
import numpy as np

if __name__ == '__main__':
  port, processes, number, parallel, name, out = sys.argv[1:]
  jax.distributed.initialize(f'127.0.0.1:{port}', int(processes), int(number))

  from jax.experimental import multihost_utils

  from metakit.dispatch import make_dispatch
  from metakit.evaluation import evaluate
  from metakit.objectives import cross_entropy
  from metakit.sources import read_rows
  from tests import tiny
  from tests.test_train import ROOTS, SGD, TASKS, start

  learner, source = tiny.learners()[name], tiny.source()
  dispatch = make_dispatch(learner, SGD, source, ROOTS, tasks_per_step=TASKS, parallel=parallel)
  local = lambda state: [np.asarray(a.addressable_data(0)) for a in jax.tree.leaves(state.params)]
  first, data = jax.device_get(start(learner)), jax.device_get(source.data)
  leaves = local(dispatch.sampled(2, first, data)[0])
  fed = local(dispatch.fed(first, read_rows(dispatch.plan(2, 0), data))[0])  # rows by the host
  judged = evaluate(
    learner,
    cross_entropy,
    first.params,
    source=source,
    root=ROOTS.test,
    episodes=21,
    chunk=1,  # three of each process, which take turns
    parallel=parallel,
  )
  planned = multihost_utils.process_allgather(dispatch.plan(2, 0).support.x)
  if jax.process_index() == 0:
    arrays = {f'leaf{i}': x for i, x in enumerate(leaves)} | {
      f'fed{i}': x for i, x in enumerate(fed)
    }
    arrays |= {'losses': judged['loss'], 'devices': jax.device_count()}
    np.savez(out, rows=np.concatenate(planned, axis=1), **arrays)
