"""Makes the components of a run from its flags, and checks them before anything is written."""

import contextlib
import errno
import functools
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.components import schedules, tasks
from experiments.runs.densities import check_together, outputs_of, predicted_by, with_objective
from metakit.components import learners
from metakit.components.descent_learners import BY_DESCENT
from metakit.components.objectives import OBJECTIVE_SUPPLIED, OBJECTIVES
from metakit.components.optimizers import OPTIMIZERS
from metakit.components.own import own_name
from metakit.components.ranges import check_argument
from metakit.components.specs import Component, build, parse
from metakit.evaluation import judge_meta_gradient
from metakit.evaluation.in_context import judge_likeness
from metakit.keys import roots
from metakit.models import SequenceModel
from metakit.sizes import check_memory, device_bytes, tree_bytes
from metakit.sources import abstract_episode
from metakit.tasks import Task, training_classes
from metakit.train import TrainState, init_state_for
from metakit.types import MetaLearner, Objective, Params

# These flags, together with the data, determine the parameters that a run ends with. A workdir
# belongs to one set of their values.
DEFINING = (
  'task',
  'test_task',
  'learner',
  'network',
  'objective',
  'optimizer',
  'schedule',
  'clip_norm',
  'steps',
  'tasks_per_step',
  'seed',
  'start',
  'teacher',
)
# Flags that workdirs of an earlier version do not have.
OPTIONAL = 'objective', 'start', 'teacher'


class Setup(NamedTuple):
  """The components of a run.

  Attributes:
    task: the training distribution.
    test_task: the distribution of validation and test.
    learner: (task, overridden arguments) -> MetaLearner.
    network: task -> Model or SequenceModel, the one inside the learner.
    specs: the full spec of each component, defaults filled in, and the other DEFINING flags.
    parallel: how episodes share devices in validation and test.
    borders: of the buckets of the objective, if it has buckets.
    teacher: the params of the teacher of a training (experiments.runs.teacher), if it has one.
  """

  task: Task
  test_task: Task
  learner: Callable[..., MetaLearner]
  network: Callable[[Task], Any]
  specs: dict[str, Any]
  parallel: str
  borders: tuple[float, ...] | None = None
  teacher: Params | None = None


def make_setup(
  flags: Mapping[str, Any], data_dir: str | None, budget_gib: float, *, parallel: str = 'none'
) -> Setup:
  """Reads the component flags.

  Args:
    flags: values of DEFINING by name.
    data_dir: where real data lies.
    budget_gib: device memory for a table, GiB.
    parallel: see Setup.

  Raises:
    ValueError: in one line, for an unknown component or argument or a combination without sense.
    OSError: for missing data.
  """
  supplied = {'data_dir': data_dir, 'budget': budget_gib * 2**30}
  learner = _component('learner', flags['learner'])
  usual = tasks.DEFAULT_TASK
  usual_training = tasks.DEFAULT_TRAINING_TASK.get(learner.name, usual)
  task = _component('task', flags['task'] or usual_training)
  test_task = _component('test_task', flags['test_task'] or flags['task'] or usual)
  check_same_pool(task, test_task)
  built = build(task, **supplied)
  tested = built if task == test_task else build(test_task, **supplied)
  # The source of each split is kept, since it may hold a table on the device.
  kept = functools.lru_cache(maxsize=3)
  built, tested = (each._replace(source=kept(each.source)) for each in (built, tested))
  predicted = predicted_by(learner.name, flags.get('objective'), built)
  built, tested = (with_objective(each, predicted) for each in (built, tested))
  network = _network(flags['network'], learner.name, built)
  built, tested = (_with_measures(each, learner, network) for each in (built, tested))
  specs = {name: flags.get(name) if name in OPTIONAL else flags[name] for name in DEFINING}
  specs |= {'task': str(task), 'test_task': str(test_task)}
  specs |= {'learner': str(learner), 'network': str(network)}
  given = [name for name in ('optimizer', 'schedule', 'objective') if specs[name]]
  specs |= {name: str(_component(name, flags[name])) for name in given}

  @functools.cache  # so that a learner stays the same object, for which programs are compiled once
  def learner_for(num_outputs: int, objective: Objective, **overridden: Any) -> MetaLearner:
    made = build(
      learner._replace(arguments={**learner.arguments, **overridden}),
      network=lambda outputs: build(network, num_outputs=outputs),
      num_outputs=num_outputs,
      objective=objective,
      num_classes=training_classes(built),
    )
    check_together(made, objective)
    return made

  def make_learner(task: Task, **overridden: Any) -> MetaLearner:
    return learner_for(task.num_outputs, task.objective, **overridden)

  make_network = lambda task: build(network, num_outputs=outputs_of(task))
  return Setup(built, tested, make_learner, make_network, specs, parallel, predicted.borders)


POOL = ('tasks', 'size', 'pixels')  # projected tasks with equal values have the same pool


