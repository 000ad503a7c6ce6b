"""Ranks of learners over many tables, and the figure that says which of them differ.

Janez Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, 2006: learners
are ranked on each table; the Friedman test says whether mean ranks differ at all; two learners
differ if their mean ranks are apart by more than the critical difference of Nemenyi's test.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

LEVEL = 0.05  # of both tests
OURS, OTHERS, GROUPS = '#2a6f97', '#444444', '#b0a8b9'
INCHES_A_LEARNER, INCHES_AROUND = 0.28, 1.0


def mean_ranks(scores: np.ndarray) -> np.ndarray:
  """Returns the mean rank of each learner, [learners]; 1 is the best, and ties share their ranks.

  Args:
    scores: [tables, learners], more is better.

  >>> mean_ranks(np.array([[0.9, 0.8, 0.7], [0.6, 0.6, 0.5]])).tolist()
  [1.25, 1.75, 3.0]
  """
  return stats.rankdata(-scores, axis=1).mean(0)


def critical_difference(learners: int, tables: int) -> float:
  """Returns how far apart mean ranks have to be at the level 0.05, by Nemenyi's test.

  >>> round(critical_difference(4, 14), 2)  # in the example of the paper, section 3.2.2
  1.25
  """
  studentized = stats.studentized_range.ppf(1 - LEVEL, learners, math.inf) / math.sqrt(2)
  return float(studentized * math.sqrt(learners * (learners + 1) / (6 * tables)))


def friedman(scores: np.ndarray) -> float:
  """Returns the probability of ranks as unequal as these if learners do not differ.

  >>> scores = np.array([[3.0, 2.0, 1.0]] * 10)
  >>> friedman(scores) < 1e-4
  True
  """
  return float(stats.friedmanchisquare(*scores.T).pvalue)


def groups(ranks: Sequence[float], difference: float) -> list[tuple[float, float]]:
  """Returns the first and last rank of the largest sets of learners that do not differ.

  >>> groups([1.0, 1.5, 2.5, 4.0], 1.2)
  [(1.0, 1.5), (1.5, 2.5)]
  """
  ranks = sorted(ranks)
  ends = [max(rank for rank in ranks if rank - first <= difference) for first in ranks]
  found: list[tuple[float, float]] = []
  for first, last in zip(ranks, ends, strict=True):
    if last > first and (not found or last > found[-1][1]):
      found.append((first, last))
  return found


def draw(ranks: Mapping[str, float], tables: int, path: Path, *, ours: str, title: str) -> None:
  """Draws the mean rank of each learner; grey bars join learners that do not differ.

  Args:
    ranks: mean rank of each learner.
    tables: how many tables they were ranked on.
    path: the SVG to write.
    ours: the learner that is drawn in colour.
    title: above it.
  """
  import matplotlib
  from matplotlib.figure import Figure

  difference = critical_difference(len(ranks), tables)
  order = sorted(ranks, key=lambda name: -ranks[name])  # the best on top
  joined = groups([*ranks.values()], difference)
  size = 7, INCHES_AROUND + INCHES_A_LEARNER * (len(order) + len(joined))
  with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': title}):
    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots()
    for place, name in enumerate(order):
      axes.plot(ranks[name], place, 'o', color=OURS if name == ours else OTHERS)
      axes.annotate(f'{ranks[name]:.2f}', (ranks[name], place), (8, -3), textcoords='offset points')
    for place, ends in enumerate(joined, len(order)):
      axes.plot(ends, (place, place), color=GROUPS, linewidth=5, solid_capstyle='butt')
    axes.set_yticks(range(len(order)), order)
    axes.set(ylim=(-0.5, len(order) + len(joined) - 0.4), xlim=(0.8, len(order) + 0.2))
    axes.set_xlabel(
      f'mean rank on {tables} tables; bars join ranks less than {difference:.2f} apart'
    )
    axes.set_title(title, fontsize=10)
    axes.grid(axis='x', linewidth=0.4, alpha=0.5)
    axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, metadata={'Date': None})
