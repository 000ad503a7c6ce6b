"""Small learners and sources that the tests of training and evaluation share."""

import jax.numpy as jnp
import numpy as np
import optax

from metakit.data.table import ClassTable, class_table
from metakit.episodes.few_shot import few_shot_plan
from metakit.learners import maml, prototypical
from metakit.networks import conv4, mlp
from metakit.types import EpisodeSource, MetaLearner

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
  return EpisodeSource(few_shot_plan(rows, WAYS, 1, 2), data)


def learners() -> dict[str, MetaLearner]:
  """One learner of each family that is not a transformer, with and without batch statistics."""
  return {
    'prototypical': prototypical(conv4(width=4, depth=2), WAYS),
    'maml': maml(mlp(WAYS, width=8, depth=1), optax.sgd(0.1), inner_steps=2),
    'mlp': prototypical(mlp(width=8, depth=1), WAYS),
  }
