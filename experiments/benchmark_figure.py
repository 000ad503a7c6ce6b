"""The figure of a suite: how long each case takes, metakit's and others'."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

INCHES_A_CASE, INCHES_AROUND = 0.24, 0.8
COLOURS = {False: '#2a6f97', True: '#b0a8b9'}  # metakit, others


def draw(rows: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
  """Draws a bar for each case, on a logarithmic axis, with its quartiles.

  Args:
    rows: as experiments.timing.time_cases returns them.
    path: of the SVG to write.
    title: above it.
  """
  import matplotlib

  matplotlib.use('svg')
  from matplotlib import pyplot

  timed = [row for row in rows if row['milliseconds'] is not None][::-1]  # the first on top
  size = (8, INCHES_AROUND + INCHES_A_CASE * len(timed))
  with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': title}):
    figure, axes = pyplot.subplots(figsize=size, layout='constrained')
    for place, row in enumerate(timed):
      median, low, high = row['milliseconds']
      spread = [[median - low], [high - median]]
      axes.barh(place, median, xerr=spread, color=COLOURS[bool(row.get('peer'))], ecolor='#333')
    axes.set_yticks(range(len(timed)), [row['name'] for row in timed], fontsize=7)
    axes.set(xscale='log', xlabel='ms a call (median, quartiles; grey: not metakit)', title=title)
    axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, metadata={'Date': None})
    pyplot.close(figure)
