"""What a sweep varies: distributions over a number of tasks, which may be traced by JAX."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.components.sequence_tasks import (
  BASE_CLASSES,
  FUNCTION_CLASSES,
  HELD_OUT_TASKS,
  base_set,
  is_slow,
)
from experiments.components.tasks import TASK_SUPPLIED, TASKS
from metakit.components.specs import Component, arguments_of, parse
from metakit.episodes.function_combinators import task_pool
from metakit.episodes.functions import functions
from metakit.episodes.projected import projected
from metakit.evaluation import Judge, judge_beside, judge_gain
from metakit.learners.bayes import bayes
from metakit.objectives import cross_entropy, squared_error
from metakit.sources import EpisodeSource
from metakit.types import Objective

# Arguments of tasks that a sweep sets itself.
FIXED = {
  'tasks',
  'seen',
  'fixed_labels',
  'fixed_projection',
  'biased_steps',
  'pool',
  'curriculum_steps',
  'fewest_shots',
}

Pooled = Callable[[Any], EpisodeSource]


class Measure(NamedTuple):
  """One thing that is measured of a model that was trained on a pool.

  Attributes:
    source: pool size -> the test episodes.
    judge: pool size -> Judge.
  """

  source: Pooled
  judge: Callable[[Any], Judge]


class Family(NamedTuple):
  """A distribution that a sweep trains on.

  Attributes:
    train: pool size -> the training episodes.
    num_outputs: outputs of the model.
    objective: the objective of the training.
    metric: the metric of the judges that is recorded.
    measures: name -> Measure.
  """

  train: Pooled
  num_outputs: int
  objective: Objective
  metric: str
  measures: dict[str, Measure]


def family(spec: str, data_dir: str | None, largest: int) -> Family:
  """Returns the family of a task spec.

  Args:
    spec: the spec of the task 'projected', or of a class of functions with a known posterior.
    data_dir: where real data lies.
    largest: the largest pool.

  Raises:
    ValueError: for another task.
  """
  known = {n: TASKS[n] for n in ('projected', *FUNCTION_CLASSES)}
  component = parse('task of a sweep', known, spec, supplied=TASK_SUPPLIED)
  usual = {name: p.default for name, p in arguments_of(component.factory, ()).items()}
  for name in FIXED & usual.keys():
    if component.arguments[name] != usual[name]:
      raise ValueError(f'task {spec}: a sweep has its own {name}; leave it out, and see --pools')
  if component.name == 'projected':
    return _projected(component, data_dir)
  return _functions(component, largest)


def _projected(component: Component, data_dir: str | None) -> Family:
  """Returns the family of projected tasks: the within-sequence gain on seen and unseen tasks."""
  arguments = component.arguments
  of_table = functools.partial(
    projected, size=arguments['size'], shots=arguments['shots'], queries=arguments['queries']
  )
  table = functools.cache(
    lambda split: base_set(
      arguments['base'], split, str(data_dir or ''), pixels=arguments['pixels']
    )
  )

  def pooled(split: str, held_out: bool) -> Pooled:
    number = lambda tasks: HELD_OUT_TASKS if held_out else tasks
    return lambda tasks: of_table(table(split), tasks=number(tasks), held_out=held_out)

  def trained(tasks: Any) -> EpisodeSource:
    repeats = {name: arguments[name] for name in ('repeated', 'distinct')}
    return of_table(table('train'), tasks=tasks, **repeats)

  judge = lambda tasks: judge_gain
  measures = {
    'seen tasks': Measure(pooled('train', False), judge),
    'seen tasks, unseen images': Measure(pooled('test', False), judge),
    'unseen tasks': Measure(pooled('test', True), judge),
  }
  ways = BASE_CLASSES
  return Family(trained, ways, cross_entropy, 'gain', measures)


def _functions(component: Component, largest: int) -> Family:
  """How far predictions are from the posterior of the pool, and from that of all tasks."""
  arguments = {name: value for name, value in component.arguments.items() if name not in FIXED}
  shots, queries, noise = (arguments.pop(name) for name in ('shots', 'queries', 'noise'))
  whole = FUNCTION_CLASSES[component.name][0](**arguments)
  if is_slow(whole):
    raise ValueError(
      f'task {component}: its Bayes predictor takes too long for a sweep; use fewer inputs'
    )
  source = lambda of: functions(of, shots, queries, noise=noise)
  pool = lambda tasks: task_pool(whole, tasks, most=largest)
  every, pooled = lambda tasks: source(whole), lambda tasks: source(pool(tasks))

  def beside(reference: Any) -> Callable[[Any], Judge]:
    return lambda tasks: _mean_difference(judge_beside(bayes(reference(tasks), noise)))

  of_pool, of_all = beside(pool), beside(lambda tasks: whole)
  measures = {
    'new tasks, from the posterior of the pool': Measure(every, of_pool),
    'new tasks, from the posterior of all': Measure(every, of_all),
    'tasks of the pool, from the posterior of the pool': Measure(pooled, of_pool),
    'tasks of the pool, from the posterior of all': Measure(pooled, of_all),
  }
  return Family(pooled, 1, squared_error, 'difference', measures)


def _mean_difference(judge: Judge) -> Judge:
  """Returns the mean over all lengths of the context, as in figure 2 of Raventos et al. 2023."""
  return lambda *inputs: {'difference': jax.tree.map(jnp.mean, judge(*inputs)['difference'])}
