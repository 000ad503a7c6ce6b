"""Meta-training: one step for every learner, and its compiled form for one or many devices."""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from metakit.absent import check_labels, has_known_labels
from metakit.compiler import target_platform
from metakit.data.host import on_host, read_ahead
from metakit.devices import AXIS, check_parallel, places_here, task_mesh
from metakit.divergence import check_finite
from metakit.episodes.few_shot import complete
from metakit.episodes.purity import check_sampler
from metakit.keys import Roots, fixed_key, task_key
from metakit.types import (
  Episode,
  EpisodeSource,
  Examples,
  Key,
  MetaLearner,
  Metrics,
  Params,
  Sampler,
)


class TrainState(NamedTuple):
  """All that changes in training; with the seed, it determines the rest of the run.

  Attributes:
    step: int32, number of steps done.
    params: the meta-parameters.
    opt_state: the outer optimizer's state.
  """

  step: jax.Array
  params: Params
  opt_state: Any


TrainStep = Callable[[TrainState, Key, Episode], tuple[TrainState, Metrics]]


def init_state(
  learner: MetaLearner, optimizer: optax.GradientTransformation, key: Key, sampler: Sampler
) -> TrainState:
  """Returns the state before the first step.

  Args:
    learner: the learner.
    optimizer: the outer optimizer.
    key: determines the initial parameters.
    sampler: makes an episode of the shapes to come.

  Raises:
    ValueError: if its labels are none of the learner's classes, or it is no function of its key
      (metakit.episodes.purity).
  """
  params_key, episode_key = jax.random.split(key)
  check_sampler(sampler, episode_key)
  episode = sampler(episode_key)
  params = learner.init(params_key, episode)
  _check_episode(learner, params, episode)
  return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def _check_episode(learner: MetaLearner, params: Params, episode: Episode) -> None:
  """Raises ValueError for labels that the learner has no output for; see check_labels."""

  def answer(params: Params, support: Examples, x: Any) -> jax.Array:
    return learner.predict(learner.adapt(fixed_key(0), params, support), x)

  if has_known_labels(episode):
    outputs = jax.eval_shape(answer, params, episode.support, episode.query.x).shape[-1]
    for part in (episode.support, episode.query):
      check_labels(part.y, outputs)


def make_train_step(
  learner: MetaLearner,
  optimizer: optax.GradientTransformation,
  axis_name: str | None = None,
  tasks_at_once: int | None = None,
) -> TrainStep:
  """Returns the meta-training step: the gradient of the mean loss of a batch of tasks.

  Args:
    learner: any MetaLearner.
    optimizer: any optax transformation.
    axis_name: the mapped axis over which the tasks are spread, if any.
    tasks_at_once: how many tasks run side by side under vmap; groups follow one another, their
      gradients added up, so that memory is that of one group. By default all, but on a CPU one task
      of images at a time, whose activations then stay in the caches.

  Returns:
    step(state, keys, episodes) -> (state, metrics); keys [tasks] are for the learner, episodes have
    a leading task axis. Metrics are means over tasks (and over the axis), with 'loss' (the meta-
    training loss) and 'gradient_norm'. It raises ValueError if tasks_at_once does not divide the
    tasks.
  """

  def mean_loss(
    params: Params, number: jax.Array, keys: Key, episodes: Episode
  ) -> tuple[jax.Array, Metrics]:
    loss = learner.loss if learner.loss_at is None else partial(learner.loss_at, number)
    losses, metrics = _side_by_side(loss)(keys, params, episodes)
    metrics = {**metrics, 'loss': losses}
    return losses.mean(), jax.tree.map(jnp.mean, metrics)

  def step(state: TrainState, keys: Key, episodes: Episode) -> tuple[TrainState, Metrics]:
    slope = jax.grad(mean_loss, has_aux=True)
    gradient = lambda params, *tasks: slope(params, state.step, *tasks)
    groups = len(keys) // group_size(len(keys), episodes, tasks_at_once)
    grads, metrics = _mean_over_groups(gradient, groups, state.params, keys, episodes)
    if axis_name is not None:
      grads, metrics = jax.lax.pmean((grads, metrics), axis_name)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    metrics['gradient_norm'] = optax.tree.norm(grads)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state), metrics

  return step


