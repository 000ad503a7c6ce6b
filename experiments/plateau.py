"""When learning from examples sets in: the plateau of Kirsch et al. 2022, section 4.4."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

WINDOW = 20  # logged values in a mean
SHARE = 0.05  # of the loss at the start


def can_tell(metrics: Sequence[Mapping[str, Any]]) -> bool:
  """Whether enough values of the gain were logged to tell."""
  return _count(metrics, 'train/gain') >= WINDOW


def onset(metrics: Sequence[Mapping[str, Any]]) -> int | None:
  """Returns a training step by which a model learns from the examples it reads.

  That is the first at which the gain (mean loss of the first half of a sequence less that of the
  second) exceeds SHARE of the mean loss of the first WINDOW values. The gain is that of validation
  where there were WINDOW validations, and otherwise that of training, in the mean over WINDOW
  logged values; where training episodes are biased (fixed labels, repeated examples) that of
  validation alone says what the model does with others.

  Args:
    metrics: lines as read_metrics returns them.

  Returns:
    The step of the validation, or the last step of the window (that of WINDOW logged values at the
    earliest); None if it has not happened in what was logged.
  """
  if not can_tell(metrics):
    return None
  enough = SHARE * np.mean(
    [line['train/loss'] for line in metrics if 'train/loss' in line][:WINDOW]
  )
  validated = _count(metrics, 'validation/gain') >= WINDOW
  name, window = ('validation/gain', 1) if validated else ('train/gain', WINDOW)
  logged = [line for line in metrics if name in line]
  gain = np.array([line[name] for line in logged])
  means = np.convolve(gain, np.full(window, 1 / window), mode='valid')
  above = np.flatnonzero(means > enough)
  return int(logged[above[0] + window - 1]['step']) if len(above) else None


def _count(metrics: Sequence[Mapping[str, Any]], name: str) -> int:
  return sum(name in line for line in metrics)
