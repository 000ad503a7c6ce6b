"""Means over episodes with their intervals, and paired differences of two learners."""

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

NORMAL_95 = 1.959963984540054  # 97.5% quantile of the standard normal distribution


class Estimate(NamedTuple):
  """A mean over episodes.

  Attributes:
    mean: the mean.
    ci95: half the width of its 95% confidence interval, 1.96 standard errors.
    episodes: how many.
  """

  mean: float
  ci95: float
  episodes: int


def estimate(values: Any) -> Estimate:
  """Returns the mean of per-episode values and its 95% confidence interval.

  Args:
    values: [episodes]; the interval of a single episode is infinite.

  Raises:
    ValueError: if there are no values.

  >>> estimate([0.0, 1.0])
  Estimate(mean=0.5, ci95=0.979981992270027, episodes=2)
  """
  values = np.asarray(values, np.float64)
  if values.ndim != 1 or not len(values):
    raise ValueError(f'values of shape {values.shape}; give one number for each of some episodes')
  with np.errstate(invalid='ignore'):  # a value that is not finite leaves no interval
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.inf
  return Estimate(float(values.mean()), float(NORMAL_95 * error), len(values))


def overlap(a: Estimate, b: Estimate) -> bool:
  """Says whether the 95% intervals of two means have a value in common.

  >>> overlap(Estimate(0.98, 0.02, 100), Estimate(0.95, 0.02, 100))
  True
  >>> overlap(Estimate(0.98, 0.01, 100), Estimate(0.95, 0.01, 100))
  False
  """
  return abs(a.mean - b.mean) <= a.ci95 + b.ci95


IDENTITY = 'identity'  # key in an episodes.npz, beside the metrics: what the episodes are, as JSON


def compare(values: Any, baseline: Any, metric: str = 'accuracy') -> Estimate:
  """Returns the mean difference of two learners, paired by episode, with its interval.

  Args:
    values: [episodes] of one learner; or the path of the episodes.npz of a test; or its arrays.
    baseline: the same of the other learner, on the same episodes.
    metric: which metric of files is compared.

  Raises:
    ValueError: if the numbers of episodes differ, or the files say that the episodes do.
    OSError: if a file cannot be read.

  >>> compare([1.0, 0.5, 0.75], [0.5, 0.25, 0.75]).mean
  0.25
  """
  values, baseline = (_arrays_of(each) for each in (values, baseline))
  if isinstance(values, Mapping) and isinstance(baseline, Mapping):
    _check_same_episodes(values, baseline)
  values, baseline = (e[metric] if isinstance(e, Mapping) else e for e in (values, baseline))
  values, baseline = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
  if values.shape != baseline.shape:
    raise ValueError(f'{values.shape} values against {baseline.shape}; compare the same episodes')
  return estimate(values - baseline)


def _arrays_of(values: Any) -> Any:
  if not isinstance(values, str | os.PathLike):
    return values
  with np.load(values, allow_pickle=False) as file:
    return dict(file)


def _check_same_episodes(values: Mapping[str, Any], baseline: Mapping[str, Any]) -> None:
  """Raises ValueError if two files name different episodes; files of earlier versions name none."""
  if IDENTITY not in values or IDENTITY not in baseline:
    return
  ours, theirs = (json.loads(str(each[IDENTITY])) for each in (values, baseline))
  for name in sorted(ours | theirs):
    if ours.get(name) != theirs.get(name):
      raise ValueError(
        f'these are other episodes: their {name} is {ours.get(name)} and {theirs.get(name)}; '
        'compare tests of one task, split and seed'
      )
