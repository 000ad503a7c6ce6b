"""What a meta-training step of each learner costs, on the same episodes and network."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.suite import Suite
from experiments.benchmarks.timing import Case, compiled_case
from metakit.components.descent_learners import BY_SIGNATURE
from metakit.components.learners import DEFAULT_NETWORK, LEARNER_SUPPLIED, LEARNERS
from metakit.components.specs import build, parse
from metakit.models import Model
from metakit.networks.conv4 import conv4
from metakit.objectives import cross_entropy
from metakit.train import init_state_for, make_train_step
from metakit.types import Episode, Examples, MetaLearner

WAYS, SHOTS, QUERIES, TASKS, CLASSES, WIDTH = 5, 1, 5, 4, 4112, 64
IMAGE_LEARNERS = tuple(sorted(n for n in BY_SIGNATURE if DEFAULT_NETWORK[n] == 'conv4'))


def make(
  spec: str, network: Callable[[int], Model] = lambda ways: conv4(ways, WIDTH)
) -> MetaLearner:
  """Returns a learner for 5-way tasks, by default with Conv4."""
  return build(
    parse('learner', LEARNERS, spec, supplied=LEARNER_SUPPLIED),
    network=network,
    num_outputs=WAYS,
    objective=cross_entropy,
    num_classes=lambda: CLASSES,
  )


def episodes() -> Episode:
  """Returns tasks of noise in the shape of Omniglot's."""
  rng = np.random.default_rng(0)

  def draw(number: int) -> Examples:
    images = rng.normal(size=(TASKS, WAYS * number, 28, 28, 1)).astype(np.float32)
    return Examples(images, np.tile(np.arange(WAYS, dtype=np.int32), (TASKS, number)))

  classes = rng.integers(CLASSES, size=(TASKS, WAYS), dtype=np.int32)
  tasks = Episode(draw(SHOTS), draw(QUERIES), {'classes': classes})
  return jax.tree.map(jnp.asarray, tasks)


def cases() -> list[Case]:
  """Returns a case for each learner of images, compared with maml."""
  tasks = episodes()
  keys = jax.random.split(jax.random.key(1), TASKS)
  first = jax.tree.map(lambda leaf: leaf[0], tasks)
  optimizer = optax.sgd(1e-3)

  def case(name: str) -> Case:
    learner = make(name)
    state = init_state_for(learner, optimizer, jax.random.key(0), first)
    arguments: tuple[Any, ...] = state, keys, tasks
    step = make_train_step(learner, optimizer)
    return compiled_case(name, step, arguments, baseline='' if name == 'maml' else 'maml')

  return [case(name) for name in IMAGE_LEARNERS]


SUITES = {'learners': Suite(cases)}
