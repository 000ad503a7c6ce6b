"""The test of a trained learner, and what the report shows of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.components import Task, sources_by_shots
from experiments.report import AdaptationPoint, EpisodePicture
from experiments.setup import Setup
from metakit.data.host import on_host
from metakit.episodes.few_shot import gather_rows
from metakit.evaluate import calibrate, embed_source, estimate, evaluate, gather_host
from metakit.keys import roots, task_key
from metakit.types import EpisodeSource, Key, MetaLearner, Params

CURVE_SHOTS = (1, 2, 3, 5, 7, 10)
CURVE_STEPS = (0, 1, 2, 3, 5, 10)
CURVE_EPISODES = 200
MAX_CHUNK = 64
CHUNK_EXAMPLES = 2000  # examples adapted to and predicted at a time, which bounds the memory


class Tested(NamedTuple):
  """A learner ready for test episodes.

  Attributes:
    learner: the learner of the test task.
    params: its calibrated parameters.
    seed: names the test episodes.
  """

  learner: MetaLearner
  params: Params
  seed: int


def prepare(setup: Setup, params: Params, task: Task, seed: int) -> Tested:
  """Calibrates a learner on training episodes for the test on `task`."""
  learner = setup.learner(task)
  root = roots(setup.specs['seed']).calibration
  return Tested(learner, calibrate(learner, params, setup.task.source('train'), root), seed)


def per_episode(
  tested: Tested, task: Task, source: EpisodeSource, root: Key, episodes: int
) -> dict[str, np.ndarray]:
  """Returns the metrics of each episode; the table is embedded once if the learner allows it."""
  learner, source = embed_source(tested.learner, tested.params, source)
  chunk = chunk_of(source)
  return dict(evaluate(learner, task.objective, tested.params, source, root, episodes, chunk))


def chunk_of(source: EpisodeSource) -> int:
  """Returns how many episodes to evaluate side by side."""
  shapes = jax.eval_shape(source.plan, jax.random.key(0))
  examples = sum(part.y.shape[0] for part in (shapes.support, shapes.query))
  return max(1, min(MAX_CHUNK, CHUNK_EXAMPLES // examples))


def adaptation_curve(
  setup: Setup, tested: Tested, task: Task
) -> tuple[list[AdaptationPoint], str]:
  """Returns the metric against inner steps, or else against support examples a class."""
  root = roots(tested.seed).test

  def point(amount: int, learner: MetaLearner, source: EpisodeSource) -> AdaptationPoint:
    values = per_episode(tested._replace(learner=learner), task, source, root, CURVE_EPISODES)
    mean, ci95, _ = estimate(values[task.metric])
    return AdaptationPoint(amount, mean, ci95)

  if 'inner_steps=' in setup.specs['learner']:
    source = task.source('test')
    learners = {n: setup.learner(task, test_steps=n) for n in CURVE_STEPS}
    return [point(n, learner, source) for n, learner in learners.items()], 'inner steps'
  sources = sources_by_shots(task, CURVE_SHOTS)
  return [point(n, tested.learner, s) for n, s in sources.items()], 'support examples a class'


def picture(tested: Tested, task: Task) -> EpisodePicture:
  """Returns test episode 0 with its predictions."""
  source = task.source('test')
  key = task_key(roots(tested.seed).test, 0, 0)
  planned = source.plan(key)
  host = on_host(source)
  episode = gather_host(planned, source.data) if host else gather_rows(planned, source.data)
  fitted = tested.learner.adapt(jax.random.fold_in(key, 1), tested.params, episode.support)
  outputs = tested.learner.predict(fitted, episode.query.x)
  arrays = (episode.support.x, episode.support.y, episode.query.x, episode.query.y, outputs)
  return EpisodePicture(*(np.asarray(a) for a in arrays))
