"""Small learners and sources that the tests of training and evaluation share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metakit.data.table import ClassTable, class_table
from metakit.episodes.few_shot import few_shot
from metakit.learners import in_context, maml, prototypical
from metakit.learners.descent import Descent
from metakit.networks import conv4, mlp, transformer
from metakit.sources import EpisodeSource
from metakit.types import MetaLearner

WAYS = 3


def table(classes: int = 12, drawings: int = 8, size: int = 8) -> ClassTable:
  """Noisy images whose class can be told: a random pattern for each class."""
  random = np.random.default_rng(0)
  patterns = random.integers(0, 200, (classes, 1, size, size, 1))
  images = patterns + random.integers(0, 55, (classes, drawings, size, size, 1))
  labels = np.repeat(np.arange(classes), drawings)
  return class_table(images.reshape(-1, size, size, 1).astype(np.uint8), labels)


def source(on_device: bool = True) -> EpisodeSource:
  """3-way 1-shot episodes with 2 queries a class."""
  rows = table()
  data = jnp.asarray(rows.x) if on_device else rows.x
  return few_shot(rows._replace(x=data), WAYS, 1, queries=2)


def drawing(learner: MetaLearner) -> MetaLearner:
  """The same learner with a loss and predictions that depend on its key."""

  def loss(key, params, episode):
    value, metrics = learner.loss(key, params, episode)
    return value * jax.random.uniform(key), metrics

  def adapt(key, params, support):
    return key, learner.adapt(key, params, support)

  def predict(fitted, x):
    key, adapted = fitted
    return learner.predict(adapted, x) * jax.random.uniform(key)

  return learner._replace(adapt=adapt, predict=predict, loss=loss, features=None)


@functools.cache
def learners() -> dict[str, MetaLearner]:
  """One learner of each family, with and without batch statistics, and one that draws."""
  return {
    'prototypical': prototypical(conv4(width=4, depth=2), WAYS),
    'maml': maml(mlp(WAYS, width=8, depth=1), Descent(optax.sgd(0.1), 2)),
    'in_context': in_context(transformer(WAYS, width=8, depth=1, heads=2), WAYS),
    'mlp': prototypical(mlp(width=8, depth=1), WAYS),
    'drawing': drawing(prototypical(mlp(width=8, depth=1), WAYS)),
  }
