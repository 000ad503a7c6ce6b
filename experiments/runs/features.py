"""Features that heads are compared on, and heads made ready for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments.components import tasks
from experiments.components.head_learners import HEAD_SUPPLIED, HEADS
from experiments.components.specs import Component, build, parse, write_spec
from experiments.runs.evaluate import restore
from experiments.runs.setup import make_setup
from experiments.runs.workdir import check_former_split, read_specs
from metakit.dispatch import make_dispatch, train_until
from metakit.evaluation import calibrate, embed_source
from metakit.inputs import as_float
from metakit.keys import roots, task_key
from metakit.sources import EpisodeSource, on_host
from metakit.tasks import Task, fingerprint_of
from metakit.train import init_state_for
from metakit.types import Episode, MetaLearner, Params
from metakit.workdir import open_workdir

FLAGS = flags.FLAGS
# Arguments of a task that leave its table as it is.
OF_EPISODES = ('ways', 'shots', 'queries', 'sampler', 'shift', 'degrees', 'stretch', 'mirror')


class Features(NamedTuple):
  """Where episodes of features come from.

  Attributes:
    train: the spec of the task that calibrates and trains the heads, on its training classes. It is
      --task, or the first task to test on.
    tests: the specs of the tasks to test on.
    embed: source of examples -> source of features.
    description: what a record says about the features.
  """

  train: Component
  tests: list[Component]
  embed: Callable[[EpisodeSource], EpisodeSource]
  description: dict[str, Any]


def features_of_flags() -> Features:
  """Returns the features of the run in --workdir, or the examples themselves of --task.

  Raises:
    ValueError: if there is no such run, or its learner does not embed examples one by one.
  """
  if not FLAGS.workdir:
    raise ValueError('--workdir is missing; give the folder of a run of experiments.train')
  return _given() if FLAGS.task else _trained(Path(FLAGS.workdir))


def _given() -> Features:
  task = _component(FLAGS.task)

  def check(source: EpisodeSource) -> EpisodeSource:
    if source.data is None or source.data.ndim != 2:
      raise ValueError(f'{task.name} has no table of features [rows, features]; train a network')
    z = as_float(jnp.asarray(source.data))  # as networks see them
    return source.replace(data=z.astype(jnp.float32))

  tests = [_component(spec) for spec in FLAGS.test_task or [FLAGS.task]]
  return Features(task, tests, check, {'training_task': str(task)})


def _trained(workdir: Path) -> Features:
  specs = read_specs(workdir)
  setup = make_setup(specs, FLAGS.data_dir, FLAGS.table_budget_gib)
  open_workdir(workdir).check_data({'train': fingerprint_of(setup.task, 'train')})
  check_former_split(specs['task'], setup.task)
  step, state = restore(setup, specs, workdir)
  learner = setup.learner(setup.task)
  if learner.features is None:
    raise ValueError(f'{specs["learner"]} does not embed examples one by one; use inductive ones')
  source = setup.task.source('train')
  params = calibrate(learner, state.params, source, root=roots(specs['seed']).calibration)
  embed = lambda source: embed_source(learner, params, source)[1]
  tests = [_component(spec) for spec in FLAGS.test_task or [specs['test_task']]]
  names = 'learner', 'network', 'optimizer', 'schedule', 'tasks_per_step'
  said = {name: setup.specs[name] for name in names} | {'steps': step}
  said |= {'training_task': setup.specs['task'], 'training_seed': specs['seed']}
  return Features(tests[0], tests, embed, said)


def _component(spec: str) -> Component:
  return parse('task', tasks.tasks_for(spec), spec, tasks.TASK_SUPPLIED)


def checksums(features: Features, split: str) -> dict[str, str | None]:
  """Returns the fingerprint of each task's data, by its spec, and of the training classes."""
  of = lambda component, split: fingerprint_of(make_task(component), split)
  tested = {component.brief(): of(component, split) for component in features.tests}
  return {'train': of(features.train, 'train'), **tested}


def make_task(component: Component) -> Task:
  """Makes a task by the flags --data_dir and --table_budget_gib."""
  budget = FLAGS.table_budget_gib * 2**30
  return build(component, data_dir=FLAGS.data_dir, budget=budget)


def embedded_once(
  embed: Callable[[EpisodeSource], EpisodeSource],
) -> Callable[[Component, str], EpisodeSource]:
  """Returns (task, split) -> source of features; tasks of one table share its embedding."""
  tables: dict[tuple[str, str], Any] = {}

  def source(component: Component, split: str) -> EpisodeSource:
    examples = make_task(component).source(split).replace(finish=None, schedule=None)
    if examples.data is None or on_host(examples):
      raise ValueError(f'{component.name} has no table of examples in memory, to be embedded once')
    rest = {k: v for k, v in component.arguments.items() if k not in OF_EPISODES}
    name = write_spec(component.name, rest), split
    if name not in tables:
      tables[name] = embed(examples).data
    return examples.replace(data=tables[name])

  return source


def chosen_heads() -> list[Component]:
  """Reads the heads of --head."""
  return [parse('head', HEADS, spec, HEAD_SUPPLIED) for spec in FLAGS.head]


def make_head(head: Component, task: Task, ways: int | None = None) -> MetaLearner:
  """Makes a head for a task."""
  return build(head, num_outputs=ways or task.num_outputs, objective=task.objective)


def ready_params(head: Component, task: Task, train: EpisodeSource) -> Params:
  """Returns the parameters of a head, trained and calibrated on training classes."""
  learner = make_head(head, task)
  params = _meta_trained(learner, train, FLAGS.head_steps)
  return calibrate(learner, params, train, root=roots(FLAGS.seed).calibration)


def _meta_trained(learner: MetaLearner, source: EpisodeSource, steps: int) -> Params:
  """Returns the parameters after training with Adam on tasks of features.

  If training would change none, it returns them at once.
  """
  keys = roots(FLAGS.seed)
  episode = source(task_key(keys.train, 0, 0))
  optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, steps))
  state = init_state_for(learner, optimizer, keys.init, episode)
  state = state._replace(params=calibrate(learner, state.params, source, root=keys.calibration))
  if not _learns(learner, state.params, episode):
    return state.params
  dispatch = make_dispatch(
    learner, optimizer, source, keys, tasks_per_step=FLAGS.head_tasks_per_step
  )
  return train_until(
    dispatch,
    state,
    source,
    first=0,
    stop=steps,
    steps_per_dispatch=min(steps, 100),
    on_metrics=lambda *_: None,
  ).params


def _learns(learner: MetaLearner, params: Params, episode: Episode) -> bool:
  """Tells whether the loss of an episode has a gradient. (It has none in the mean of features.)"""
  loss = lambda params: learner.loss(roots(FLAGS.seed).init, params, episode)[0]
  return any(np.any(leaf) for leaf in jax.tree.leaves(jax.grad(loss)(params)))
