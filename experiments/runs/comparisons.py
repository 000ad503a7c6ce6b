"""What the commands that compare heads have in common: how they begin, and heads made ready."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from experiments.output.machine import describe_device, versions
from experiments.runs.features import (
  Features,
  checksums,
  of_examples,
  of_run,
  task_maker,
)
from metakit.components.head_learners import HEAD_SUPPLIED, HEADS
from metakit.components.specs import Component, build, parse
from metakit.dispatch import make_dispatch, train_until
from metakit.evaluation import calibrate
from metakit.keys import roots, task_key
from metakit.sources import EpisodeSource
from metakit.tasks import Task
from metakit.train import init_state_for
from metakit.types import Episode, Key, MetaLearner, Params


class Options(NamedTuple):
  """The flags that these commands share, by their names."""

  task: str | None
  test_task: list[str] | None
  head: list[str]
  head_steps: int
  head_tasks_per_step: int
  split: str
  episodes: int
  seed: int
  workdir: str | None
  name: str
  data_dir: str | None
  table_budget_gib: float
  parallel: str


class Comparison(NamedTuple):
  """A comparison that is ready to begin.

  Attributes:
    heads: the specs of the heads, the first one being what others are compared with.
    features: what they are compared on.
    path: the files of results, without the endings of their names.
    setting: what determines the measurements, as records have it.
  """

  heads: list[Component]
  features: Features
  path: Path
  setting: dict[str, Any]


def begin(options: Options, defining: Sequence[str]) -> Comparison:
  """Reads the heads, and makes the features of the run in --workdir or those of --task.

  Args:
    options: the flags.
    defining: names of the flags that determine the measurements.

  Raises:
    ValueError: for an unknown head, or if there is no such run, or its learner does not embed
      examples one by one.
  """
  if not options.workdir:
    raise ValueError('--workdir is missing; give the folder of a run of experiments.train')
  heads = [parse('head', HEADS, spec, supplied=HEAD_SUPPLIED) for spec in options.head]
  workdir, tested = Path(options.workdir), options.test_task or []
  data_dir, budget_gib = options.data_dir, options.table_budget_gib
  make_task = task_maker(data_dir, budget_gib)
  if options.task:
    features = of_examples(options.task, tested, make_task)
  else:
    features = of_run(workdir, tested, make_task, data_dir=data_dir, budget_gib=budget_gib)
  setting = {name: getattr(options, name) for name in defining} | features.description
  setting |= {'device': describe_device(), 'versions': versions()}
  setting['data'] = checksums(features, options.split)
  return Comparison(heads, features, workdir / options.name, setting)


def make_head(head: Component, task: Task, ways: int | None = None) -> MetaLearner:
  """Makes a head for a task."""
  return build(head, num_outputs=ways or task.num_outputs, objective=task.objective)


def ready_params(head: Component, task: Task, train: EpisodeSource, *, options: Options) -> Params:
  """Returns the parameters of a head, trained and calibrated on training classes."""
  learner = make_head(head, task)
  params = _meta_trained(learner, train, options)
  return calibrate(learner, params, train, root=roots(options.seed).calibration)


def _meta_trained(learner: MetaLearner, source: EpisodeSource, options: Options) -> Params:
  """Returns the parameters after training with Adam on tasks of features.

  If training would change none, it returns them at once.
  """
  keys, steps = roots(options.seed), options.head_steps
  episode = source(task_key(keys.train, 0, 0))
  optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, steps))
  state = init_state_for(learner, optimizer, keys.init, episode)
  state = state._replace(params=calibrate(learner, state.params, source, root=keys.calibration))
  if not _learns(learner, keys.init, state.params, episode):
    return state.params
  dispatch = make_dispatch(
    learner, optimizer, source, keys, tasks_per_step=options.head_tasks_per_step
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


def _learns(learner: MetaLearner, key: Key, params: Params, episode: Episode) -> bool:
  """Tells whether the loss of an episode has a gradient. (It has none in the mean of features.)"""
  loss = lambda params, episode: learner.loss(key, params, episode)[0]
  gradient = jax.jit(jax.grad(loss))(params, episode)
  return any(np.any(leaf) for leaf in jax.tree.leaves(gradient))
