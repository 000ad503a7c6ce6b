"""Meta-training in calls of many steps, on one or many devices."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from metakit.devices import AXIS, check_parallel, places_here, spread_table, task_mesh
from metakit.divergence import check_finite
from metakit.keys import Roots, task_key
from metakit.sources import (
  EpisodeSource,
  as_source,
  complete,
  on_host,
  place,
  plan_at,
  read_ahead,
  read_rows,
)
from metakit.train import TrainState, check_groups, make_train_step
from metakit.types import Episode, MetaLearner, Metrics, Sampler


class Dispatch(NamedTuple):
  """Several training steps in one call to the devices; the state passed in is donated.

  Call it as dispatch(num_steps, state) -> (state, metrics [num_steps]). It trains on the episodes
  of its source. The first call puts the table on the devices. If the table is too large for them
  (metakit.sources.BUDGET_BYTES), the host reads the rows before each call.

  Attributes:
    sampled: (num_steps, state, data) -> (state, metrics [num_steps]). Episodes are drawn on the
      device; `data` is the source's table, or None.
    fed: (state, episodes) -> (state, metrics [steps]). Episodes [steps, tasks, ...] come from the
      host (metakit.sources.read_ahead).
    plan: (num_steps, first_step) -> episodes [steps, tasks, ...] with row numbers, for `fed`. They
      are the tasks that `sampled` would draw, for the devices of this process.
    placed: () -> the source, with its table where a call needs it.
  """

  sampled: Callable[[int, TrainState, Any], tuple[TrainState, Metrics]]
  fed: Callable[[TrainState, Episode], tuple[TrainState, Metrics]]
  plan: Callable[[int, int], Episode]
  placed: Callable[[], EpisodeSource]

  def __call__(self, num_steps: int, state: TrainState, /) -> tuple[TrainState, Metrics]:
    """Trains for some steps, in one call to the devices."""
    source = self.placed()
    if not on_host(source):
      return self.sampled(num_steps, state, source.data)
    planned = self.plan(num_steps, int(state.step))
    return self.fed(state, read_rows(planned, source.data))


def make_dispatch(
  learner: MetaLearner,
  optimizer: optax.GradientTransformation,
  sampler: Sampler,
  roots: Roots,
  *,
  tasks_per_step: int,
  parallel: str = 'none',
  devices: Sequence[jax.Device] | None = None,
  tasks_at_once: int | None = None,
) -> Dispatch:
  """Compiles the training step for one or many devices.

  The tasks of a step are those of task_key(roots.train, step, i), i < tasks_per_step. That does not
  depend on how many devices share them.

  Args:
    learner: any MetaLearner.
    optimizer: the outer optimizer.
    sampler: the training episodes: a source, or another sampler.
    roots: the keys of the run.
    tasks_per_step: tasks in each meta-gradient.
    parallel: 'none' (one device), 'pmap' or 'shard_map' (the task axis spread over devices).
    devices: all devices of all processes by default. Every process calls with the same arguments
      and its own local state, and computes the tasks of its devices.
    tasks_at_once: how many tasks a device computes side by side, see make_train_step.

  Raises:
    ValueError: for an unknown `parallel`, for 'none' among several processes, if the devices do not
      divide tasks_per_step, or if tasks_at_once does not divide the tasks of a device.

  >>> import metakit
  >>> table = metakit.data.arrays(np.eye(4, dtype=np.float32), [0, 1, 0, 1])
  >>> source = metakit.episodes.few_shot(table, ways=2, shots=1, queries=1)
  >>> head = metakit.heads.prototypes(ways=2, temperature=1.0)
  >>> keys, adam = metakit.roots(0), optax.adam(1e-3)
  >>> dispatch = make_dispatch(head, adam, source, keys, tasks_per_step=4)
  >>> state, metrics = dispatch(10, metakit.init_state(head, adam, keys.init, source))
  >>> int(state.step), metrics['loss'].shape
  (10, (10,))
  """
  source, devices = as_source(sampler), list(devices or jax.devices())
  check_parallel(tasks_per_step, parallel, len(devices))
  if parallel == 'none' and jax.process_count() > 1:
    raise ValueError(
      f"parallel='none' is for one process, not {jax.process_count()}; use shard_map or pmap"
    )
  sharing = 1 if parallel == 'none' else len(devices)
  check_groups(tasks_per_step // sharing, tasks_at_once)
  axis_name = None if parallel == 'none' else AXIS
  step = make_train_step(learner, optimizer, axis_name, tasks_at_once=tasks_at_once)

  def plan_step(number: jax.Array, indices: jax.Array) -> Episode:
    plan = plan_at(source, number)
    return jax.vmap(lambda i: plan(task_key(roots.train, number, i)))(indices)

  def advance(state: TrainState, indices: jax.Array, episodes: Episode, data: Any):
    keys = jax.vmap(lambda i: task_key(roots.learner, state.step, i))(indices)
    whole = jax.vmap(lambda episode: complete(source, episode, data))(episodes)
    return step(state, keys, whole)

  def sampled(num_steps: int, state: TrainState, indices: jax.Array, data: Any):
    body = lambda state, _: advance(state, indices, plan_step(state.step, indices), data)
    return jax.lax.scan(body, state, None, length=num_steps)

  def fed(state: TrainState, indices: jax.Array, episodes: Episode):
    return jax.lax.scan(lambda state, e: advance(state, indices, e, None), state, episodes)

  spread = {'none': _one_device, 'pmap': _pmap, 'shard_map': _shard_map}[parallel]
  # An array of NumPy, since it is the same in every process.
  indices = np.arange(tasks_per_step, dtype=np.int32)
  run, feed = spread(sampled, fed, indices, devices)
  mine = np.concatenate(indices.reshape(sharing, -1)[places_here(devices[:sharing])])
  # The table is put on the devices once.
  placed = functools.cache(lambda: spread_table(place(source), parallel, devices))
  return Dispatch(run, feed, _plan_steps(plan_step, mine), placed)


def _plan_steps(plan_step: Callable[..., Episode], indices: Any) -> Callable[..., Episode]:
  @partial(jax.jit, static_argnums=0)
  def plan_steps(num_steps: int, first_step: int) -> Episode:
    return jax.vmap(lambda s: plan_step(s, indices))(first_step + jnp.arange(num_steps))

  return plan_steps


# Each of the following returns the `sampled` and `fed` of a Dispatch.


def _one_device(sampled, fed, indices, devices):
  del devices  # jit runs on the device that its arguments are on
  run = lambda n, state, data: sampled(n, state, indices, data)
  feed = lambda state, episodes: fed(state, indices, episodes)
  return jax.jit(run, static_argnums=0, donate_argnums=1), jax.jit(feed, donate_argnums=0)


def _pmap(sampled, fed, indices, devices):
  # The state has no device axis, going in or out: pmean has made it equal on all devices.
  local = places_here(devices)
  mesh = task_mesh([devices[i] for i in local])
  rows = indices.reshape(len(devices), -1)[local]  # the leading axis counts local devices
  # They are put there now, and not at every call.
  rows = jax.device_put(rows, NamedSharding(mesh, PartitionSpec(AXIS)))
  options: dict[str, Any] = {'axis_name': AXIS, 'out_axes': None, 'devices': devices}
  settings = {'static_broadcasted_argnums': 0, 'donate_argnums': 1, **options}
  run = jax.pmap(sampled, in_axes=(None, None, 0, None), **settings)
  feed = jax.pmap(fed, in_axes=(None, 0, 1), donate_argnums=0, **options)

  def split(leaf):  # [steps, tasks, ...] -> [steps, local devices, tasks of a device, ...]
    return leaf.reshape(leaf.shape[0], len(local), -1, *leaf.shape[2:])

  return (
    lambda n, state, data: run(n, state, rows, data),
    lambda state, episodes: feed(state, rows, jax.tree.map(split, episodes)),
  )


def _shard_map(sampled, fed, indices, devices):
  mesh = task_mesh(devices)
  same, split = PartitionSpec(), PartitionSpec(AXIS)
  # check_vma=True would sum the gradient of replicated parameters over the devices, also in the
  # inner loop of a learner, which would then mix the tasks of all devices.
  wrap = partial(jax.shard_map, mesh=mesh, out_specs=same, check_vma=False)

  @partial(jax.jit, static_argnums=0, donate_argnums=1)
  def run(n, state, data):
    body = wrap(partial(sampled, n), in_specs=(same, split, same))
    return body(state, indices, data)

  batch = PartitionSpec(None, AXIS)

  @partial(jax.jit, donate_argnums=0)
  def feed(state, episodes):
    return wrap(fed, in_specs=(same, split, batch))(state, indices, episodes)

  together = partial(jax.make_array_from_process_local_data, NamedSharding(mesh, batch))
  return run, lambda state, episodes: feed(state, jax.tree.map(together, episodes))


def train_until(
  dispatch: Dispatch,
  state: TrainState,
  source: EpisodeSource,
  *,
  first: int,
  stop: int,
  steps_per_dispatch: int,
  on_metrics: Callable[[int, Metrics], None],
  pause: Callable[[], bool] = lambda: False,
) -> TrainState:
  """Trains from step `first` to `stop`, or to a pause before it.

  The metrics of a dispatch are fetched while the next one runs, so that the devices do not wait.

  Args:
    dispatch: what make_dispatch returned.
    state: the state at step `first`; donated.
    source: the training episodes. If its table is on the host, a thread reads rows ahead.
    first: number of the first step.
    stop: number of steps done at the end.
    steps_per_dispatch: steps in one call to the devices; the last call may be shorter.
    on_metrics: called with the number of a dispatch's first step and its metrics [steps].
    pause: asked after each dispatch whether to stop there.

  Returns:
    The state at `stop`, or at the end of the dispatch after which `pause` was true; its `step` says
    which.

  Raises:
    NonFiniteLoss: naming the steps.

  >>> import metakit
  >>> table = metakit.data.arrays(np.eye(4, dtype=np.float32), [0, 1, 0, 1])
  >>> source = metakit.episodes.few_shot(table, ways=2, shots=1, queries=1)
  >>> head = metakit.heads.prototypes(ways=2, temperature=1.0)
  >>> keys, adam = metakit.roots(0), optax.adam(1e-3)
  >>> dispatch = make_dispatch(head, adam, source, keys, tasks_per_step=4)
  >>> state = metakit.init_state(head, adam, keys.init, source)
  >>> say = lambda first, metrics: print('from step', first, metrics['loss'].shape)
  >>> span = {'first': 0, 'stop': 20, 'steps_per_dispatch': 10}
  >>> int(train_until(dispatch, state, source, **span, on_metrics=say).step)
  from step 0 (10,)
  from step 10 (10,)
  20
  """
  count = lambda start: min(steps_per_dispatch, stop - start)
  starts = range(first, stop, steps_per_dispatch)
  if on_host(source):
    batches = read_ahead(lambda start: dispatch.plan(count(start), start), source.data, starts)
    advance = lambda start, state: dispatch.fed(state, next(batches))
  else:
    batches = None
    advance = lambda start, state: dispatch.sampled(count(start), state, source.data)
  no_transfers = partial(jax.transfer_guard_host_to_device, 'allow' if batches else 'disallow')

  def report(start: int, metrics: Metrics) -> None:
    metrics = jax.device_get(metrics)
    check_finite(start, metrics)
    on_metrics(start, metrics)

  pending = None
  try:
    for start in starts:
      with no_transfers() if start > first else contextlib.nullcontext():  # `state` may be NumPy's
        state, metrics = advance(start, state)
      if pending:
        report(*pending)
      pending = start, metrics
      if pause():
        break
    if pending:
      report(*pending)
  finally:
    if batches is not None:
      batches.close()  # ends the reading thread
  return state
