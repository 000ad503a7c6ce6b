"""Figures of a test: how calibrated a learner is, and how its episodes differ."""

from collections.abc import Sequence

import numpy as np

from experiments.output.answers import Calibration
from experiments.output.report_figures import INK, LINE, SOFT, TRAIN, axis_title, new_axes, svg_of
from experiments.output.text import is_fraction

MOST_BINS = 40


def reliability(measured: Calibration) -> str:
  """Draws accuracy against confidence, and the share of answers in each bin as faint bars."""
  figure, axes = new_axes('confidence (%)', 'accuracy (%)')
  axes.plot([0, 100], [0, 100], color=SOFT, linestyle='--', linewidth=1, label='calibrated')
  share = 100 * measured.queries / max(measured.queries.sum(), 1)
  axes.bar(100 * measured.confidence, share, width=4, color=LINE, label='share of answers')
  line = 100 * measured.confidence, 100 * measured.accuracy
  axes.plot(*line, 'o-', color=TRAIN, markersize=4, label='answers')
  axes.set_xlim(0, 102)
  axes.set_ylim(0, 102)
  axes.legend(frameon=False, labelcolor=INK, fontsize=9)
  return svg_of(figure, 'accuracy against confidence')


def histogram(values: np.ndarray, metric: str) -> str:
  """Draws how many episodes have which value of a metric, and their mean.

  Args:
    values: [episodes], finite.
    metric: its name.
  """
  scale = 100 if is_fraction(metric) else 1
  figure, axes = new_axes(axis_title(metric), 'episodes')
  axes.hist(scale * values, bins=edges(scale * values), color=TRAIN, alpha=0.7)
  axes.axvline(scale * values.mean(), color=SOFT, linestyle='--')
  axes.grid(visible=False, axis='x')
  return svg_of(figure, f'episodes by {metric}')


def edges(values: np.ndarray) -> Sequence[float]:
  """Returns the edges of bins. Few different values, as of an accuracy, have a bin each.

  >>> edges(np.array([0.0, 1.0]))[:3]
  [-0.05, 0.05, 0.15000000000000002]
  """
  kinds = np.unique(np.round(values, 4))
  if len(kinds) == 1:
    return [kinds[0] - 0.5, kinds[0] + 0.5]
  low, high = kinds[0], kinds[-1]
  step = min(np.diff(kinds).min(), (high - low) / 10)
  if (high - low) / step > MOST_BINS:
    count = int(np.clip(len(values) ** 0.5, 5, MOST_BINS))
    return np.linspace(low, high, count + 1).tolist()
  return np.arange(low - step / 2, high + step, step).tolist()
