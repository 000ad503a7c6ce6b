"""The components that specs name: learners, networks, optimizers, schedules (tasks have a file).

To add one, write a function whose parameters with defaults are the spec's arguments, and put it
into its table below; `--help` and the error messages follow.
"""

import inspect
from collections.abc import Callable
from typing import Any

import optax

from experiments.specs import Factories, build, parse
from metakit import meta_gradient, objectives
from metakit.learners.alfa import alfa
from metakit.learners.anil import anil
from metakit.learners.baselines import fine_tuning, from_scratch
from metakit.learners.boil import boil
from metakit.learners.cavia import cavia
from metakit.learners.imaml import imaml
from metakit.learners.in_context import in_context as make_in_context
from metakit.learners.maml import maml as make_maml
from metakit.learners.maml_plus_plus import maml_plus_plus
from metakit.learners.meta_curvature import meta_curvature
from metakit.learners.meta_sgd import meta_sgd
from metakit.learners.proto_maml import proto_maml
from metakit.learners.prototypical import prototypical
from metakit.learners.reptile import reptile
from metakit.models import Model, SequenceModel
from metakit.networks.conv4 import conv4
from metakit.networks.mlp import mlp
from metakit.networks.recurrent import recurrent
from metakit.networks.resnet12 import resnet12
from metakit.networks.transformer import transformer
from metakit.types import MetaLearner, Objective

