"""Learners of metakit.learners as components, their arguments read from the library's factories.

A spec cannot write every argument of a factory. The command supplies the network and the sizes of
its outputs. For learners by gradient descent, a name and a learning rate stand for an inner
optimizer, and a name for a mode of differentiation.
"""

import contextlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import optax

from metakit import learners, meta_gradient
from metakit.components.docstrings import document, meanings, summary
from metakit.components.optimizers import OPTIMIZERS
from metakit.components.specs import Factories, build, parse
from metakit.learners.descent import Descent
from metakit.types import MetaLearner, Objective

MODES: dict[str, Callable[[], meta_gradient.Mode]] = {
  'unroll': meta_gradient.unroll,
  'unroll_all': lambda: meta_gradient.unroll(True),  # writes the steps out, without a loop
  'remat': meta_gradient.remat,
  'mixed': meta_gradient.mixed,
  'first_order': meta_gradient.first_order,
  'implicit': meta_gradient.implicit,
  'evolution': meta_gradient.evolution,
}
NUMBERED: dict[str, Callable[[int], meta_gradient.Mode]] = {
  'truncated': meta_gradient.truncated,  # the number is that of the last steps
  'mixed': lambda every: meta_gradient.mixed(every=every),
  'remat': lambda every: meta_gradient.remat(every=every),
}
INNER_EPS_ROOT = 1e-8
Factory = Callable[..., MetaLearner]


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
    learning_rate: learning rate of the inner optimizer.
  """
  inner = parse('inner optimizer', OPTIMIZERS, f'{name}:learning_rate={learning_rate}')
  if 'eps_root' in inner.arguments:  # see metakit.learners.maml
    inner.arguments['eps_root'] = INNER_EPS_ROOT
  return build(inner)


def check_classifies(learner: str, objective: Objective) -> None:
  """Raises ValueError for a task that is no classification."""
  if not objective.classifies:
    raise ValueError(f'learner {learner} classifies, and this task is a regression; use maml')


def component(make: Callable[..., MetaLearner], usual: Mapping[str, Any]) -> Factory:
  """Returns the factory of a component.

  Args:
    make: the library's factory. Its first argument is a `model` that ends in the task's outputs, an
      `embedding`, or, if it has networks of its own, `num_outputs`. It may take sizes of SUPPLIED,
      a `descent` and `statistics`.
    usual: what a spec may set, with usual values, in this order. Parts of the descent have the
      names of DESCENT. Other names are arguments of the factory. Its further arguments follow,
      with their own defaults.
  """
  takes = inspect.signature(make).parameters

  def learner(
    network: Any, num_outputs: int, objective: Objective, num_classes: Any = None, **given: Any
  ) -> MetaLearner:
    if 'ways' in takes:
      check_classifies(make.__name__, objective)
    outputs = num_outputs * objective.outputs_per_target
    sizes = {'ways': num_outputs, 'num_outputs': num_outputs, 'num_classes': num_classes}
    if 'embedding' in takes:  # what follows it is a last layer
      sizes['num_outputs'] = outputs
    given |= {name: sizes[name] for name in sizes if name in takes}
    if given.get('num_classes'):  # loads the data, so only for those that ask
      given['num_classes'] = given['num_classes']()
    with in_words_of_specs():
      if 'descent' in takes:
        given['descent'] = descent_of(given)
      if protocol := given.pop('protocol', None):
        inductive = takes['statistics'].default or 'support'
        given['statistics'] = statistics_of(protocol, inductive=inductive)
      if 'model' in takes:
        return make(network(outputs), objective=objective, **given)
      if 'embedding' in takes:
        return make(network(None), objective=objective, **given)
      return make(objective=objective, **given)  # with networks of its own

  document(learner, summary(make), _meanings(make))
  supplied = [p for p in inspect.signature(learner).parameters.values() if p.kind != p.VAR_KEYWORD]
  learner.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [p.replace(kind=p.KEYWORD_ONLY) for p in (*supplied, *_settable(takes, usual))]
  )
  return learner


def descent_of(given: dict[str, Any]) -> Descent:
  """Takes what describes a descent out of the arguments of a spec."""
  optimizer = None
  if 'inner_optimizer' in given:  # otherwise a rate is an argument of the learner itself
    name, rate = given.pop('inner_optimizer'), given.pop('inner_learning_rate')
    optimizer = make_inner_optimizer(name, rate)
  mode = make_mode(given.pop('mode')) if 'mode' in given else None
  test_steps = given.pop('test_steps')
  # A learner that takes no inner steps in training has no argument `inner_steps`.
  steps = given.pop('inner_steps', test_steps or 1)
  return Descent(optimizer, steps, test_steps, mode, given.pop('inner_batch', 0))


def statistics_of(protocol: str, *, inductive: str = 'training') -> str:
  """Returns the normalisation statistics of a learner that a spec asks for by its protocol.

  Args:
    protocol: what a network with batch statistics normalises queries by, in training as at test
      time: 'transductive' by their own statistics, 'inductive' by those of the support. None is
      'transductive' for such a network, and 'inductive' for all others.
    inductive: what 'inductive' means for the learner, 'training' or 'support'.

  Raises:
    ValueError: for an unknown protocol.
  """
  meanings = {'inductive': inductive, 'transductive': 'episode'}
  if protocol not in meanings:
    raise ValueError(f'protocol={protocol!r} is unknown; use one of {", ".join(meanings)}')
  return meanings[protocol]


@contextlib.contextmanager
def in_words_of_specs() -> Iterator[None]:
  """Errors name arguments as specs do. (The flag --steps, for one, does not set inner_steps.)"""
  try:
    yield
  except ValueError as error:
    said = re.sub(r'\b(steps|batch)=', r'inner_\1=', str(error))
    said = said.replace("statistics='episode'", 'protocol=transductive')
    said = re.sub("statistics='(training|support)'", 'protocol=inductive', said)
    raise ValueError(said) from error


def _meanings(make: Callable[..., Any]) -> dict[str, str]:
  """Returns what the arguments of a component mean."""
  inner, descent = meanings(make_inner_optimizer), meanings(Descent)
  parts = {
    'inner_optimizer': inner['name'],
    'inner_learning_rate': inner['learning_rate'],
    'inner_steps': descent['steps'],
    'test_steps': descent['test_steps'],
    'mode': meanings(make_mode)['name'],
    'inner_batch': descent['batch'],
  }
  return parts | meanings(make) | {'protocol': meanings(statistics_of)['protocol']}


SUPPLIED = (
  'model',
  'embedding',
  'num_outputs',
  'ways',
  'num_classes',
  'objective',
  'descent',
  'statistics',
)
DESCENT: dict[str, Any] = {  # arguments of a descent and its statistics in specs, and types
  'inner_optimizer': str,
  'inner_learning_rate': float,
  'inner_steps': int,
  'test_steps': int | None,
  'mode': str,
  'inner_batch': int,
  'protocol': str | None,
}


def _settable(takes: Mapping[str, Any], usual: Mapping[str, Any]) -> Iterator[inspect.Parameter]:
  """Yields the arguments that a spec may set, for a factory with the parameters `takes`."""
  parameters = {name: p for name, p in takes.items() if name not in SUPPLIED}
  further = {n: p.default for n, p in parameters.items() if n not in usual}
  for name, value in {**usual, **further}.items():
    kind = parameters[name].annotation if name in parameters else DESCENT[name]
    if name == 'test_steps' and 'inner_steps' not in usual:
      kind = int  # None would mean as many as in training, where there are none
    if name == 'protocol' and value is not None:
      kind = str
    yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=kind)


def usual_of(make: Callable[..., MetaLearner], **other: Any) -> dict[str, Any]:
  """Returns the arguments of a learner in a spec with their usual values, by its signature.

  A learner whose descent has no default takes an optimizer. (For those that have one it is without,
  and they have a rate of their own.)

  Args:
    make: the library's factory.
    **other: usual values that its signature does not say.
  """
  takes = inspect.signature(make).parameters
  usual = {name: p.default for name, p in takes.items() if name not in SUPPLIED}
  statistics = takes['statistics'].default if 'statistics' in takes else None
  protocol = {'protocol': 'inductive' if statistics else None} if 'statistics' in takes else {}
  if 'descent' in takes:
    descent = takes['descent'].default
    if descent is inspect.Parameter.empty:
      usual |= {'inner_optimizer': 'sgd', 'inner_learning_rate': 0.1}
      descent = Descent()
    usual |= {'inner_steps': descent.steps, 'test_steps': descent.test_steps, 'mode': 'unroll'}
    return {**usual, **protocol, 'inner_batch': descent.batch, **other}
  return {**usual, **protocol, **other}


# Usual values that a signature does not say, since the rate is part of an optimizer there.
OTHERWISE: dict[str, dict[str, Any]] = {
  'anil': {'inner_steps': 5},
  'boil': {'inner_learning_rate': 0.4},
  'cavia': {'context_size': 5, 'inner_learning_rate': 1.0},
  'maml': {'inner_learning_rate': 0.4},
  'proto_maml': {'inner_learning_rate': 0.05, 'inner_steps': 5},
}
# Learners that do not take all parts of a descent. Stored specs have the arguments in this order.
SGD: dict[str, Any] = {'inner_optimizer': 'sgd', 'inner_learning_rate': 0.1}
AT_TEST_TIME: dict[str, Any] = {**SGD, 'inner_learning_rate': 0.01, 'test_steps': 100}
FOLLOWING: dict[str, Any] = {'protocol': None, 'inner_batch': 0}
WITHOUT_LABELS: dict[str, Any] = {
  **SGD,
  'inner_steps': 1,
  'test_steps': None,
  'mode': 'unroll',
  'protocol': 'inductive',
}
WHOLE: dict[str, dict[str, Any]] = {
  'arm_ll': WITHOUT_LABELS,
  'fine_tuning': {**AT_TEST_TIME, 'tuned': 'all', **FOLLOWING},
  'from_scratch': {**AT_TEST_TIME, **FOLLOWING},
  'imaml': {
    **SGD,
    'proximal': 2.0,
    'inner_steps': 16,
    'test_steps': None,
    'mode': 'implicit',
    'protocol': None,
  },
  'maml_plus_plus': {
    'initial_rate': 0.1,
    'inner_steps': 5,
    'test_steps': None,
    'mode': 'unroll_all',
    'protocol': None,
  },
  'meta_dmoe': WITHOUT_LABELS,
  'niw_meta': {
    **SGD,
    'inner_learning_rate': 0.02,
    'inner_steps': 5,
    'test_steps': 50,
    'inner_batch': 0,
    'protocol': None,
  },
  'reptile': {**SGD, 'inner_steps': 5, 'test_steps': 50, 'inner_batch': 10, 'protocol': None},
  'tent': {**SGD, 'test_steps': 1, 'protocol': 'inductive'},
}


def is_component(name: str) -> bool:
  """Tells whether a name of metakit.learners is a learner that specs can describe.

  That is one of a network alone, `model` or `embedding`, or one with networks of its own, whose
  first argument is `num_outputs`. Its other arguments are supplied, or have usual values.
  """
  first, *others = inspect.signature(getattr(learners, name)).parameters.values()
  known = {*SUPPLIED, *OTHERWISE.get(name, ())}
  asked = [p for p in others if p.default is p.empty and p.name not in known]
  return first.name in ('model', 'embedding', 'num_outputs') and not asked


def _component(name: str) -> Factory:
  make = getattr(learners, name)
  return component(make, WHOLE.get(name) or usual_of(make, **OTHERWISE.get(name, {})))


BY_SIGNATURE: Factories = {n: _component(n) for n in learners.__all__ if is_component(n)}
BY_DESCENT: Factories = {
  name: factory
  for name, factory in BY_SIGNATURE.items()
  if 'descent' in inspect.signature(getattr(learners, name)).parameters
}