def check_same_pool(trained: Component, tested: Component) -> None:
  """Raises ValueError if a test asks for seen tasks, but its pool is not that of training."""
  if not tested.arguments.get('seen'):
    return
  pool = {name: trained.arguments.get(name) for name in POOL}
  if trained.name != tested.name or any(tested.arguments[name] != pool[name] for name in POOL):
    raise ValueError(
      f'{tested}: seen=true, but training is on {trained}; use its {", ".join(POOL)}'
    )


def _network(spec: str | None, learner: str, task: Task) -> Component:
  usual = learners.DEFAULT_NETWORK.get(learner, 'conv4')
  sequences = learners.SEQUENCE_NETWORKS
  if usual in sequences and not task.exchangeable:
    usual = learners.SET_NETWORK
  network = _component('network', spec or usual)
  if learners.NO_NETWORK in (network.name, usual) and network.name != usual:
    _check_no_network(learner, usual)
  reads = _reads_sequences(network, task)
  if not own_name(learner) and reads != (usual.partition(':')[0] in sequences):
    raise ValueError(f'learner {learner} cannot use network {network.name}; use {usual}')
  is_set = network.arguments.get('attention') == 'set'
  if reads and not task.exchangeable and not is_set:
    raise ValueError(
      f'network {network.name} reads one example after the other, and the support of this task is '
      f'sorted by class: it would learn the order; use --network={usual}, or a task whose examples '
      'are in no order (projected, dense, ...)'
    )
  return network


def _check_no_network(learner: str, usual: str) -> None:
  """Raises ValueError where a network is given to a learner that takes none, or none to another."""
  if usual == learners.NO_NETWORK:
    raise ValueError(
      f'learner {learner} has networks of its own; leave --network out, and set their sizes in '
      '--learner'
    )
  if not own_name(learner):
    raise ValueError(f'learner {learner} cannot use network {learners.NO_NETWORK}; use {usual}')


def _reads_sequences(network: Component, task: Task) -> bool:
  """Tells whether a network reads the support as a sequence; the type of one's own says so."""
  if own_name(network.name):
    return isinstance(build(network, num_outputs=outputs_of(task)), SequenceModel)
  return network.name in learners.SEQUENCE_NETWORKS


# What learners measure of themselves (`diagnose`), by their names.
OF_ITSELF = {**dict.fromkeys(BY_DESCENT, 'meta_gradient_cosine'), 'mend': 'divergence'}


def _with_measures(task: Task, learner: Component, network: Component) -> Task:
  """Adds judges of the learner itself to those of a task."""
  if learner.name in OF_ITSELF:
    judges = {OF_ITSELF[learner.name]: judge_meta_gradient}
    return task._replace(judges={**task.judges, **judges})
  fits = learner.arguments.get('layout') == 'pairs' and network.name == 'transformer'
  if not fits or network.arguments['attention'] == 'set':
    return task
  model = build(network, num_outputs=outputs_of(task))
  judge = judge_likeness(model, task.num_outputs, learner.arguments['label_scale'])
  return task._replace(judges={**task.judges, 'likeness_to_descent': judge})


COMPONENTS = {
  'objective': (OBJECTIVES, OBJECTIVE_SUPPLIED),
  'learner': (learners.LEARNERS, learners.LEARNER_SUPPLIED),
  'network': (learners.NETWORKS, learners.NETWORK_SUPPLIED),
  'optimizer': (OPTIMIZERS, ()),
  'schedule': (schedules.SCHEDULES, schedules.SCHEDULE_SUPPLIED),
}


def _component(flag: str, spec: str) -> Component:
  """Reads the spec of a flag."""
  if flag in ('task', 'test_task'):
    return parse('task', tasks.tasks_for(spec), spec, supplied=tasks.TASK_SUPPLIED)
  factories, supplied = COMPONENTS[flag]
  return parse(flag, factories, spec, supplied=supplied)


def with_defaults(specs: Mapping[str, Any]) -> dict[str, Any]:
  """Returns full specs of an earlier version with the defaults of arguments that are new.

  A spec that this version cannot read stays as it is.
  """
  filled = dict(specs)
  for flag in _spec_flags(filled):
    with contextlib.suppress(ValueError):
      filled[flag] = str(_component(flag, specs[flag]))
  return filled


def brief_specs(specs: Mapping[str, Any]) -> dict[str, Any]:
  """Returns specs without the arguments that are at their defaults."""
  brief = {flag: _component(flag, specs[flag]).brief() for flag in _spec_flags(specs)}
  return {**specs, **brief}


def _spec_flags(specs: Mapping[str, Any]) -> list[str]:
  known = 'task', 'test_task', *COMPONENTS
  return [flag for flag in known if isinstance(specs.get(flag), str)]