def group_size(tasks: int, episodes: Episode, tasks_at_once: int | None) -> int:
  """Returns how many of `tasks` tasks run side by side; see make_train_step."""
  check_groups(tasks, tasks_at_once)
  if tasks_at_once is None:
    images = episodes.support.x.ndim == 5  # [tasks, examples, height, width, channels]
    return 1 if images and target_platform() == 'cpu' else tasks
  return tasks_at_once


def check_groups(tasks: int, tasks_at_once: int | None) -> None:
  """Raises ValueError if the tasks of a device cannot be grouped evenly."""
  if tasks_at_once is not None and (tasks_at_once < 1 or tasks % tasks_at_once):
    raise ValueError(
      f'tasks_at_once={tasks_at_once} does not divide the {tasks} tasks of a device; use a divisor'
    )


def _side_by_side(loss: Callable[..., Any]) -> Callable[..., Any]:
  """Returns vmap of a loss over tasks; a single task goes without.

  An axis of one task would make products of batches of one, a quarter more time on a CPU.
  """

  def losses(keys: Key, params: Params, episodes: Episode) -> Any:
    if len(keys) > 1:
      return jax.vmap(loss, (0, None, 0))(keys, params, episodes)
    of_one = loss(keys[0], params, jax.tree.map(lambda leaf: leaf[0], episodes))
    return jax.tree.map(lambda leaf: leaf[None], of_one)

  return losses


def _mean_over_groups(
  gradient: Callable[..., Any], groups: int, params: Params, keys: Key, episodes: Episode
) -> tuple[Params, Metrics]:
  """Gradient and metrics of the mean over tasks, one group of tasks after the other."""
  if groups == 1:
    return gradient(params, keys, episodes)
  split = lambda leaf: leaf.reshape(groups, -1, *leaf.shape[1:])
  grouped = jax.tree.map(split, (keys, episodes))

  def add(total: Any, group: Any) -> tuple[Any, None]:
    one = gradient(params, *group)
    return jax.tree.map(lambda sum, leaf: sum + leaf.astype(sum.dtype), total, one), None

  shapes = jax.eval_shape(gradient, params, *jax.tree.map(lambda leaf: leaf[0], grouped))
  # In float32 at least: a long sum in bfloat16 no longer grows by what is added.
  wide = lambda leaf: jnp.promote_types(leaf.dtype, jnp.float32)
  none = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, wide(leaf)), shapes)
  total, _ = jax.lax.scan(add, none, grouped)
  return jax.tree.map(lambda leaf, like: (leaf / groups).astype(like.dtype), total, shapes)


class Dispatch(NamedTuple):
  """Several training steps in one call to the devices; the state passed in is donated.

  Attributes:
    sampled: (num_steps, state, data) -> (state, metrics [num_steps]). Episodes are drawn on the
      device; `data` is the source's table, or None.
    fed: (state, episodes) -> (state, metrics [steps]). Episodes [steps, tasks, ...] come from the
      host (metakit.data.host).
    plan: (num_steps, first_step) -> episodes of the plan [steps, tasks, ...], row numbers for
      `fed`; the tasks that `sampled` draws, of these those of this process's devices.
  """

  sampled: Callable[[int, TrainState, Any], tuple[TrainState, Metrics]]
  fed: Callable[[TrainState, Episode], tuple[TrainState, Metrics]]
  plan: Callable[[int, int], Episode]


