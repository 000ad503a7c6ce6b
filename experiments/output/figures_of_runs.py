"""Figures of several runs over one another; each has a colour, a line and a mark of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.output.report_figures import (
  INK,
  MAX_POINTS,
  RUNS,
  axis_title,
  choose_scale,
  new_axes,
  series_of,
  smooth,
  smoothing_window,
  svg_of,
)
from experiments.output.text import is_fraction

LINES, MARKS = ('-', '--', '-.', ':'), 'os^DvPX*'
Lines = Sequence[Mapping[str, Any]]


def style(number: int) -> dict[str, Any]:
  """Returns how the run of a number is drawn. Who sees no colours sees its line and its mark."""
  colour, mark = RUNS[number % len(RUNS)], MARKS[number % len(MARKS)]
  line = LINES[(number + number // len(RUNS)) % len(LINES)]
  return {'color': colour, 'linestyle': line, 'marker': mark, 'markersize': 4, 'linewidth': 1.4}


def learning_curves(runs: Mapping[str, Lines], key: str) -> str:
  """Draws a metric of several runs against training steps; '' if none has logged it.

  Args:
    runs: name -> lines as read_metrics returns them.
    key: 'train/loss', 'validation/accuracy', ... In training it is the running mean.
  """
  name = key.rpartition('/')[2]
  scale = 100 if is_fraction(name) else 1
  drawn = {run: series_of(lines, key) for run, lines in runs.items()}
  if not any(map(len, drawn.values())):
    return ''
  figure, axes = new_axes('training step', axis_title(key.replace('/', ' ')))
  for number, (run, series) in enumerate(drawn.items()):
    if not len(series):
      continue
    step, value = series[:, 0], scale * series[:, 1]
    if key.startswith('train/'):
      value = smooth(value, smoothing_window(len(step)))
    stride = -(-len(step) // MAX_POINTS)
    few = max(1, len(step) // stride // 8)
    axes.plot(step[::stride], value[::stride], label=label_of(run), markevery=few, **style(number))
  choose_scale(axes, np.concatenate([s[:, 1] for s in drawn.values() if len(s)]), scale == 1)
  axes.legend(frameon=False, labelcolor=INK, fontsize=9)
  return svg_of(figure, f'{key.replace("/", " ")} of {len(runs)} runs against training steps')


def adaptation_curves(
  runs: Mapping[str, Sequence[Mapping[str, Any]]], amount: str, metric: str
) -> str:
  """Draws test performance of several runs against the amount of adaptation.

  Args:
    runs: name -> points with 'amount', 'mean' and 'ci95', as in records.
    amount: title of the horizontal axis.
    metric: metric on the vertical axis.
  """
  scale = 100 if is_fraction(metric) else 1
  figure, axes = new_axes(amount, axis_title(metric))
  for number, (run, points) in enumerate(runs.items()):
    rows = [(p['amount'], scale * (p['mean'] or np.nan), scale * (p['ci95'] or 0)) for p in points]
    x, mean, ci95 = np.array(sorted(rows), float).reshape(-1, 3).T
    axes.errorbar(x, mean, ci95, label=label_of(run), capsize=2, elinewidth=1, **style(number))
  axes.legend(frameon=False, labelcolor=INK, fontsize=9)
  return svg_of(figure, f'{metric} of {len(runs)} runs against {amount}')


def label_of(run: str) -> str:
  """Returns a name for a legend, which reads text between dollar signs as a formula."""
  return run.replace('$', r'\$').lstrip('_') or 'run'
