r"""Compares heads on the same features and the same test episodes.

  python -m experiments.compare_heads --workdir=runs/omniglot_prototypical \
      --head=prototypical --head=simpleshot --head=tim --test_task=omniglot:ways=20
  python -m experiments.compare_heads --task=arrays:path=features.npz --workdir=runs/features \
      --head=prototypical --head=ridge

The features are those of a trained run, embedded once, or (--task) the examples themselves. A head
with parameters is meta-trained on features of training classes. The difference is to the first
head, paired by episode. Written are NAME.json and, the accuracies of each episode, NAME.npz.
"""

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import tasks
from experiments.evaluate import restore
from experiments.flags import define_common
from experiments.head_learners import HEAD_SUPPLIED, HEADS
from experiments.results import describe_device, format_estimate, versions, write_text
from experiments.runtime import BAD_INPUT, one_line_errors, run
from experiments.setup import make_setup, read_specs
from experiments.specs import Component, build, parse, write_spec
from experiments.task import Task
from experiments.wrap_up import command_line, write_episodes
from metakit.data.host import on_host, sample_episode
from metakit.data.omniglot_runs import WAYS, omniglot_runs
from metakit.evaluate import (
  calibrate,
  compare,
  embed_source,
  estimate,
  evaluate,
  judge_queries,
)
from metakit.keys import roots
from metakit.objectives import cross_entropy
from metakit.train import init_state, make_dispatch, train_until
from metakit.types import Episode, EpisodeSource, MetaLearner, Objective, Params

FLAGS = flags.FLAGS
OF_EPISODES = ('ways', 'shots', 'queries', 'sampler')  # arguments of a task that leave its table
WARM = 64  # episodes that compile a program


class Features(NamedTuple):
  """Where episodes of features come from.

  Attributes:
    train: spec of the task whose training classes calibrate and train the heads.
    tests: specs of the tasks to test on.
    embed: source of examples -> source of features.
    description: what a record says of them.
  """

  train: Component
  tests: list[Component]
  embed: Callable[[EpisodeSource], EpisodeSource]
  description: dict[str, Any]


def main() -> None:
  with one_line_errors(*BAD_INPUT):
    if FLAGS.omniglot_runs and FLAGS.split != 'test':
      raise ValueError('--omniglot_runs are of test characters; use --split=test')
    if not FLAGS.workdir:
      raise ValueError('--workdir is missing; give the folder of a run of experiments.train')
    heads = [parse('head', HEADS, spec, HEAD_SUPPLIED) for spec in FLAGS.head]
    features = given_features() if FLAGS.task else trained_features(Path(FLAGS.workdir))
    cells, values = compare_all(heads, features)
    record = {'cells': cells, 'split': FLAGS.split, 'seed': FLAGS.seed, **features.description}
    record |= {'command': command_line(), 'device': describe_device(), 'versions': versions()}
    path = Path(FLAGS.workdir) / FLAGS.name
    write_text(path.with_suffix('.json'), json.dumps(record, indent=2) + '\n')
    write_episodes(path.with_suffix('.npz'), values)


