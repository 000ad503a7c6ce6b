"""One process of tests/test_processes.py: trains 20 steps and writes what came out."""

import sys

import jax
import numpy as np

if __name__ == '__main__':
  port, processes, number, parallel, name, out = sys.argv[1:]
  jax.distributed.initialize(f'127.0.0.1:{port}', int(processes), int(number))

  from metakit.train import make_dispatch
  from tests import tiny
  from tests.test_train import ROOTS, SGD, TASKS, start

  learner, source = tiny.learners()[name], tiny.source()
  dispatch = make_dispatch(learner, SGD, source.plan, ROOTS, TASKS, parallel)
  state = jax.device_get(start(learner))
  state, metrics = dispatch.sampled(20, state, jax.device_get(source.data))
  rows = dispatch.plan(20, 0).support.x
  leaves = [np.asarray(leaf.addressable_data(0)) for leaf in jax.tree.leaves(state.params)]
  if jax.process_index() == 0:
    np.savez(
      out, rows=rows, devices=jax.device_count(), **{f'leaf{i}': x for i, x in enumerate(leaves)}
    )
