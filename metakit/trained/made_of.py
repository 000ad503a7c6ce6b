"""What a trained learner is made of, as texts that make it again."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metakit import objectives
from metakit.components.learners import (
  LEARNER_SUPPLIED,
  LEARNERS,
  NETWORK_SUPPLIED,
  NETWORKS,
)
from metakit.components.objectives import make_objective
from metakit.components.specs import build, parse
from metakit.learners.set_parts import NORMAL
from metakit.trained.inputs import Inputs
from metakit.types import Episode, Examples, MetaLearner, Objective

# Objectives that a stored learner can name, beside those of specs.
OBJECTIVES: dict[str, Objective] = {
  'cross_entropy': objectives.cross_entropy,
  'squared_error': objectives.squared_error,
  'gaussian': NORMAL,
}


class MadeOf(NamedTuple):
  """The parts of a trained learner.

  Attributes:
    learner: its spec, such as 'maml:inner_steps=5'.
    network: the spec of its network.
    num_outputs: classes of a training episode, or numbers of a target.
    objective: a name in OBJECTIVES, or the spec of an objective.
    num_classes: number of training classes; None in a regression.
    borders: of the buckets of an objective that has buckets.
  """

  learner: str
  network: str
  num_outputs: int
  objective: str = 'cross_entropy'
  num_classes: int | None = None
  borders: tuple[float, ...] | None = None

  def make(self, num_outputs: int | None = None) -> MetaLearner:
    """Makes the learner.

    Args:
      num_outputs: classes, if they are others than in training.

    Raises:
      ValueError: for parts that this version does not know.
    """
    return _made(self, num_outputs or self.num_outputs)

  @property
  def judged_by(self) -> Objective:
    """The objective.

    Raises:
      ValueError: for one that this version does not know.
    """
    known = OBJECTIVES.get(self.objective)
    return make_objective(self.objective, self.borders) if known is None else known


def objective_name(objective: Objective) -> str | None:
  """Returns the name of an objective; None for one of a user's own."""
  return next((name for name, each in OBJECTIVES.items() if each is objective), None)


@functools.lru_cache(
  maxsize=32
)  # a program compiled for a learner serves as long as it is the same
def _made(parts: MadeOf, num_outputs: int) -> MetaLearner:
  learner = parse('learner', LEARNERS, parts.learner, supplied=LEARNER_SUPPLIED)
  network = parse('network', NETWORKS, parts.network, supplied=NETWORK_SUPPLIED)
  return build(
    learner,
    network=lambda outputs: build(network, num_outputs=outputs),
    num_outputs=num_outputs,
    objective=parts.judged_by,
    num_classes=None if parts.num_classes is None else lambda: parts.num_classes,
  )


def shapes_of_params(
  learner: MetaLearner, inputs: Inputs, outputs: int, *, classifies: bool
) -> Any:
  """Returns the shapes and types of a learner's parameters.

  Args:
    learner: any MetaLearner.
    inputs: of its training.
    outputs: classes, or numbers of a target.
    classifies: whether targets are classes.
  """
  episode = _abstract_episode(inputs, outputs, classifies)
  return jax.eval_shape(learner.init, jax.random.key(0), episode)


def is_calibrated(learner: MetaLearner, inputs: Inputs, outputs: int, *, classifies: bool) -> bool:
  """Tells whether `calibrate` of a learner changes its parameters; see `shapes_of_params`."""
  shapes = shapes_of_params(learner, inputs, outputs, classifies=classifies)
  episode = _abstract_episode(inputs, outputs, classifies)
  several = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), episode)
  traced = jax.make_jaxpr(learner.calibrate)(shapes, several).jaxpr
  return traced.outvars != traced.invars[: len(traced.outvars)]


def _abstract_episode(inputs: Inputs, outputs: int, classifies: bool) -> Episode:
  x = jax.ShapeDtypeStruct((outputs, *inputs.shape), jnp.dtype(inputs.dtype))
  labels = jax.ShapeDtypeStruct((outputs,), jnp.int32)
  y = labels if classifies else jax.ShapeDtypeStruct((outputs, outputs), jnp.float32)
  return Episode(Examples(x, y), Examples(x, y), {'classes': labels})