def make_optimizer(flags: Mapping[str, Any]) -> optax.GradientTransformation:
  """Returns the outer optimizer of the flags: optimizer, schedule, clip_norm and steps."""
  optimizer = _component('optimizer', flags['optimizer'])
  rate = optimizer.arguments['learning_rate']
  course = _component('schedule', flags['schedule'])
  schedule = build(course, learning_rate=rate, steps=flags['steps'])
  try:
    outer = build(optimizer._replace(arguments={**optimizer.arguments, 'learning_rate': schedule}))
    jax.eval_shape(lambda p: outer.update(p, outer.init(p), p), {'kernel': jnp.zeros((2, 2))})
  except (TypeError, ValueError) as error:
    raise ValueError(
      f'--optimizer={optimizer} does not work ({error}); use other arguments, or '
      '--schedule=constant if it takes a number alone'
    ) from error
  check_argument('clip_norm', 'clip_norm', flags['clip_norm'], default=0.0)
  if not flags['clip_norm']:
    return outer
  return optax.chain(optax.clip_by_global_norm(flags['clip_norm']), outer)


def abstract_state(
  setup: Setup, learner: MetaLearner, optimizer: optax.GradientTransformation
) -> TrainState:
  """Returns the shapes and types of the training state."""
  make = lambda key, episode: init_state_for(learner, optimizer, key, episode)
  return jax.eval_shape(make, roots(0).init, abstract_episode(setup.task.source('train')))


def check_fits(setup: Setup, splits: Sequence[str] = ('validation', 'test')) -> None:
  """Raises ValueError if a split is too small, or the learner is unfit for its episodes."""
  tested = setup.learner(setup.test_task)
  if tested.queries_seen and not setup.test_task.fixed_shots:
    raise ValueError(
      f'{setup.specs["learner"].partition(":")[0]} is transductive here (norm=batch, or '
      'protocol=transductive), and the padding of variable_shot would change its predictions; use '
      'norm=group, or protocol=inductive'
    )
  check_levels(setup)
  remedy = 'use fewer ways, shots and queries, or smaller examples'
  for split in (*splits, *setup.test_task.levels):
    size = tree_bytes(abstract_episode(setup.test_task.source(split)))
    check_memory(f'an episode of {setup.specs["test_task"]}', size, remedy, limit=device_bytes())
  shapes = lambda task, split: jax.eval_shape(
    setup.learner(task).init, jax.random.key(0), abstract_episode(task.source(split))
  )
  tested_shapes = [shapes(setup.test_task, split) for split in splits]
  if any(each != shapes(setup.task, 'train') for each in tested_shapes):
    raise ValueError(
      f'{setup.specs["learner"].partition(":")[0]} trained on {setup.specs["task"]} has '
      f'parameters of other shapes than {setup.specs["test_task"]} needs; use the same ways and '
      'image size in both'
    )


def check_levels(setup: Setup) -> None:
  """Raises ValueError if the levels of a test are not those of the classes trained on."""
  known, trained = setup.test_task.table, setup.task.table
  if not setup.test_task.levels or known is None:
    return
  ours, theirs = known('train'), trained and trained('train')
  same = theirs and (ours.names, ours.counts.tolist()) == (theirs.names, theirs.counts.tolist())
  if not same:
    raise ValueError(
      f'{setup.specs["test_task"]} has levels, which say what is new beside its training classes, '
      f'and training is on {setup.specs["task"]}; train and test on the same data with equal levels'
    )


def check_training_memory(setup: Setup, state: TrainState, tasks: int) -> None:
  """Raises ValueError if a device has too little memory for the least that training takes.

  Args:
    setup: the setup of the run.
    state: the training state, or its shapes.
    tasks: how many tasks of a step a device computes.
  """
  limit, learner = device_bytes(), setup.specs['learner'].partition(':')[0]
  spec, episode = setup.specs['task'], abstract_episode(setup.task.source('train'))
  remedy = 'use fewer --tasks_per_step, or smaller tasks'
  check_memory(f'{tasks:,} episodes of {spec}', tasks * tree_bytes(episode), remedy, limit=limit)
  size = tree_bytes(state) + tree_bytes(state.params)  # as many gradients
  check_memory(f'training {learner}', size, f'use a smaller {setup.specs["network"]}', limit=limit)


RUN_BYTES = 8 << 20  # metrics, events, results and report


def check_space(workdir: Path, state: Any, keep: int = 2) -> None:
  """Raises OSError if a run that writes `state` as its checkpoints has too little space.

  Args:
    workdir: the folder of the run, which need not exist.
    state: arrays or their shapes.
    keep: how many checkpoints are kept. While one is written there is one more.
  """
  needed = (keep + 1) * tree_bytes(state) + RUN_BYTES
  folder = workdir.absolute()
  while not folder.exists():
    folder = folder.parent
  free = shutil.disk_usage(folder).free
  if free < needed:
    raise OSError(
      errno.ENOSPC,
      f'{workdir} has {free / 2**20:.1f} MiB of space and this run needs {needed / 2**20:.1f}; '
      'free some or use another --workdir',
    )
