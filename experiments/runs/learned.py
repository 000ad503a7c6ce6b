"""Whether a training taught anything: beside guessing, and beside the untrained network."""

import sys
from typing import Any

import jax
import numpy as np

from experiments.output.text import format_baselines
from experiments.runs.evaluation import Tested
from experiments.runs.seen import Seen, best_guess, see
from experiments.runs.setup import Setup, make_optimizer
from metakit.distributed import is_first
from metakit.estimates import compare
from metakit.evaluation import calibrate, embed_source
from metakit.keys import roots
from metakit.sources import abstract_episode
from metakit.training import begin

EPISODES = 100  # of the untrained network


def beside_baselines(setup: Setup, tested: Tested, seen: Seen) -> dict[str, Any]:
  """Returns what a record says of the learner beside guessing and beside its untrained network.

  Args:
    setup: the setup of the run.
    tested: the learner after training.
    seen: its first test episodes.

  Returns:
    'metric', and for each baseline its own 'mean', and the learner's 'gain' over it with its
    'ci95', paired over 'episodes'. More gain is better, whatever the metric. Where nothing is
    trained there is no 'untrained'.
  """
  metric = 'accuracy' if tested.task.objective.classifies else 'loss'
  sign, values = (1.0 if metric == 'accuracy' else -1.0), seen.metrics[metric]
  record: dict[str, Any] = {'metric': metric}
  if best := best_guess(seen, sign):
    record['guessing'] = {'how': best[0], **_gain(values, best[1], sign)}
  if jax.tree.leaves(tested.params):
    before = see(untrained(setup, tested), min(EPISODES, len(values)), said='untrained network:')
    record['untrained'] = _gain(values, before.metrics[metric], sign)
  return record


def _gain(values: np.ndarray, others: np.ndarray, sign: float) -> dict[str, Any]:
  """Returns by how much values [episodes] are better than others, which may be of fewer."""
  mean, ci95, episodes = compare(sign * values[: len(others)], sign * others)
  return {'mean': float(np.mean(others)), 'gain': mean, 'ci95': ci95, 'episodes': episodes}


def untrained(setup: Setup, tested: Tested) -> Tested:
  """Returns what a run began with, calibrated as the learner is after training."""
  keys, source = roots(setup.specs['seed']), setup.task.source('train')
  optimizer = make_optimizer(setup.specs)
  params = jax.device_get(begin(setup.learner(setup.task), optimizer, source, keys).params)
  params = calibrate(tested.learner, params, source, root=keys.calibration)
  quick = tested.learner, tested.source
  if tested.quick[0] is not tested.learner and _fewer_rows(tested):
    quick = embed_source(tested.learner, params, tested.source)
  return tested._replace(params=params, quick=quick)


def _fewer_rows(tested: Tested) -> bool:
  """Says whether the table has fewer rows than the episodes hold examples."""
  episode = abstract_episode(tested.source)
  return len(tested.source.data) < EPISODES * sum(len(part.x) for part in episode[:2])


def say_learned(baselines: dict[str, Any]) -> None:
  """Says if a learner ends no better than a baseline."""
  for line in format_baselines(baselines) if is_first() else ():
    print(line, file=sys.stderr)
