"""How hard the episodes of a test are, in bits, for its record."""

import math
from typing import Any

import numpy as np

from experiments.runs.evaluation import Tested
from metakit.difficulty import classification_bits, manifold_of
from metakit.sources import abstract_episode

ROWS = 500  # of the test classes, spread evenly; time grows with their square
ERROR = 0.05  # the share of mistakes that is asked for


def record_difficulty(tested: Tested) -> dict[str, float]:
  """Returns 'difficulty': the decimal logarithm of the bits that an episode asks for.

  This is the closed form of metakit.difficulty, for telling the classes of an episode apart from as
  many examples as its support has. Where it cannot be computed, nothing is returned: for tasks
  without a table of classes, and for inputs that are equal in two of them.
  """
  task = tested.task
  if task.table is None or not task.objective.classifies:
    return {}
  x, classes = sampled(task.table(task.tested))
  examples = len(abstract_episode(tested.source).support.y)
  try:
    where = manifold_of(x, classes)
    bits = classification_bits(where, examples, classes=task.num_outputs, error=ERROR)
  except ValueError:
    return {}
  return {'difficulty': round(math.log10(bits), 3)} if 0 < bits < math.inf else {}


def sampled(table: Any) -> tuple[np.ndarray, np.ndarray]:
  """Returns examples of a table, [rows, numbers] of at most 1, and their classes [rows]."""
  total = int(table.counts.sum())
  places = np.unique(np.linspace(0, total - 1, min(ROWS, total)).round().astype(int))
  ends = np.cumsum(table.counts)
  classes = np.searchsorted(ends, places, side='right')
  rows = table.starts[classes] + places - (ends - table.counts)[classes]
  x = np.asarray(table.x[rows], np.float64).reshape(len(rows), -1)
  return x / max(np.abs(x).max(), 1e-9), classes
