"""The figure of a suite: how long each case takes, metakit's and others'."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

INCHES_A_CASE, INCHES_AROUND = 0.2, 0.9
COLOURS = {False: '#2a6f97', True: '#b0a8b9'}  # metakit, others


def draw(rows: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
  """Draws the median of each case, on a logarithmic axis, with its quartiles.

  Args:
    rows: as experiments.benchmarks.timing.time_cases returns them.
    path: path of the SVG to write.
    title: above it.
  """
  import matplotlib

  matplotlib.use('svg')
  from matplotlib import pyplot, ticker

  timed = [row for row in rows if row['milliseconds'] is not None][::-1]  # the first on top
  size = (8, INCHES_AROUND + INCHES_A_CASE * len(timed))
  with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': title}):
    figure, axes = pyplot.subplots(figsize=size, layout='constrained')
    for place, row in enumerate(timed):
      median, low, high = row['milliseconds']
      spread, colour = [[median - low], [high - median]], COLOURS[bool(row.get('peer'))]
      axes.errorbar(median, place, xerr=spread, fmt='o', color=colour, markersize=4)
    axes.set_yticks(range(len(timed)), [row['name'] for row in timed], fontsize=7)
    axes.set(xscale='log', xlabel='ms a call: median, quartiles (grey: not metakit)', title=title)
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter('{x:,g}')
    axes.xaxis.set_minor_formatter('')
    axes.grid(which='both', axis='x', linewidth=0.4, alpha=0.5)
    axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, metadata={'Date': None})
    pyplot.close(figure)