def make_dispatch(
  learner: MetaLearner,
  optimizer: optax.GradientTransformation,
  source: EpisodeSource,
  roots: Roots,
  tasks_per_step: int,
  parallel: str = 'none',
  devices: Sequence[jax.Device] | None = None,
  tasks_at_once: int | None = None,
) -> Dispatch:
  """Compiles the training step for one or many devices.

  The tasks of a step are those of task_key(roots.train, step, i), i < tasks_per_step, however many
  devices share them.

  Args:
    learner: any MetaLearner.
    optimizer: the outer optimizer.
    source: the training episodes; EpisodeSource(sampler) for a sampler of whole ones.
    roots: the keys of the run.
    tasks_per_step: tasks in each meta-gradient.
    parallel: 'none' (one device), 'pmap' or 'shard_map' (the task axis spread over devices).
    devices: all devices of all processes by default. Every process calls with the same arguments
      and its own local state; it computes the tasks of its devices.
    tasks_at_once: of each device, see make_train_step.

  Raises:
    ValueError: for an unknown `parallel`, 'none' among several processes, or tasks_per_step not
      divisible by the devices or, then, by tasks_at_once.
  """
  devices = list(devices or jax.devices())
  check_parallel(tasks_per_step, parallel, len(devices))
  if parallel == 'none' and jax.process_count() > 1:
    raise ValueError(
      f"parallel='none' is for one process, not {jax.process_count()}; use shard_map or pmap"
    )
  sharing = 1 if parallel == 'none' else len(devices)
  check_groups(tasks_per_step // sharing, tasks_at_once)
  axis_name = None if parallel == 'none' else AXIS
  step = make_train_step(learner, optimizer, axis_name, tasks_at_once)

  def plan_step(number: jax.Array, indices: jax.Array) -> Episode:
    plan = source.plan if source.schedule is None else source.schedule(number)
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
  indices = np.arange(tasks_per_step, dtype=np.int32)  # NumPy: the same in every process
  run, feed = spread(sampled, fed, indices, devices)
  own = np.concatenate(indices.reshape(sharing, -1)[places_here(devices[:sharing])])
  return Dispatch(run, feed, _plan_steps(plan_step, own))


def _plan_steps(plan_step: Callable[..., Episode], indices: Any) -> Callable[..., Episode]:
  @partial(jax.jit, static_argnums=0)
  def plan_steps(num_steps: int, first_step: int) -> Episode:
    return jax.vmap(lambda s: plan_step(s, indices))(first_step + jnp.arange(num_steps))

  return plan_steps


# Each of the following returns the `sampled` and `fed` of a Dispatch.


def _one_device(sampled, fed, indices, devices):
  del devices  # jit runs where its arguments are
  run = lambda n, state, data: sampled(n, state, indices, data)
  feed = lambda state, episodes: fed(state, indices, episodes)
  return jax.jit(run, static_argnums=0, donate_argnums=1), jax.jit(feed, donate_argnums=0)


def _pmap(sampled, fed, indices, devices):
  # State goes in and out unstacked; pmean has made every device's equal.
  local = places_here(devices)
  mesh = task_mesh([devices[i] for i in local])
  rows = indices.reshape(len(devices), -1)[local]  # the leading axis counts local devices
  rows = jax.device_put(rows, NamedSharding(mesh, PartitionSpec(AXIS)))  # once
  options: dict[str, Any] = {'axis_name': AXIS, 'out_axes': None, 'devices': devices}
  given = {'static_broadcasted_argnums': 0, 'donate_argnums': 1, **options}
  run = jax.pmap(sampled, in_axes=(None, None, 0, None), **given)
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
  # check_vma=False: with it, the gradient with respect to replicated parameters is already summed
  # over the devices, in the inner loop of a learner too, which then mixes the tasks of all devices.
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
  first: int,
  stop: int,
  steps_per_dispatch: int,
  on_metrics: Callable[[int, Metrics], None],
  pause: Callable[[], bool] = lambda: False,
) -> TrainState:
  """Trains from step `first` to `stop`, or to a pause before it.

  The metrics of a dispatch are fetched after the next one is under way, so the devices do not wait.

  Args:
    dispatch: of make_dispatch.
    state: the state at step `first`; donated.
    source: the training episodes; with its table on the host, rows are read ahead by a thread.
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
