"""When learning from examples sets in: the plateau of Kirsch et al. 2022, section 4.4."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

WINDOW = 20  # logged values in a mean
SHARE = 0.05  # of the loss at the start


def can_tell(metrics: Sequence[Mapping[str, Any]]) -> bool:
  """Whether enough values of the gain were logged to tell."""
  return sum('train/gain' in line for line in metrics) >= WINDOW


def onset(metrics: Sequence[Mapping[str, Any]]) -> int | None:
  """Returns a training step by which a model learns from the examples it reads.

  That is the first at which the gain (mean loss of the first half of a sequence less that of the
  second), in the mean over WINDOW logged values, exceeds SHARE of the mean loss of the first WINDOW
  values.

  Args:
    metrics: lines as read_metrics returns them.

  Returns:
    The last step of that window (that of WINDOW logged values at the earliest); None if it has not
    happened in what was logged.
  """
  logged = [line for line in metrics if 'train/gain' in line]
  if not can_tell(metrics):
    return None
  gain, loss = (np.array([line[name] for line in logged]) for name in ('train/gain', 'train/loss'))
  means = np.convolve(gain, np.full(WINDOW, 1 / WINDOW), mode='valid')
  above = np.flatnonzero(means > SHARE * loss[:WINDOW].mean())
  return int(logged[above[0] + WINDOW - 1]['step']) if len(above) else None
