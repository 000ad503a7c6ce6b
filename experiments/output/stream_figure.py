"""The figure of a stream: error against operations, each strategy as it goes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

COLOURS = '#2a6f97', '#c8553d', '#588157', '#8f5fa8', '#b08900', '#6c757d'
STYLES = '-', '--', ':', '-.'


def total_flops(cell: Mapping[str, Any]) -> np.ndarray:
  """Returns the operations up to each event, those of its prediction included; [events].

  >>> total_flops({'train_flops': [3.0, 2.0], 'predict_flops': [1.0, 1.0]}).tolist()
  [4.0, 7.0]
  """
  return np.cumsum(np.add(cell['train_flops'], cell['predict_flops']))


def mean_errors(cell: Mapping[str, Any]) -> np.ndarray:
  """Returns the mean error of the events up to each; [events].

  >>> mean_errors({'error': [0.5, 0.1]}).tolist()
  [0.5, 0.3]
  """
  return np.cumsum(cell['error']) / np.arange(1, len(cell['error']) + 1)


def named(cell: Mapping[str, Any]) -> str:
  """Returns what a cell is called in tables and figures.

  >>> named({'strategy': 'previous', 'trial_steps': 200})
  'previous, 200 steps'
  """
  steps = cell['trial_steps']
  return cell['strategy'] if steps is None else f'{cell["strategy"]}, {steps} steps'


def draw(cells: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
  """Draws a line for each cell: the mean error so far against the operations so far.

  A strategy has one colour, and each of its budgets another line.

  Args:
    cells: of a record of experiments.stream.
    path: the SVG to write.
    title: above it.
  """
  import matplotlib
  from matplotlib.figure import Figure

  strategies = list(dict.fromkeys(cell['strategy'] for cell in cells))
  budgets = list(dict.fromkeys(cell['trial_steps'] for cell in cells if cell['trial_steps']))
  with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': title}):
    figure = Figure(figsize=(8, 4.5), layout='constrained')
    axes = figure.subplots()
    for cell in cells:
      colour = COLOURS[strategies.index(cell['strategy']) % len(COLOURS)]
      steps = cell['trial_steps']
      style = STYLES[budgets.index(steps) % len(STYLES)] if steps else '-'
      x, y = total_flops(cell), mean_errors(cell)
      axes.plot(x, y, style, color=colour, linewidth=1.2, label=named(cell))
      axes.plot(x[-1:], y[-1:], 'o', color=colour)
    axes.set(xscale='log', xlabel='operations so far (FLOP), all trials included')
    axes.set(ylabel='mean error of the events so far', title=title)
    axes.legend(fontsize=7, loc='center left', bbox_to_anchor=(1, 0.5), frameon=False)
    axes.grid(linewidth=0.4, alpha=0.5)
    axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, metadata={'Date': None})
