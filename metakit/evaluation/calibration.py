"""What is measured before a test, on training episodes or on a whole table."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from metakit.evaluation.kept import keep_programs_of
from metakit.keys import task_key
from metakit.sources import EpisodeSource, Finish, as_source, complete, on_host, read_rows
from metakit.types import Calibrate, Episode, Key, MetaLearner, Params, Sampler


def calibrate(
  learner: MetaLearner, params: Params, source: Sampler, *, root: Key, episodes: int = 32
) -> Params:
  """Calibrates a learner on training episodes: task_key(root, 0, i), i < episodes.

  Args:
    learner: any MetaLearner.
    params: the meta-parameters.
    source: the training episodes: a source, or another sampler.
    root: the root key of the episodes, such as roots(seed).calibration.
    episodes: how many of them are used.

  >>> import metakit
  >>> table = metakit.data.arrays(np.array([[1.0], [3.0]] * 2, np.float32), [0, 1, 0, 1])
  >>> source = metakit.episodes.few_shot(table, ways=2, shots=1, queries=1)
  >>> head, root = metakit.heads.simpleshot(ways=2), metakit.roots(0).calibration
  >>> params = jax.jit(lambda key: head.init(key, source(key)))(jax.random.key(0))
  >>> calibrate(head, params, source, root=root)['mean'].tolist()  # of the training features
  [2.0]
  """
  source = as_source(source)
  planned, data = _planner(source.plan, episodes)(root), source.data
  if on_host(source):
    planned, data = read_rows(planned, data), None
  return _measurer(learner.calibrate, source.plan, source.finish)(params, planned, data)


def embed_source(
  learner: MetaLearner, params: Params, source: Sampler, *, chunk: int = 512
) -> tuple[MetaLearner, EpisodeSource]:
  """Embeds a whole table once, where the learner and the source allow it.

  Args:
    learner: a MetaLearner; one with `features` embeds each example by itself.
    params: the meta-parameters, calibrated.
    source: the episodes to come.
    chunk: rows embedded at a time.

  Returns:
    The head of the learner and a source of the same episodes with embeddings. They give the same
    predictions, and each row is embedded once. The learner and the source themselves are returned
    if the learner has no `features`, or if the source has no table or changes its rows.

  >>> import metakit
  >>> table = metakit.data.arrays(np.zeros((8, 8, 8, 1), np.uint8), [0, 1] * 4)
  >>> source = metakit.episodes.few_shot(table, ways=2, shots=1, queries=1)
  >>> learner = metakit.learners.prototypical(metakit.networks.mlp(width=16), ways=2)
  >>> params = jax.jit(lambda key: learner.init(key, source(key)))(jax.random.key(0))
  >>> head, embedded = embed_source(learner, params, source)
  >>> source.data.shape, embedded.data.shape
  ((8, 8, 8, 1), (8, 16))
  """
  source = as_source(source)
  if learner.features is None or source.data is None or source.finish is not None:
    return learner, source
  embed = _compiled(learner.features.embed)
  rows = len(source.data)
  parts = []
  for start in range(0, rows, chunk):
    index = np.minimum(np.arange(start, start + chunk), rows - 1)  # one shape, one compilation
    x = jnp.asarray(source.data[index]) if on_host(source) else _gather(source.data, index)
    parts.append(embed(params, x))
  return learner.features.head, source.replace(data=_join(parts, rows))


# Outside of a jit each of the following would be several small programs.


@jax.jit
def _gather(data: jax.Array, index: jax.Array) -> jax.Array:
  return data[index]


@partial(jax.jit, static_argnums=1)
def _join(parts: list[jax.Array], rows: int) -> jax.Array:
  return jnp.concatenate(parts)[:rows]


_compiled = keep_programs_of(jax.jit)


@keep_programs_of
def _measurer(measure: Calibrate, plan: Sampler, finish: Finish | None) -> Callable[..., Params]:
  """Returns a compiled function: (params, planned episodes, data) -> calibrated params."""
  source = EpisodeSource(plan, finish=finish)

  @jax.jit
  def calibrated(params: Params, planned: Episode, data: jax.Array | None) -> Params:
    whole = jax.vmap(lambda episode: complete(source, episode, data))(planned)
    return measure(params, whole)

  return calibrated


@keep_programs_of
def _planner(plan: Sampler, episodes: int) -> Callable[[Key], Episode]:
  """Returns a compiled function: root -> planned episodes, [episodes, ...]."""

  @jax.jit
  def plan_all(root: Key) -> Episode:
    return jax.vmap(lambda i: plan(task_key(root, 0, i)))(jnp.arange(episodes))

  return plan_all