def compare_all(
  heads: list[Component], features: Features
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
  """Returns the cells of all heads and tasks, and the accuracies of each episode."""
  sources = embedded_once(features.embed)
  train, task = sources(features.train, 'train'), make_task(features.train)
  ready = [(head, trained(made(head, task), train)) for head in heads]
  cells: list[dict[str, Any]] = []
  values: dict[str, np.ndarray] = {}
  for component in features.tests:
    tested, test = make_task(component), sources(component, FLAGS.split)
    found: dict[str, Judged] = {}
    for head, params in ready:
      found[head.brief()] = own = judge(made(head, tested), params, tested.objective, test)
      values[f'{component.brief()}/{head.brief()}'] = own.accuracies
      cells.append(cell(component.brief(), found, head.brief()))
  if FLAGS.omniglot_runs:
    runs = runs_of_features(features.embed)
    found = {h.brief(): judge_runs(made(h, task, WAYS), params, runs) for h, params in ready}
    cells += [cell('omniglot_runs', found, name) for name in found]
    values |= {f'omniglot_runs/{name}': own.accuracies for name, own in found.items()}
  return cells, values


def given_features() -> Features:
  """Returns the examples of --task themselves."""
  train = task_component(FLAGS.task)

  def check(source: EpisodeSource) -> EpisodeSource:
    if source.data is None or source.data.ndim != 2:
      raise ValueError(f'{train.name} has no table of features [rows, features]; train a network')
    return source._replace(data=jnp.asarray(source.data, jnp.float32))

  tests = [task_component(spec) for spec in FLAGS.test_task or [FLAGS.task]]
  return Features(train, tests, check, {'training_task': str(train)})


def trained_features(workdir: Path) -> Features:
  """Returns the features of a run's network.

  Raises:
    ValueError: if there is no such run, or its learner does not embed examples one by one.
  """
  specs = read_specs(workdir)
  setup = make_setup(specs, FLAGS.data_dir, FLAGS.table_budget_gib)
  step, state = restore(setup, specs, workdir)
  learner = setup.learner(setup.task)
  if learner.features is None:
    raise ValueError(f'{specs["learner"]} does not embed examples one by one; use inductive ones')
  source = setup.task.source('train')
  params = calibrate(learner, state.params, source, roots(specs['seed']).calibration)
  embed = lambda source: embed_source(learner, params, source)[1]
  tests = [task_component(spec) for spec in FLAGS.test_task or [specs['test_task']]]
  names = 'learner', 'network', 'optimizer', 'schedule', 'tasks_per_step'
  said = {name: setup.specs[name] for name in names} | {'steps': step}
  said |= {'training_task': setup.specs['task'], 'training_seed': specs['seed']}
  return Features(task_component(specs['task']), tests, embed, said)


def task_component(spec: str) -> Component:
  """Reads the spec of a task."""
  return parse('task', tasks.tasks_for(spec), spec, tasks.TASK_SUPPLIED)


def make_task(component: Component) -> Task:
  """Makes a task as the binaries do."""
  budget = FLAGS.table_budget_gib * 2**30
  return build(component, data_dir=FLAGS.data_dir, budget=budget)


def embedded_once(
  embed: Callable[[EpisodeSource], EpisodeSource],
) -> Callable[[Component, str], EpisodeSource]:
  """Returns (task, split) -> source of features; tasks of one table share its embedding."""
  tables: dict[tuple[str, str], Any] = {}

  def source(component: Component, split: str) -> EpisodeSource:
    examples = make_task(component).source(split)._replace(finish=None, schedule=None)
    if examples.data is None or on_host(examples):
      raise ValueError(f'{component.name} has no table of examples in memory, to be embedded once')
    rest = {k: v for k, v in component.arguments.items() if k not in OF_EPISODES}
    name = write_spec(component.name, rest), split
    if name not in tables:
      tables[name] = embed(examples).data
    return examples._replace(data=tables[name])

  return source


class Judged(NamedTuple):
  """What was measured of a head.

  Attributes:
    accuracies: [episodes].
    protocol: of the head.
    seconds: of a thousand episodes, compiled before; None for official runs, which are no sample.
  """

  accuracies: np.ndarray
  protocol: str
  seconds: float | None


def made(head: Component, task: Task, ways: int | None = None) -> MetaLearner:
  """Makes a head for a task."""
  return build(head, num_outputs=ways or task.num_outputs, objective=task.objective)


def trained(learner: MetaLearner, train: EpisodeSource) -> Params:
  """Returns the parameters of a head, trained and calibrated on training classes."""
  params = meta_trained(learner, train, FLAGS.head_steps)
  return calibrate(learner, params, train, roots(FLAGS.seed).calibration)


def judge(
  learner: MetaLearner, params: Params, objective: Objective, test: EpisodeSource
) -> Judged:
  """Tests a head."""
  given = learner, objective, params, test, getattr(roots(FLAGS.seed), FLAGS.split)
  warm = min(WARM * jax.local_device_count(), FLAGS.episodes)  # the same chunks, compiled
  evaluate(*given, warm, parallel=FLAGS.parallel)
  start = time.perf_counter()
  values = evaluate(*given, FLAGS.episodes, parallel=FLAGS.parallel)['accuracy']
  seconds = (time.perf_counter() - start) / FLAGS.episodes * 1000
  return Judged(values, learner.protocol, round(seconds, 3))


def runs_of_features(embed: Callable[[EpisodeSource], EpisodeSource]) -> Episode:
  """Returns the 20 official one-shot runs of Omniglot as features, with a leading axis."""
  runs = omniglot_runs(FLAGS.data_dir)
  images = np.concatenate([part.x.reshape(-1, *part.x.shape[2:]) for part in runs[:2]])
  rows = EpisodeSource(lambda key: Episode(*runs[:2]), images)
  halves = jnp.split(embed(rows).data, 2)
  like = lambda part, z: part._replace(x=z.reshape(*part.y.shape, -1))
  return Episode(*(like(part, z) for part, z in zip(runs[:2], halves, strict=True)))


def judge_runs(learner: MetaLearner, params: Params, runs: Episode) -> Judged:
  """Tests a head on given episodes."""
  given = partial(judge_queries, learner, cross_entropy, params, roots(FLAGS.seed).test)
  return Judged(np.asarray(jax.jit(jax.vmap(given))(runs)['accuracy']), learner.protocol, None)


def meta_trained(learner: MetaLearner, source: EpisodeSource, steps: int) -> Params:
  """Returns parameters after steps of Adam on tasks of features; at once if there are none."""
  keys, episode = roots(FLAGS.seed), sample_episode(source, roots(FLAGS.seed).init)
  optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, steps))
  state = init_state(learner, optimizer, keys.init, lambda _: episode)
  state = state._replace(params=calibrate(learner, state.params, source, keys.calibration))
  if not jax.tree.leaves(state.params):
    return state.params
  dispatch = make_dispatch(learner, optimizer, source, keys, FLAGS.head_tasks_per_step)
  return train_until(dispatch, state, source, 0, steps, min(steps, 100), lambda *_: None).params


