"""The parts of a gain over ordinary training, with intervals over domains."""

import numpy as np

from metakit.estimates import Estimate, estimate

ORDINARY, BEFORE, AFTER = 'ordinary training', 'before adaptation', 'after adaptation'
PARTS = {'episodic training': (BEFORE, ORDINARY), 'adaptation': (AFTER, BEFORE)}
TOGETHER = {'both together': (AFTER, ORDINARY)}


def shares(scores: dict[str, np.ndarray], groups: np.ndarray) -> dict[str, Estimate]:
  """Returns the gain of each part, and of both together, paired by episode.

  Args:
    scores: [episodes] of ORDINARY, BEFORE and AFTER.
    groups: [episodes] the domain of each.

  >>> scores = {ORDINARY: np.zeros(4), BEFORE: np.array([1, 1, 3, 3]), AFTER: np.full(4, 4)}
  >>> {name: each.mean for name, each in shares(scores, np.array([0, 0, 1, 1])).items()}
  {'episodic training': 2.0, 'adaptation': 2.0, 'both together': 4.0}
  """
  return {
    name: mean_over(scores[more] - scores[less], groups)
    for name, (more, less) in (PARTS | TOGETHER).items()
  }


def mean_over(values: np.ndarray, groups: np.ndarray) -> Estimate:
  """Returns the mean of the means of groups, whose interval is over groups.

  >>> mean_over(np.array([1.0, 3.0, 5.0]), np.array([7, 7, 8]))
  Estimate(mean=3.5, ci95=2.9399459768100806, episodes=2)
  """
  _, number = np.unique(groups, return_inverse=True)
  return estimate(np.bincount(number, weights=values) / np.bincount(number))
