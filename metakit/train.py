"""Meta-training: one step for every learner, and its compiled form for one or many devices."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from metakit.absent import check_labels, has_known_labels
from metakit.episodes.purity import check_sampler
from metakit.keys import fixed_key
from metakit.platforms import target_platform
from metakit.types import (
  Episode,
  Examples,
  Key,
  MetaLearner,
  Metrics,
  Params,
  Sampler,
)


class TrainState(NamedTuple):
  """All that changes in training. Together with the seed it determines the rest of the run.

  Attributes:
    step: int32, number of steps done.
    params: the meta-parameters.
    opt_state: the outer optimizer's state.
  """

  step: jax.Array
  params: Params
  opt_state: Any


class TrainStep(Protocol):
  """A meta-training step; see make_train_step."""

  def __call__(
    self, state: TrainState, keys: Key, episodes: Episode, /
  ) -> tuple[TrainState, Metrics]:
    """Returns the state after the step, and its metrics."""
    ...


def init_state(
  learner: MetaLearner, optimizer: optax.GradientTransformation, key: Key, sampler: Sampler
) -> TrainState:
  """Returns the state before the first step.

  Args:
    learner: the learner.
    optimizer: the outer optimizer.
    key: determines the initial parameters.
    sampler: the training episodes: a source, or another sampler.

  Raises:
    ValueError: if the learner has no output for a label, or if the episodes do not depend on their
      key alone (metakit.episodes.purity).

  >>> import metakit
  >>> table = metakit.data.arrays(jnp.eye(4), [0, 1, 0, 1])
  >>> source = metakit.episodes.few_shot(table, ways=2, shots=1, queries=1)
  >>> head = metakit.heads.prototypes(ways=2, temperature=1.0)
  >>> state = init_state(head, optax.adam(1e-3), metakit.roots(0).init, source)
  >>> int(state.step), state.params
  (0, {'log_temperature': Array(0., dtype=float32)})
  """
  _, episode_key = jax.random.split(key)
  check_sampler(sampler, episode_key)
  return init_state_for(learner, optimizer, key, sampler(episode_key))


def init_state_for(
  learner: MetaLearner, optimizer: optax.GradientTransformation, key: Key, episode: Episode
) -> TrainState:
  """As `init_state`, but from an example of an episode, without the sampler."""
  params_key, _ = jax.random.split(key)
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
  *,
  tasks_at_once: int | None = None,
) -> TrainStep:
  """Returns the meta-training step: the gradient of the mean loss of a batch of tasks.

  Args:
    learner: any MetaLearner.
    optimizer: any optax transformation.
    axis_name: the mapped axis over which the tasks are spread, if any.
    tasks_at_once: how many tasks run side by side under vmap. Groups run one after the other, and
      their gradients are added up, so memory is that of one group. By default all tasks run side by
      side, except that a CPU runs one task of images at a time, whose activations then stay in the
      caches.

  Returns:
    step(state, keys, episodes) -> (state, metrics). keys [tasks] are for the learner; episodes have
    a leading task axis. Metrics are means over tasks (and over the axis). They hold 'loss', the
    meta-training loss, and 'gradient_norm'. The step raises ValueError if tasks_at_once does not
    divide the tasks.

  >>> import metakit
  >>> table = metakit.data.arrays(jnp.eye(4), [0, 1, 0, 1])
  >>> source = metakit.episodes.few_shot(table, ways=2, shots=1, queries=1)
  >>> head, adam = metakit.heads.prototypes(ways=2, temperature=1.0), optax.adam(1e-3)
  >>> keys = jax.random.split(jax.random.key(0), 4)
  >>> start = jax.eval_shape(lambda: init_state(head, adam, keys[0], source))
  >>> run = lambda state: make_train_step(head, adam)(state, keys, jax.vmap(source)(keys))
  >>> sorted(jax.eval_shape(run, start)[1])
  ['accuracy', 'gradient_norm', 'loss']
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
  """Returns vmap of a loss over tasks; a single task runs without vmap.

  An axis of one task would make batched products of it, which take a quarter more time on a CPU.
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
  """Returns gradient and metrics of the mean over tasks, one group of tasks after the other."""
  if groups == 1:
    return gradient(params, keys, episodes)
  split = lambda leaf: leaf.reshape(groups, -1, *leaf.shape[1:])
  grouped = jax.tree.map(split, (keys, episodes))

  def add(total: Any, group: Any) -> tuple[Any, None]:
    one = gradient(params, *group)
    return jax.tree.map(lambda sum, leaf: sum + leaf.astype(sum.dtype), total, one), None

  shapes = jax.eval_shape(gradient, params, *jax.tree.map(lambda leaf: leaf[0], grouped))
  # Sums are float32 at least, since a large bfloat16 number does not change by a small addition.
  wide = lambda leaf: jnp.promote_types(leaf.dtype, jnp.float32)
  none = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, wide(leaf)), shapes)
  total, _ = jax.lax.scan(add, none, grouped)
  return jax.tree.map(lambda leaf, like: (leaf / groups).astype(like.dtype), total, shapes)
