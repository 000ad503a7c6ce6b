"""When learning from examples sets in: the plateau of Kirsch et al. 2022, section 4.4."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

WINDOW = 20  # logged values in a mean
SHARE = 0.05  # of the loss at the start

Lines = Sequence[Mapping[str, Any]]


def can_tell(metrics: Lines, biased: bool = False) -> bool:
  """Whether enough values of the gain were logged to tell; see `onset`."""
  if biased:
    return bool(_with_gain(metrics, 'validation'))
  return len(_with_gain(metrics, 'train')) >= WINDOW


def onset(metrics: Lines, biased: bool = False) -> int | None:
  """Returns a training step by which a model learns from the examples it reads.

  That is the first at which the gain (mean loss of the first half of a sequence less that of the
  second), in the mean over WINDOW logged values, exceeds SHARE of the mean loss of the first WINDOW
  values. Where training episodes are biased (fixed labels, repeated images) their gain says nothing
  of others; that of validation counts then, less its 95% interval, beside the first validation's
  loss.

  Args:
    metrics: lines as read_metrics returns them.
    biased: whether training episodes are.

  Returns:
    The last step of that window (that of WINDOW logged values at the earliest), or the step of the
    validation; None if it has not happened in what was logged.
  """
  if not can_tell(metrics, biased):
    return None
  logged = _with_gain(metrics, 'validation' if biased else 'train')
  steps, gain = (np.array([line[name] for line in logged]) for name in ('step', 'gain'))
  loss = np.array([line['loss'] for line in logged])
  if biased:
    above = np.flatnonzero(gain - [line['gain_ci95'] for line in logged] > SHARE * loss[0])
    return int(steps[above[0]]) if len(above) else None
  means = np.convolve(gain, np.full(WINDOW, 1 / WINDOW), mode='valid')
  above = np.flatnonzero(means > SHARE * loss[:WINDOW].mean())
  return int(steps[above[0] + WINDOW - 1]) if len(above) else None


def _with_gain(metrics: Lines, prefix: str) -> list[dict[str, Any]]:
  """The lines of a prefix that hold a gain, without the prefix."""
  return [
    {name.removeprefix(f'{prefix}/'): value for name, value in line.items()}
    for line in metrics
    if f'{prefix}/gain' in line
  ]
