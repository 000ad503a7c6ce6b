"""Features that heads are compared on: of a trained run, or the examples of a task themselves."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp

from experiments.components import tasks
from experiments.runs.evaluate import restore
from experiments.runs.setup import make_setup
from experiments.runs.workdir import check_former_split, read_specs
from metakit.components.specs import Component, build, parse, write_spec
from metakit.evaluation import calibrate, embed_source
from metakit.inputs import as_float
from metakit.keys import roots
from metakit.sources import EpisodeSource, on_host
from metakit.tasks import Task, fingerprint_of
from metakit.workdir import open_workdir

# Arguments of a task that leave its table as it is.
OF_EPISODES = (
  *('ways', 'shots', 'queries', 'sampler', 'strength'),
  *('shift', 'degrees', 'stretch', 'mirror'),
)


class Features(NamedTuple):
  """Where episodes of features come from.

  Attributes:
    train: the spec of the task that calibrates and trains the heads, on its training classes. It is
      --task, or the first task to test on.
    tests: the specs of the tasks to test on.
    embed: source of examples -> source of features.
    description: what a record says about the features.
    make_task: makes a task of its spec.
  """

  train: Component
  tests: list[Component]
  embed: Callable[[EpisodeSource], EpisodeSource]
  description: dict[str, Any]
  make_task: Callable[[Component], Task]


def of_examples(
  spec: str, tested: Sequence[str], make_task: Callable[[Component], Task]
) -> Features:
  """Returns the examples of a task themselves as features.

  Args:
    spec: the task that calibrates and trains the heads.
    tested: the tasks to test on; if there are none, it is the same task.
    make_task: makes a task of its spec.
  """
  task = component_of(spec)

  def check(source: EpisodeSource) -> EpisodeSource:
    if source.data is None or source.data.ndim != 2:
      raise ValueError(f'{task.name} has no table of features [rows, features]; train a network')
    z = as_float(jnp.asarray(source.data))  # as networks see them
    return source.replace(data=z.astype(jnp.float32))

  tests = [component_of(each) for each in tested or [spec]]
  return Features(task, tests, check, {'training_task': str(task)}, make_task)


def of_run(
  workdir: Path,
  tested: Sequence[str],
  make_task: Callable[[Component], Task],
  *,
  data_dir: str | None,
  budget_gib: float,
) -> Features:
  """Returns the features that the learner of a run computes.

  Args:
    workdir: the folder of the run.
    tested: the tasks to test on; if there are none, it is the test task of the run.
    make_task: makes a task of its spec.
    data_dir: where real data lies.
    budget_gib: device memory for a table, GiB.

  Raises:
    ValueError: if there is no such run, or its learner does not embed examples one by one.
  """
  specs = read_specs(workdir)
  setup = make_setup(specs, data_dir, budget_gib)
  open_workdir(workdir).check_data({'train': fingerprint_of(setup.task, 'train')})
  check_former_split(specs['task'], setup.task)
  step, state = restore(setup, specs, workdir)
  learner = setup.learner(setup.task)
  if learner.features is None:
    raise ValueError(f'{specs["learner"]} does not embed examples one by one; use inductive ones')
  source = setup.task.source('train')
  params = calibrate(learner, state.params, source, root=roots(specs['seed']).calibration)
  embed = lambda source: embed_source(learner, params, source)[1]
  tests = [component_of(spec) for spec in tested or [specs['test_task']]]
  names = 'learner', 'network', 'optimizer', 'schedule', 'tasks_per_step'
  said = {name: setup.specs[name] for name in names} | {'steps': step}
  said |= {'training_task': setup.specs['task'], 'training_seed': specs['seed']}
  return Features(tests[0], tests, embed, said, make_task)


def component_of(spec: str) -> Component:
  """Reads the spec of a task."""
  return parse('task', tasks.tasks_for(spec), spec, supplied=tasks.TASK_SUPPLIED)


def checksums(features: Features, split: str) -> dict[str, str | None]:
  """Returns the fingerprint of each task's data, by its spec, and of the training classes."""
  of = lambda component, split: fingerprint_of(features.make_task(component), split)
  tested = {component.brief(): of(component, split) for component in features.tests}
  return {'train': of(features.train, 'train'), **tested}


def task_maker(data_dir: str | None, budget_gib: float) -> Callable[[Component], Task]:
  """Returns a function that makes a task of its spec.

  Args:
    data_dir: where real data lies.
    budget_gib: device memory for a table, GiB.
  """
  return lambda component: build(component, data_dir=data_dir, budget=budget_gib * 2**30)


def embedded_once(features: Features) -> Callable[[Component, str], EpisodeSource]:
  """Returns (task, split) -> source of features; tasks of one table share its embedding."""
  tables: dict[tuple[str, str], Any] = {}

  def source(component: Component, split: str) -> EpisodeSource:
    examples = features.make_task(component).source(split)
    if split != 'train' and examples.finish is not None:
      raise ValueError(
        f'{component.name} changes the examples of each episode, so no table of them can be '
        'embedded once; use another task'
      )
    examples = examples.replace(finish=None, schedule=None)  # without augmentation in training
    if examples.data is None or on_host(examples):
      raise ValueError(f'{component.name} has no table of examples in memory, to be embedded once')
    rest = {k: v for k, v in component.arguments.items() if k not in OF_EPISODES}
    name = write_spec(component.name, rest), split
    if name not in tables:
      tables[name] = features.embed(examples).data
    return examples.replace(data=tables[name])

  return source