NETWORKS: Factories = {
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


def prototypical_learner(
  network: Callable[[int | None], Model],
  num_outputs: int,
  objective: Objective,
  distance: str = 'euclidean',
  protocol: str = 'inductive',
) -> MetaLearner:
  """Prototypical networks (Snell et al. 2017)."""
  check_classifies('prototypical', objective)
  return prototypical(network(None), num_outputs, distance, protocol, objective)


def check_classifies(learner: str, objective: Objective) -> None:
  """Raises ValueError for a task that is no classification."""
  if objective is not objectives.cross_entropy:
    raise ValueError(f'learner {learner} classifies, and this task is a regression; use maml')


INNER_EPS_ROOT = 1e-8
MODES: dict[str, Callable[[], meta_gradient.Mode]] = {
  'unroll': meta_gradient.unroll,
  'remat': meta_gradient.remat,
  'mixed': meta_gradient.mixed,
  'first_order': meta_gradient.first_order,
  'implicit': meta_gradient.implicit,
  'evolution': meta_gradient.evolution,
}


def make_mode(name: str) -> meta_gradient.Mode:
  """Returns a mode of differentiation by name; 'truncated_3' differentiates the last 3 steps."""
  kind, _, last = name.partition('truncated_')
  if not kind and last.isdigit():
    return meta_gradient.truncated(int(last))
  if name not in MODES:
    raise ValueError(f'mode={name} is unknown; use one of {", ".join(MODES)}, truncated_1, ...')
  return MODES[name]()


def make_inner_optimizer(name: str, learning_rate: float) -> optax.GradientTransformation:
  """Returns any optax optimizer by name, with its other defaults."""
  inner = parse('inner optimizer', OPTIMIZERS, f'{name}:learning_rate={learning_rate}')
  if 'eps_root' in inner.arguments:  # see metakit.learners.maml
    inner.arguments['eps_root'] = INNER_EPS_ROOT
  return build(inner)


# What every learner by gradient descent takes, in this order: see metakit.learners.descent.


def maml_learner(
  network: Callable[[int | None], Model],
  num_outputs: int,
  objective: Objective,
  inner_optimizer: str = 'sgd',
  inner_learning_rate: float = 0.4,
  inner_steps: int = 1,
  test_steps: int | None = None,
  mode: str = 'unroll',
  protocol: str | None = None,
  inner_batch: int = 0,
) -> MetaLearner:
  """MAML (Finn et al. 2017); inner_optimizer is any optax optimizer with its other defaults."""
  inner = make_inner_optimizer(inner_optimizer, inner_learning_rate)
  rest = inner_steps, test_steps, make_mode(mode), objective, protocol, inner_batch
  return make_maml(network(num_outputs), inner, *rest)


def anil_learner(
  network: Callable[[int | None], Model],
  num_outputs: int,
  objective: Objective,
  inner_optimizer: str = 'sgd',
  inner_learning_rate: float = 0.1,
  inner_steps: int = 5,
  test_steps: int | None = None,
  mode: str = 'unroll',
  protocol: str = 'inductive',
  inner_batch: int = 0,
) -> MetaLearner:
  """ANIL (Raghu et al. 2020): the inner loop learns the last layer only."""
  inner = make_inner_optimizer(inner_optimizer, inner_learning_rate)
  rest = inner_steps, test_steps, make_mode(mode), objective, protocol, inner_batch
  return anil(network(None), num_outputs, inner, *rest)


def boil_learner(
  network: Callable[[int | None], Model],
  num_outputs: int,
  objective: Objective,
  inner_optimizer: str = 'sgd',
  inner_learning_rate: float = 0.4,
  inner_steps: int = 1,
  test_steps: int | None = None,
  mode: str = 'unroll',
  protocol: str | None = None,
  inner_batch: int = 0,
) -> MetaLearner:
  """BOIL (Oh et al. 2021): the inner loop leaves the last layer alone."""
  inner = make_inner_optimizer(inner_optimizer, inner_learning_rate)
  rest = inner_steps, test_steps, make_mode(mode), objective, protocol, inner_batch
  return boil(network(None), num_outputs, inner, *rest)


def reptile_learner(
  network: Callable[[int | None], Model],
  num_outputs: int,
  objective: Objective,
  inner_optimizer: str = 'sgd',
  inner_learning_rate: float = 0.1,
  inner_steps: int = 5,
  test_steps: int | None = 50,
  inner_batch: int = 10,
  protocol: str | None = None,
) -> MetaLearner:
  """Reptile (Nichol et al. 2018), batched; the usual outer optimizer is sgd:learning_rate=1."""
  inner = make_inner_optimizer(inner_optimizer, inner_learning_rate)
  rest = inner_steps, test_steps, inner_batch, objective, protocol
  return reptile(network(num_outputs), inner, *rest)


def meta_sgd_learner(
  network: Callable[[int | None], Model],
  num_outputs: int,
  objective: Objective,
  initial_rate: float = 0.1,
  inner_steps: int = 1,
  test_steps: int | None = None,
  mode: str = 'unroll',
  protocol: str | None = None,
  inner_batch: int = 0,
) -> MetaLearner:
  """Meta-SGD (Li et al. 2017): a learned inner rate for every parameter."""
  rest = inner_steps, test_steps, make_mode(mode), objective, protocol, inner_batch
  return meta_sgd(network(num_outputs), initial_rate, *rest)


def maml_plus_plus_learner(
  network: Callable[[int | None], Model],
  num_outputs: int,
  objective: Objective,
  initial_rate: float = 0.1,
  inner_steps: int = 5,
  test_steps: int | None = None,
  mode: str = 'unroll',
  protocol: str | None = None,
  multi_step_until: int = 0,
  first_order_until: int = 0,
) -> MetaLearner:
  """MAML++ (Antoniou et al. 2019); the last two are numbers of training steps."""
  rest = make_mode(mode), objective, protocol, multi_step_until, first_order_until
  return maml_plus_plus(network(num_outputs), initial_rate, inner_steps, test_steps, *rest)


def imaml_learner(
  network: Callable[[int | None], Model],
  num_outputs: int,
  objective: Objective,
  inner_optimizer: str = 'sgd',
  inner_learning_rate: float = 0.1,
  proximal: float = 2.0,
  inner_steps: int = 16,
  test_steps: int | None = None,
  mode: str = 'implicit',
  protocol: str | None = None,
) -> MetaLearner:
  """iMAML (Rajeswaran et al. 2019): the derivative of a proximal inner minimum."""
  inner = make_inner_optimizer(inner_optimizer, inner_learning_rate)
  rest = proximal, inner_steps, test_steps, make_mode(mode), objective, protocol
  return imaml(network(num_outputs), inner, *rest)


def cavia_learner(
  network: Callable[[int | None], Model],
  num_outputs: int,
  objective: Objective,
  context_size: int = 5,
  inner_optimizer: str = 'sgd',
  inner_learning_rate: float = 1.0,
  inner_steps: int = 1,
  test_steps: int | None = None,
  mode: str = 'unroll',
  protocol: str | None = None,
  inner_batch: int = 0,
) -> MetaLearner:
  """CAVIA (Zintgraf et al. 2019): the inner loop learns a context vector; mlp or conv4."""
  inner = make_inner_optimizer(inner_optimizer, inner_learning_rate)
  rest = inner_steps, test_steps, make_mode(mode), objective, protocol, inner_batch
  return cavia(network(num_outputs), context_size, inner, *rest)


def meta_curvature_learner(
  network: Callable[[int | None], Model],
  num_outputs: int,
  objective: Objective,
  inner_learning_rate: float = 0.1,
  inner_steps: int = 1,
  test_steps: int | None = None,
  mode: str = 'unroll',
  protocol: str | None = None,
  inner_batch: int = 0,
) -> MetaLearner:
  """Meta-Curvature (Park and Oliva 2019): learned matrices transform the inner gradients."""
  rest = inner_steps, test_steps, make_mode(mode), objective, protocol, inner_batch
  return meta_curvature(network(num_outputs), inner_learning_rate, *rest)


def alfa_learner(
  network: Callable[[int | None], Model],
  num_outputs: int,
  objective: Objective,
  initial_rate: float = 0.1,
  inner_steps: int = 5,
  test_steps: int | None = None,
  mode: str = 'unroll',
  protocol: str | None = None,
  inner_batch: int = 0,
) -> MetaLearner:
  """ALFA (Baik et al. 2020): inner rates and decays computed from the task as it goes."""
  rest = inner_steps, test_steps, make_mode(mode), objective, protocol, inner_batch
  return alfa(network(num_outputs), initial_rate, *rest)


def proto_maml_learner(
  network: Callable[[int | None], Model],
  num_outputs: int,
  objective: Objective,
  inner_optimizer: str = 'sgd',
  inner_learning_rate: float = 0.05,
  inner_steps: int = 5,
  test_steps: int | None = None,
  mode: str = 'unroll',
  protocol: str | None = None,
  inner_batch: int = 0,
) -> MetaLearner:
  """Proto-MAML (Triantafillou et al. 2020): MAML that starts as prototypical networks."""
  check_classifies('proto_maml', objective)
  inner = make_inner_optimizer(inner_optimizer, inner_learning_rate)
  rest = inner_steps, test_steps, make_mode(mode), objective, protocol, inner_batch
  return proto_maml(network(None), num_outputs, inner, *rest)


def fine_tuning_learner(
  network: Callable[[int | None], Model],
  num_outputs: int,
  objective: Objective,
  num_classes: Callable[[], int] | None,
  inner_optimizer: str = 'sgd',
  inner_learning_rate: float = 0.01,
  test_steps: int = 100,
  tuned: str = 'all',
  protocol: str | None = None,
  inner_batch: int = 0,
) -> MetaLearner:
  """Ordinary training on all classes, then descent on each test task (Chen et al. 2019)."""
  inner = make_inner_optimizer(inner_optimizer, inner_learning_rate)
  classes = None if num_classes is None else num_classes()
  rest = test_steps, tuned, objective, protocol, inner_batch
  return fine_tuning(network(None), num_outputs, inner, classes, *rest)


def from_scratch_learner(
  network: Callable[[int | None], Model],
  num_outputs: int,
  objective: Objective,
  inner_optimizer: str = 'sgd',
  inner_learning_rate: float = 0.01,
  test_steps: int = 100,
  protocol: str | None = None,
  inner_batch: int = 0,
) -> MetaLearner:
  """A new network for each test task: nothing is learned before."""
  inner = make_inner_optimizer(inner_optimizer, inner_learning_rate)
  rest = test_steps, objective, protocol, inner_batch
  return from_scratch(network(num_outputs), inner, *rest)


def in_context_learner(
  network: Callable[[int | None], SequenceModel],
  num_outputs: int,
  objective: Objective,
  layout: str = 'pairs',
  label_scale: float | None = None,
) -> MetaLearner:
  """A transformer or recurrent network that reads the support (Kirsch et al. 2022)."""
  return make_in_context(network(num_outputs), num_outputs, layout, objective, label_scale)


BY_DESCENT: Factories = {
  'alfa': alfa_learner,
  'anil': anil_learner,
  'boil': boil_learner,
  'cavia': cavia_learner,
  'fine_tuning': fine_tuning_learner,
  'from_scratch': from_scratch_learner,
  'imaml': imaml_learner,
  'maml': maml_learner,
  'maml_plus_plus': maml_plus_plus_learner,
  'meta_curvature': meta_curvature_learner,
  'meta_sgd': meta_sgd_learner,
  'proto_maml': proto_maml_learner,
  'reptile': reptile_learner,
}
LEARNERS: Factories = {
  'prototypical': prototypical_learner,
  'in_context': in_context_learner,
  **BY_DESCENT,
}
LEARNER_SUPPLIED = ('network', 'num_outputs', 'objective', 'num_classes')
DEFAULT_NETWORK = {'prototypical': 'conv4', 'in_context': 'transformer'}
DEFAULT_NETWORK |= dict.fromkeys(BY_DESCENT, 'conv4')
# Prototypical networks are trained with more ways than they are tested with (Snell et al. 2017,
# section 3.1); other learners have an output for each way.
DEFAULT_TRAINING_TASK = {'prototypical': 'glyphs:ways=20,shots=1,queries=3'}


# Optimizers, and schedules of their learning rate, to which `learning_rate` and `steps` are
# supplied.


def _optimizers() -> dict[str, Callable[..., optax.GradientTransformation]]:
  """Every optax optimizer that takes a learning rate, which is 1e-3 unless the spec says more."""
  takes_rate = lambda f: 'learning_rate' in inspect.signature(f).parameters
  usable = lambda name: not name.startswith(('_', 'scale_')) and name != 'lbfgs'  # needs values
  made = {n: f for n, f in vars(optax).items() if usable(n) and inspect.isfunction(f)}
  return {n: _with_default_rate(f) for n, f in made.items() if takes_rate(f)}


def _with_default_rate(make: Callable[..., Any]) -> Callable[..., Any]:
  """Gives the learning rate a default and leaves the arguments that a spec can write."""
  writable = lambda default: default is None or isinstance(default, bool | int | float)
  parameters = [inspect.Parameter('learning_rate', inspect.Parameter.KEYWORD_ONLY, default=1e-3)]
  for parameter in inspect.signature(make).parameters.values():
    if parameter.name != 'learning_rate' and writable(parameter.default):
      kind = float | None if parameter.default is None else type(parameter.default)
      keyword = inspect.Parameter.KEYWORD_ONLY
      parameters.append(parameter.replace(kind=keyword, annotation=kind))

  def optimizer(**arguments: Any) -> Any:
    return make(**arguments)

  optimizer.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
  return optimizer


OPTIMIZERS = _optimizers()


def constant(learning_rate: float) -> float:
  """The same rate at every step, as a number: not every optimizer takes a schedule."""
  return learning_rate


def cosine(learning_rate: float, steps: int, warmup: int = 0, final: float = 0.0) -> optax.Schedule:
  """Linear warm-up, then half a cosine down to `final` times the rate at the last step."""
  if not 0 <= warmup < steps:
    raise ValueError(f'warmup={warmup} is not between 0 and the {steps} steps')
  return optax.warmup_cosine_decay_schedule(
    0.0 if warmup else learning_rate, learning_rate, warmup, steps, final * learning_rate
  )


def halve(learning_rate: float, every: int = 2000) -> optax.Schedule:
  """Half the rate after every `every` steps (Snell et al. 2017)."""
  if every < 1:
    raise ValueError(f'every={every} is not positive; use every>=1')
  return optax.exponential_decay(learning_rate, every, 0.5, staircase=True)


SCHEDULES: Factories = {'constant': constant, 'cosine': cosine, 'halve': halve}
SCHEDULE_SUPPLIED = ('learning_rate', 'steps')
