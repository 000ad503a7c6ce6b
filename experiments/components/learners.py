"""The components that specs name: learners, networks, optimizers, schedules (tasks have a file).

To add one, write a function whose parameters with defaults are the spec's arguments, and put it
into its table below; `--help` and the error messages follow.
"""

from collections.abc import Callable

import optax

from experiments.components.descent_learners import BY_DESCENT
from experiments.components.head_learners import BY_HEAD
from experiments.components.specs import Factories
from metakit.learners.in_context import in_context as make_in_context
from metakit.models import Model, SequenceModel, identity
from metakit.networks.conv4 import conv4
from metakit.networks.mlp import mlp
from metakit.networks.recurrent import recurrent
from metakit.networks.resnet12 import resnet12
from metakit.networks.transformer import transformer
from metakit.types import MetaLearner, Objective


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
  'conv4': conv4,
  'mlp': mlp,
  'recurrent': recurrent,
  'resnet12': resnet12,
  'transformer': transformer,
}
SEQUENCE_NETWORKS = ('transformer', 'recurrent')
SET_NETWORK = 'transformer:attention=set'  # the one of them for which order does not matter
NETWORK_SUPPLIED = ('num_outputs',)


# Learners. Supplied are `network` ((num_outputs) -> Model), `num_outputs`, `objective` and
# `num_classes` (() -> the number of training classes; None in a regression).


def in_context_learner(
  network: Callable[[int | None], SequenceModel],
  num_outputs: int,
  objective: Objective,
  layout: str = 'pairs',
  label_scale: float | None = None,
) -> MetaLearner:
  """A transformer or recurrent network that reads the support (Kirsch et al. 2022).

  Args:
    layout: how examples become tokens: pairs (x and y in one), shifted (the last y with the next x)
      or interleaved (x and y after one another).
    label_scale: what one-hot labels are multiplied by; none for the root of the number of inputs.
  """
  return make_in_context(
    network(num_outputs), num_outputs, layout, objective=objective, label_scale=label_scale
  )


LEARNERS: Factories = {'in_context': in_context_learner, **BY_HEAD, **BY_DESCENT}
LEARNER_SUPPLIED = ('network', 'num_outputs', 'objective', 'num_classes')
DEFAULT_NETWORK = dict.fromkeys(LEARNERS, 'conv4') | {'in_context': 'transformer'}
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
