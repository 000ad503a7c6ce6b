"""Learners by gradient descent as components, their arguments read from the library's factories.

What a spec cannot write is replaced: the network and the sizes of its outputs are supplied, an
inner optimizer is a name and a learning rate, a mode of differentiation a name.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import optax

from experiments.components.docstrings import document, meanings, summary
from experiments.components.optimizers import OPTIMIZERS
from experiments.components.specs import Factories, build, parse
from metakit import meta_gradient, objectives
from metakit.learners.alfa import alfa
from metakit.learners.anil import anil
from metakit.learners.baselines import fine_tuning, from_scratch
from metakit.learners.boil import boil
from metakit.learners.cavia import cavia
from metakit.learners.descent import by_descent
from metakit.learners.imaml import imaml
from metakit.learners.maml import maml
from metakit.learners.maml_plus_plus import maml_plus_plus
from metakit.learners.meta_curvature import meta_curvature
from metakit.learners.meta_sgd import meta_sgd
from metakit.learners.proto_maml import proto_maml
from metakit.learners.reptile import reptile
from metakit.types import MetaLearner, Objective

MODES: dict[str, Callable[[], meta_gradient.Mode]] = {
  'unroll': meta_gradient.unroll,
  'unroll_all': lambda: meta_gradient.unroll(True),  # the steps written out, without a loop
  'remat': meta_gradient.remat,
  'mixed': meta_gradient.mixed,
  'first_order': meta_gradient.first_order,
  'implicit': meta_gradient.implicit,
  'evolution': meta_gradient.evolution,
}
NUMBERED: dict[str, Callable[[int], meta_gradient.Mode]] = {
  'truncated': meta_gradient.truncated,  # of the last steps
  'mixed': lambda every: meta_gradient.mixed(every=every),
  'remat': lambda every: meta_gradient.remat(every=every),
}
INNER_EPS_ROOT = 1e-8


def make_mode(name: str) -> meta_gradient.Mode:
  """Returns a mode of differentiation by name.

  Args:
    name: how to differentiate through the inner steps: unroll, unroll_all, remat, mixed,
      first_order, implicit, evolution, or with a number: truncated_3, mixed_8, remat_8.
  """
  kind, _, number = name.rpartition('_')
  if kind in NUMBERED and number.isdigit():
    return NUMBERED[kind](int(number))
  if name not in MODES:
    numbered = ', '.join(f'{kind}_8' for kind in NUMBERED)
    raise ValueError(f'mode={name} is unknown; use one of {", ".join(MODES)}, {numbered}, ...')
  return MODES[name]()


def make_inner_optimizer(name: str, learning_rate: float) -> optax.GradientTransformation:
  """Returns an optax optimizer, with its other defaults.

  Args:
    name: the optimizer of the inner steps, one of those of --optimizer.
    learning_rate: of the inner optimizer.
  """
  inner = parse('inner optimizer', OPTIMIZERS, f'{name}:learning_rate={learning_rate}')
  if 'eps_root' in inner.arguments:  # see metakit.learners.maml
    inner.arguments['eps_root'] = INNER_EPS_ROOT
  return build(inner)


def check_classifies(learner: str, objective: Objective) -> None:
  """Raises ValueError for a task that is no classification."""
  if objective is not objectives.cross_entropy:
    raise ValueError(f'learner {learner} classifies, and this task is a regression; use maml')


def component(make: Callable[..., MetaLearner], **usual: Any) -> Callable[..., MetaLearner]:
  """Returns the factory of a component.

  Args:
    make: the library's factory; its first argument is a `model`, or an `embedding` with the size of
      the last layer (`num_outputs`, or `ways` of a classifier) after it.
    **usual: other defaults than the library's, and those of inner_learning_rate and mode.
  """
  takes = inspect.signature(make).parameters

  def learner(
    network: Any, num_outputs: int, objective: Objective, num_classes: Any = None, **given: Any
  ) -> MetaLearner:
    if 'ways' in takes:
      check_classifies(make.__name__, objective)
    sizes = {'ways': num_outputs, 'num_outputs': num_outputs, 'num_classes': num_classes}
    first = network(num_outputs) if 'model' in takes else network(None)
    given |= {name: sizes[name] for name in sizes if name in takes}
    if 'inner_optimizer' in takes:
      rate = given.pop('inner_learning_rate')
      given['inner_optimizer'] = make_inner_optimizer(given['inner_optimizer'], rate)
    if given.get('num_classes'):  # loads the data, so only for those that ask
      given['num_classes'] = given['num_classes']()
    if 'mode' in takes:
      given['mode'] = make_mode(given['mode'])
    return make(first, objective=objective, **given)

  document(learner, summary(make), _meanings(make))
  supplied = [p for p in inspect.signature(learner).parameters.values() if p.kind != p.VAR_KEYWORD]
  settable = list(_settable(takes.values(), usual))
  learner.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [p.replace(kind=p.KEYWORD_ONLY) for p in (*supplied, *settable)]
  )
  return learner


def _meanings(make: Callable[..., Any]) -> dict[str, str]:
  """Returns what the arguments of a component mean."""
  inner, usual = meanings(make_inner_optimizer), meanings(by_descent)
  usual |= {'inner_learning_rate': inner['learning_rate']}
  by_name = {'inner_optimizer': inner['name'], 'mode': meanings(make_mode)['name']}
  return usual | meanings(make) | by_name | {'protocol': usual['protocol']}


SUPPLIED = ('model', 'embedding', 'num_outputs', 'ways', 'num_classes', 'objective')
BY_NAME = {'inner_optimizer': 'sgd', 'mode': 'unroll'}  # values given by name, and the usual ones


def _settable(parameters: Any, usual: dict[str, Any]) -> Iterator[inspect.Parameter]:
  """Yields what a spec may say of a factory with such parameters."""
  for parameter in parameters:
    if parameter.name in SUPPLIED:
      continue
    default = usual.get(parameter.name, BY_NAME.get(parameter.name, parameter.default))
    annotation = str if parameter.name in BY_NAME else parameter.annotation
    yield parameter.replace(default=default, annotation=annotation)
    if parameter.name == 'inner_optimizer':
      rate = usual['inner_learning_rate']
      yield parameter.replace(name='inner_learning_rate', default=rate, annotation=float)


BY_DESCENT: Factories = {
  'alfa': component(alfa),
  'anil': component(anil, inner_learning_rate=0.1),
  'boil': component(boil, inner_learning_rate=0.4),
  'cavia': component(cavia, inner_learning_rate=1.0, context_size=5),
  'fine_tuning': component(fine_tuning, inner_learning_rate=0.01),
  'from_scratch': component(from_scratch, inner_learning_rate=0.01),
  'imaml': component(imaml, inner_learning_rate=0.1, mode='implicit'),
  'maml': component(maml, inner_learning_rate=0.4),
  'maml_plus_plus': component(maml_plus_plus, mode='unroll_all'),
  'meta_curvature': component(meta_curvature),
  'meta_sgd': component(meta_sgd),
  'proto_maml': component(proto_maml, inner_learning_rate=0.05),
  'reptile': component(reptile, inner_learning_rate=0.1),
}
