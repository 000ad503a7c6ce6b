"""The components that specs name: learners and networks (optimizers have a file).

Those of metakit.learners, metakit.heads and metakit.networks are found by their names there, with
the arguments of their signatures. `--help` and the error messages follow.
"""

import inspect

from metakit import learners, networks
from metakit.components.descent_learners import BY_SIGNATURE
from metakit.components.head_learners import BY_HEAD
from metakit.components.specs import Factories
from metakit.models import Model, SequenceModel, identity
from metakit.types import Objective


def identity_network(num_outputs: int | None) -> Model:
  """The examples as they are: for heads on features that were extracted before."""
  if num_outputs is not None:
    raise ValueError(
      'network identity has no outputs of its own; use a learner that is a head (prototypical, '
      'ridge, ...), or --network=mlp'
    )
  return identity


def no_network(num_outputs: int | None) -> None:
  """None: for learners with networks of their own (cnp, ...)."""
  del num_outputs


NO_NETWORK = 'none'
NETWORKS: Factories = {
  'identity': identity_network,
  NO_NETWORK: no_network,
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


OF_VECTORS = ('raml',)  # examples with passages beside them are vectors


def _default_network(learner: str) -> str:
  """Returns the network of a learner, by the type of its first argument."""
  if learner in OF_VECTORS:
    return 'mlp'
  if learner not in BY_SIGNATURE:
    return 'conv4'
  first, *_ = inspect.signature(getattr(learners, learner)).parameters.values()
  if first.name == 'num_outputs':
    return NO_NETWORK
  return 'transformer' if first.annotation is SequenceModel else 'conv4'


DEFAULT_NETWORK = {name: _default_network(name) for name in LEARNERS}


def _usual_objective(learner: str) -> Objective | None:
  parameters = inspect.signature(getattr(learners, learner)).parameters
  objective = parameters['objective'].default if 'objective' in parameters else None
  return objective if isinstance(objective, Objective) and objective.kind == 'density' else None


# Learners of densities: what they predict in a regression unless told otherwise.
USUAL_OBJECTIVE = {
  name: objective for name in BY_SIGNATURE if (objective := _usual_objective(name)) is not None
}
