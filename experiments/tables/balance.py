"""experiments/results/balance.md: ways to train on families of tasks of unequal sizes.

A file experiments/results/balance/NAME.json is what experiments.balance wrote, with what was
measured, in a few words, as 'row'.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from experiments.output.records import RESULTS as STORED
from experiments.output.records import device
from experiments.output.text import format_estimate
from experiments.tables.pages import markdown_table, page_of_records

RESULTS = STORED / 'balance'
PAGE = STORED / 'balance.md'
HEAD = """# Families of tasks of unequal sizes

Written by `python -m experiments.tables` from the files in [balance](balance), which
`experiments.balance` wrote. Families are drawn by their sizes; by a temperature, so that small ones
are drawn more often; by their sizes, with losses whose weights stand for this temperature; or by
the temperature in the first half of training and by their sizes after it (Cooldown). See
[metakit.balance](../../metakit/balance.py). A loss is in nats a target, the less the better. After
± is half of the 95% interval of the mean over trainings.
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
  sizes = ', '.join(f'{family} {size}' for family, size in record['families'].items())
  said = (
    f'Tasks of each family: {sizes}. `{record["learner"]}`, {record["steps"]} steps of '
    f'{record["tasks_per_step"]} tasks, temperature {record["temperature"]:g}, '
    f'{record["seeds"]} trainings in each way, {record["episodes"]} test tasks of each family '
    f'(inductive), on {device(record)}.'
  )
  parts = [f'## {record["row"]}', said, 'Loss of new tasks at the end:', losses(record)]
  parts += ['Of the smallest family in the course of training:', course(record)]
  return '\n\n'.join([*parts, variances(record), f'`{record["command"]}`\n'])


def losses(record: Mapping[str, Any]) -> str:
  """Returns a row for each way to train: the loss of new tasks of each family.

  >>> curves = {'by size': [[[[1.5, 0.5], [1.0, 0.2]]], [[[1.5, 0.7], [1.0, 0.2]]]]}
  >>> print(losses({'families': {'eq': 9, 'sawtooth': 1}, 'curves': curves}))
  | way | all | eq | sawtooth | sawtooth, tasks of training |
  | --- | --- | --- | --- | --- |
  | by size | 1.05 ± 0.64 | 1.5 | 0.6 ± 1.3 | 0.2 |
  """
  families, lines = list(record['families']), []
  for way, curves in record['curves'].items():
    new, seen = np.moveaxis(np.array(curves)[:, -1], 1, 0)  # [seeds, families] each
    columns = [new.mean(1), *new.T, seen[:, -1]]
    lines.append([way, *map(_over_trainings, columns)])
  return markdown_table(['way', 'all', *families, f'{families[-1]}, tasks of training'], lines)


def _over_trainings(losses: np.ndarray) -> str:
  """Returns mean and interval, by Student's distribution, since trainings are few."""
  deviation = losses.std(ddof=1) / len(losses) ** 0.5
  return format_estimate('loss', losses.mean(), deviation * student_t.ppf(0.975, len(losses) - 1))


def course(record: Mapping[str, Any]) -> str:
  """Returns a row for each way to train: the loss of the smallest family, mean over trainings."""
  points = record['points']
  columns = ['way', *(str(record['steps'] * (i + 1) // points) for i in range(points))]
  lines = [
    [way, *(f'{loss:.2f}' for loss in np.array(curves)[:, :, 0, -1].mean(0))]
    for way, curves in record['curves'].items()
  ]
  return markdown_table(columns, lines)


def variances(record: Mapping[str, Any]) -> str:
  """Returns the variance of a step in each state of a training, by both ways to draw."""
  lines = []
  for place, found in record['variance'].items():
    for way, (measured, closed) in found.items():
      lines.append(
        [place, way, f'{measured:.4g}', f'{closed:.4g}', f'{measured / closed - 1:+.1%}']
      )
  table = markdown_table(['variance of a step', 'way', 'measured', 'closed form', 'apart'], lines)
  *_, smallest = sizes = list(record['families'].values())
  rare = round(record['draws'] * smallest / sum(sizes))
  return (
    f'Variances are measured over {record["draws"]:,} tasks, the closed form is of the moments of '
    f'each family. By size {rare:,} of the tasks are of the smallest family, so chance alone '
    f'moves the variance of weights by {100 / max(rare, 1) ** 0.5:.0f}% or so.\n\n{table}'
  )