def cell(task: str, found: dict[str, Judged], head: str) -> dict[str, Any]:
  """Returns the record of a head on a task, and prints it."""
  first, own = next(iter(found.values())), found[head]
  mean, ci95, episodes = estimate(own.accuracies)
  difference = compare(own.accuracies, first.accuracies)
  known = {
    'task': task,
    'head': head,
    'protocol': own.protocol,
    'mean': mean,
    'ci95': None if own.seconds is None else ci95,
    'episodes': episodes,
    'difference': [difference.mean, None if own.seconds is None else difference.ci95],
    'seconds_per_1000': own.seconds,
  }
  print(f'{task}: {head} ({own.protocol}) {score(known)}, {own.seconds} s per 1,000 episodes')
  return known


def score(cell: Mapping[str, Any]) -> str:
  """Returns the accuracy of a cell and its difference to the first head, in percent."""
  mean, ci95 = cell['difference']
  apart = f'{100 * mean:+.2f}' + ('' if ci95 is None else f' ± {100 * ci95:.2f}')
  return f'{format_estimate("accuracy", cell["mean"], cell["ci95"])}, {apart}'


def define_heads() -> None:
  """Defines the flags of this binary beside the common ones."""
  flags.DEFINE_multi_string('head', None, 'a head spec; once for each', required=True)
  flags.DEFINE_multi_string('test_task', None, 'a task spec to test on; once for each')
  flags.DEFINE_enum('split', 'test', ['validation', 'test'], 'classes that episodes are of')
  flags.DEFINE_bool('omniglot_runs', False, 'also the 20 official one-shot runs (20-way)')
  flags.DEFINE_string('name', 'heads', 'of the files that are written')
  flags.DEFINE_integer('head_steps', 2000, 'meta-training steps of a head', lower_bound=1)
  flags.DEFINE_integer('head_tasks_per_step', 4, 'tasks in each', lower_bound=1)


if __name__ == '__main__':
  define_common()
  define_heads()
  run(main, __doc__)
