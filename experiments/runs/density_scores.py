"""How good predicted densities are in a test, also beside the exact posterior."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.output.progress import episode_progress
from experiments.runs.evaluation import Tested, judged_by
from metakit.estimates import Estimate, compare, estimate
from metakit.evaluation import calibration_error, judge_queries
from metakit.evaluation.densities import LEVELS

SHOWN = (0.5, 0.9, 0.95)  # levels of central intervals
SCORES = ('nats', 'crps', 'squared_error')


def density_scores(tested: Tested, values: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Returns what a record says of densities; {} if none were measured.

  Args:
    tested: the learner.
    values: what metakit.evaluation.judge_density gave for each episode.

  Returns:
    Each with its 95% interval: 'nats' (log p of a target), 'crps', 'squared_error'; 'coverage', how
    many targets are in central intervals of some levels; 'ece', the mean difference of coverage and
    level over many levels; and 'gap', by how many nats the exact posterior is better on the same
    targets, if it is known.
  """
  if 'coverage' not in values:
    return {}
  covered = values['coverage']
  scores: dict[str, Any] = {name: _kept(estimate(values[name])) for name in SCORES}
  scores['coverage'] = {
    f'{100 * level:.0f}%': _kept(estimate(covered[:, LEVELS.index(level)])) for level in SHOWN
  }
  scores['ece'] = _kept(calibration_error(covered))
  if tested.task.posterior is not None:
    best = posterior_nats(tested, len(covered))
    gap = compare(best, values['nats'][: len(best)])
    scores['gap'] = {**_kept(gap), 'episodes': gap.episodes}
  return {'density': scores}


def posterior_nats(tested: Tested, episodes: int) -> np.ndarray:
  """Returns log p of a target under the exact posterior, [episodes], on the first test episodes."""
  assert tested.task.posterior is not None
  learner, objective = tested.task.posterior
  few = min(episodes, tested.task.reference_episodes or episodes)
  exact = tested._replace(
    task=tested.task._replace(objective=objective), params={}, quick=(learner, tested.source)
  )
  with episode_progress(f'exact posterior of {few} episodes', few) as on_chunk:
    return -judged_by(judge_queries, exact, few, on_chunk=on_chunk)['loss']


def _kept(found: Estimate) -> dict[str, float]:
  return {'mean': found.mean, 'ci95': found.ci95}
