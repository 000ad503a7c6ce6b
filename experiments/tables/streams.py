"""experiments/results/streams.md: strategies on streams of tasks, error beside operations.

A file experiments/results/streams/NAME.json is what experiments.stream wrote, with what was
measured, in a few words, as 'row'. NAME.svg is the figure beside it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.output.records import NONE, device
from experiments.output.records import RESULTS as STORED
from experiments.output.stream_figure import named, total_flops
from experiments.tables.growth import in_bytes
from experiments.tables.pages import markdown_table, page_of_records

RESULTS = STORED / 'streams'
PAGE = STORED / 'streams.md'
HEAD = """# Streams

Written by `python -m experiments.tables` from the files in [streams](streams), which
`experiments.stream` wrote. Tasks arrive one after the other. The error of a task is the share of
wrong classes or, where targets are numbers, the mean squared error over their variance. Operations
are those of XLA's analysis: all trials of the learning rate, their validation, the choice of a
start, and the prediction of the test part. They add up over the stream; the peak is that of the
largest program.
"""


def texts(root: Path) -> dict[Path, str]:
  """Returns what the page should say; nothing where there are no records.

  Raises:
    OSError: if a file cannot be read.
    ValueError: if a file does not say what was measured ('row').
  """
  return page_of_records(root, RESULTS, PAGE, head=HEAD, section=section)


def section(name: str, record: Mapping[str, Any]) -> str:
  """Returns a record as Markdown."""
  rates = ', '.join(f'{rate:g}' for rate in record['rates'])
  said = (
    f'`{record["stream"]}`, network `{record["network"]}`, learning rates {rates}, batches of '
    f'{record["batch"]}, seed {record["seed"]}, on {device(record)}.'
  )
  return '\n\n'.join(
    [
      f'## {record["row"]}',
      said,
      f'![Error against operations](streams/{name}.svg)',
      summary(record['cells']),
      'Errors by task; after the comma is the number of the task whose network was the start:',
      by_event(record['cells']),
      f'`{record["command"]}`\n',
    ]
  )


def summary(cells: Sequence[Mapping[str, Any]]) -> str:
  """Returns a row for each strategy: its mean error, and what it took."""
  lines = []
  several = kinds_of(cells)
  for cell in cells:
    learning, asking = (sum(cell[name]) / 1e9 for name in ('train_flops', 'predict_flops'))
    lines.append(
      [
        named(cell),
        f'{np.mean(cell["error"]):.3f}',
        *(f'{mean_of(cell, kind):.3f}' for kind in several),
        f'{total_flops(cell)[-1] / 1e9:.3g}',
        f'{learning:.3g}',
        f'{asking:.3g}',
        in_bytes(max(cell['peak_bytes'])),
        f'{max(cell["parameters"]):,}',
      ]
    )
  columns = (
    *('strategy', 'mean error', *(f'of {kind} tasks' for kind in several)),
    *('GFLOP in all', 'of learning', 'of predictions', 'peak memory', 'parameters'),
  )
  return markdown_table(columns, lines)


def kinds_of(cells: Sequence[Mapping[str, Any]]) -> list[str]:
  """Returns the kinds of tasks; none if they are all alike.

  >>> kinds_of([{'kinds': ['regression', 'classification', 'regression']}])
  ['classification', 'regression']
  """
  found = sorted({kind for cell in cells for kind in cell.get('kinds', ())})
  return found if len(found) > 1 else []


def mean_of(cell: Mapping[str, Any], kind: str) -> float:
  """Returns the mean error of the tasks of a kind.

  >>> mean_of({'kinds': ['regression', 'classification'], 'error': [0.5, 0.1]}, 'regression')
  0.5
  """
  pairs = zip(cell['error'], cell['kinds'], strict=True)
  return float(np.mean([error for error, each in pairs if each == kind]))


def by_event(cells: Sequence[Mapping[str, Any]]) -> str:
  """Returns a row for each task; the least error is bold."""
  lines = []
  for number, event in enumerate(cells[0]['events']):
    errors = [cell['error'][number] for cell in cells]
    shown = []
    for cell, error in zip(cells, errors, strict=True):
      text = f'**{error:.3f}**' if error == min(errors) else f'{error:.3f}'
      start = cell['start'][number]
      shown.append(text if start < 0 else f'{text}, {start}')
    lines.append([str(number), event, *(shown or [NONE])])
  return markdown_table(['', 'task', *map(named, cells)], lines)
