"""What tricks change, in the record of experiments.tricks: differences paired by seed."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t as student_t

BASELINE = 'baseline'


class Effect(NamedTuple):
  """A difference to the baseline.

  Attributes:
    mean: over seeds.
    ci95: half of its 95% interval by Student's t over seeds; infinite for a single seed.
  """

  mean: float
  ci95: float

  @property
  def sign(self) -> str:
    """'+' or '-'; '0' if the interval holds 0."""
    if not abs(self.mean) > self.ci95:
      return '0'
    return '+' if self.mean > 0 else '-'

  @property
  def text(self) -> str:
    """In points of percent, with the sign."""
    return f'{100 * self.mean:+.2f} ± {100 * self.ci95:.2f} ({self.sign})'


def over_seeds(values: Sequence[float]) -> Effect:
  """Returns the mean of some values and its 95% interval by Student's t.

  >>> mean, ci95 = over_seeds([0.1, 0.2, 0.3])  # t of 2 degrees is 4.30
  >>> f'{mean:.2f} ± {ci95:.2f}', over_seeds([0.1]).ci95
  ('0.20 ± 0.25', inf)
  """
  array = np.asarray(values, np.float64)
  if len(array) < 2:
    return Effect(float(array.mean()), float('inf'))
  error = array.std(ddof=1) / len(array) ** 0.5
  return Effect(float(array.mean()), float(student_t.ppf(0.975, len(array) - 1) * error))


def after(values: Mapping[str, Any], name: str, session: int) -> float:
  """Returns a measure of one seed after a session; forgetting is that of the whole stream."""
  return values[name] if name == 'forgetting' else values[name][session]


def paired(
  cell: Mapping[str, Any], baseline: Mapping[str, Any], name: str, *, session: int = -1
) -> Effect:
  """Returns the difference of a cell to the baseline, over the seeds that both have.

  >>> ours = {'seeds': {'0': {'base': [0.9, 0.8]}, '1': {'base': [0.9, 0.6]}}}
  >>> theirs = {'seeds': {'0': {'base': [0.9, 0.7]}, '1': {'base': [0.9, 0.5]}}}
  >>> paired(ours, theirs, 'base').text
  '+10.00 ± 0.00 (+)'
  """
  both = [seed for seed in cell['seeds'] if seed in baseline['seeds']]
  of = lambda each, seed: after(each['seeds'][seed], name, session)
  return over_seeds([of(cell, seed) - of(baseline, seed) for seed in both])


def percent(value: float) -> str:
  return f'{100 * value:.2f}%'
