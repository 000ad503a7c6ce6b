"""The components that specs name: learners, networks, schedules (tasks and optimizers have files).

Those of metakit.learners, metakit.heads and metakit.networks are found by their names there, with
the arguments of their signatures. `--help` and the error messages follow.
"""

import inspect

import optax

from experiments.components.descent_learners import BY_SIGNATURE
from experiments.components.head_learners import BY_HEAD
from experiments.components.specs import Factories
from metakit import learners, networks
from metakit.models import Model, SequenceModel, identity


def identity_network(num_outputs: int | None) -> Model:
  """The examples as they are: for heads on features that were extracted before."""
  if num_outputs is not None:
    raise ValueError(
      'network identity has no outputs of its own; use a learner that is a head (prototypical, '
      'ridge, ...), or --network=mlp'
    )
  return identity


NETWORKS: Factories = {
  'identity': identity_network,
  **{name: getattr(networks, name) for name in networks.__all__},
}
SEQUENCE_NETWORKS = tuple(
  name
  for name, make in NETWORKS.items()
  if inspect.signature(make).return_annotation is SequenceModel
)
SET_NETWORK = 'transformer:attention=set'  # the one of them for which order does not matter
NETWORK_SUPPLIED = ('num_outputs',)


# Learners. Supplied are `network` ((num_outputs) -> Model), `num_outputs`, `objective` and
# `num_classes` (() -> the number of training classes; None in a regression).
LEARNERS: Factories = {**BY_SIGNATURE, **BY_HEAD}
LEARNER_SUPPLIED = ('network', 'num_outputs', 'objective', 'num_classes')


def _default_network(learner: str) -> str:
  """Returns the network of a learner, by the type of its first argument."""
  if learner not in BY_SIGNATURE:
    return 'conv4'
  first, *_ = inspect.signature(getattr(learners, learner)).parameters.values()
  return 'transformer' if first.annotation is SequenceModel else 'conv4'


DEFAULT_NETWORK = {name: _default_network(name) for name in LEARNERS}
# Prototypical networks are trained with more ways than they are tested with (Snell et al. 2017,
# section 3.1); other learners have an output for each way.
DEFAULT_TRAINING_TASK = {'prototypical': 'glyphs:ways=20,shots=1,queries=3'}


# Schedules of the outer learning rate, to which `learning_rate` and `steps` are supplied.


def constant(learning_rate: float) -> float:
  """The same rate at every step, as a number: not every optimizer takes a schedule."""
  return learning_rate


def cosine(learning_rate: float, steps: int, warmup: int = 0, final: float = 0.0) -> optax.Schedule:
  """Linear warm-up, then half a cosine down to `final` times the rate at the last step.

  Args:
    warmup: steps of the warm-up, fewer than --steps.
    final: share of the learning rate at the last step.
  """
  if not 0 <= warmup < steps:
    raise ValueError(
      f'warmup={warmup} is not between 0 and the {steps} steps; use --steps above {warmup}, or '
      f'--schedule=cosine:warmup={(steps - 1) // 10} (after --flagfile, if that names another)'
    )
  return optax.warmup_cosine_decay_schedule(
    0.0 if warmup else learning_rate, learning_rate, warmup, steps, final * learning_rate
  )


def halve(learning_rate: float, every: int = 2000) -> optax.Schedule:
  """Half the rate after every `every` steps (Snell et al. 2017).

  Args:
    every: steps between two halvings.
  """
  if every < 1:
    raise ValueError(f'every={every} is not positive; use every>=1')
  return optax.exponential_decay(learning_rate, every, 0.5, staircase=True)


SCHEDULES: Factories = {'constant': constant, 'cosine': cosine, 'halve': halve}
SCHEDULE_SUPPLIED = ('learning_rate', 'steps')
