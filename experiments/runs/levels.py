"""Three levels of generalisation in a test: new examples, new classes, classes of new groups."""

from typing import Any

import numpy as np

from experiments.components.class_parts import brief_names
from experiments.output.progress import episode_progress
from experiments.output.text import format_levels
from experiments.runs.evaluation import Tested, judge_of_test, per_episode
from metakit.estimates import estimate

FURTHEST = 'families'  # which the test part of a task with levels is


def record_levels(tested: Tested, values: np.ndarray) -> dict[str, Any]:
  """Returns what a record says of the levels of a test, and says it; nothing without levels.

  Args:
    tested: the learner, ready for the test.
    values: [episodes] the headline metric of the test, which has as many episodes as each level.

  Returns:
    'levels': level -> mean, ci95 and the names of its classes. Episode i of all levels is made from
    the same key.
  """
  task = tested.task
  if not task.levels or task.table is None:
    return {}
  levels = {}
  for level in task.levels:
    known = level == FURTHEST and task.tested == 'test'
    mean, ci95, _ = estimate(values if known else _values(at_level(tested, level), len(values)))
    levels[level] = {'mean': mean, 'ci95': ci95, 'classes': brief_names(task.table(level).names)}
  for said, score in format_levels(task.metric, levels).items():
    print(f'{task.metric} of {said}: {score}')
  return {'levels': levels}


def _values(tested: Tested, episodes: int) -> np.ndarray:
  with episode_progress(f'level {tested.split}: {episodes} episodes', episodes) as on_chunk:
    values = per_episode(tested, episodes, on_chunk, judge=judge_of_test(tested.task))
  return values[tested.task.metric]


def at_level(tested: Tested, level: str) -> Tested:
  """Returns the learner, ready for the episodes of a level.

  Its rows are those of the test, so what is compiled and embedded for that serves the level too.
  """
  (learner, embedded), source = tested.quick, tested.task.source(level)
  quick = learner, embedded.replace(plan=source.plan)
  if learner is tested.learner or source.data is not tested.source.data:
    quick = tested.learner, source
  return tested._replace(source=source, quick=quick, split=level)
