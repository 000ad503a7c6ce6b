"""When learning from examples sets in: the plateau of Kirsch et al. 2022, section 4.4."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

WINDOW = 20  # logged values in a mean
SHARE = 0.05  # of the loss at the start, or of all predictions

Lines = Sequence[Mapping[str, Any]]


def can_tell(metrics: Lines, chance: float | None = None) -> bool:
  """Says whether enough values were logged for `onset`."""
  if chance is not None:
    return bool(_column(metrics, 'validation/accuracy'))
  return len(_column(metrics, 'train/gain')) >= WINDOW


def onset(metrics: Lines, chance: float | None = None) -> int | None:
  """Returns a training step by which a model learns from the examples it reads.

  The gain is the mean loss of the first half of a sequence less that of the second half. The step
  is the first one at which the gain, averaged over WINDOW logged values, exceeds SHARE of the mean
  loss of the first WINDOW values.

  If training episodes are easier than others (fixed labels, repeated images), their gain says
  nothing about the others. The step is then that of the first validation whose accuracy, less its
  95% interval, exceeds chance by SHARE.

  Args:
    metrics: lines as read_metrics returns them.
    chance: accuracy without learning, if training episodes are easier; otherwise None.

  Returns:
    The last step of that window, or the step of the validation. The first window ends at the
    WINDOW-th logged value. None if learning has not set in within the log.
  """
  if not can_tell(metrics, chance):
    return None
  if chance is None:
    steps = _column(metrics, 'train/gain', 'step')[WINDOW - 1 :]
    gain, loss = _column(metrics, 'train/gain'), _column(metrics, 'train/gain', 'train/loss')
    surplus = np.convolve(gain, np.full(WINDOW, 1 / WINDOW), mode='valid')
    least = SHARE * float(np.mean(loss[:WINDOW]))
  else:
    shown = 'validation/accuracy'
    steps, accuracy = _column(metrics, shown, 'step'), np.array(_column(metrics, shown))
    surplus = accuracy - _column(metrics, shown, f'{shown}_ci95')
    least = chance + SHARE
  above = np.flatnonzero(surplus > least)
  return int(steps[above[0]]) if len(above) else None


def _column(metrics: Lines, where: str, name: str | None = None) -> list[float]:
  """Returns the values of `name` (by default `where`) in the lines that hold `where`."""
  return [line[name or where] for line in metrics if where in line]
