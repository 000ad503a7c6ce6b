"""Learners trained on the same tasks, tested after several numbers of inner steps, as tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from experiments.output.records import NONE
from experiments.output.text import format_duration, format_estimate
from experiments.tables.pages import markdown_table

Record = Mapping[str, Any]
DENSITIES = {'nats': '-log p', 'squared_error': 'squared error', 'ece': 'calibration error'}


def sections(records: Iterable[Record]) -> Iterator[str]:
  """Yields records of experiments.compare_learners as Markdown; those of one row differ in seed."""
  by_row: dict[str, list[Record]] = {}
  for record in records:
    by_row.setdefault(record['row'], []).append(record)
  for same in by_row.values():
    densities = 'density' in next(iter(same[0]['cells'][0]['steps'].values()))
    yield densities_of(same) if densities else comparison(*same)


def comparison(record: Record) -> str:
  """Returns a record as Markdown: a row for each learner."""
  cells, steps = record['cells'], list(record['cells'][0]['steps'])
  lines = []
  for cell in cells:
    estimates = [cell['steps'][number] for number in steps]
    scores = [format_estimate(cell['metric'], each['mean'], each['ci95']) for each in estimates]
    lines.append([f'`{cell["learner"]}`', *scores, format_duration(cell['train_seconds'])])
  episodes = cells[0]['steps'][steps[0]]['episodes']
  tested = f'{episodes:,} test episodes of `{cells[0]["task"]}`, on {record["device"]}'
  columns = ['learner', *(f'after {number}' for number in steps), 'training time']
  table = markdown_table(columns, lines)
  title = (
    f'## {record["row"]}\n\n{cells[0]["metric"].capitalize()} after so many inner steps, {tested}:'
  )
  return f'{title}\n`{record["command"]}`\n\n{table}\n'


def densities_of(records: Sequence[Record]) -> str:
  """Returns records of several seeds as Markdown: a row for each learner and number of steps."""
  first = records[0]
  cells, seeds = first['cells'], [record['seed'] for record in records]
  lines = [
    [f'`{cell["learner"]}`', NONE if steps == '0' else steps, *_scores(records, place, steps)]
    for place, cell in enumerate(cells)
    for steps in cell['steps']
  ]
  episodes = next(iter(cells[0]['steps'].values()))['episodes']
  tested = f'{episodes:,} test episodes of `{cells[0]["task"]}`, on {first["device"]}'
  columns = ['learner', 'inner steps at test', *DENSITIES.values(), 'targets in 90%', 'training']
  table = markdown_table(columns, lines)
  note = (
    f'Normal densities of the targets: {tested}. Means over seeds {", ".join(map(str, seeds))}, '
    'each with its training; after ± is half of the 95% interval over seeds (t distribution). '
    '*-log p* is in nats a target, *calibration error* the mean difference between a level and the '
    'share of targets in the central interval of that level, over many levels. *Targets in 90%* '
    'are those in the interval of 90%.'
  )
  return f'## {first["row"]}\n\n{note}\n`{first["command"]}`\n\n{table}\n'


def _scores(records: Sequence[Record], place: int, steps: str) -> list[str]:
  cells = [record['cells'][place] for record in records]
  densities = [cell['steps'][steps]['density'] for cell in cells]
  mean = lambda found: _over_seeds([each['mean'] for each in found])
  # The record has log p; a table of losses has what is less when it is better.
  sign = {'nats': -1}
  shown = [
    format_estimate(name, sign.get(name, 1) * value, ci95)
    for name in DENSITIES
    for value, ci95 in [mean([each[name] for each in densities])]
  ]
  covered = format_estimate('accuracy', *mean([each['coverage']['90%'] for each in densities]))
  spent = sum(cell['train_seconds'] for cell in cells) / len(cells)
  return [*shown, covered, format_duration(spent)]


def _over_seeds(values: Sequence[float | None]) -> tuple[float, float | None]:
  """Returns the mean and half of its 95% interval, by the t distribution; None for one value.

  A value that was not finite is None in a record, and then the mean is infinite.
  """
  finite = [value for value in values if value is not None]
  number = len(values)
  if len(finite) < number:
    return float('inf'), None
  if number < 2:
    return float(np.mean(finite)), None
  error = np.std(finite, ddof=1) / number**0.5
  return float(np.mean(finite)), float(student_t.ppf(0.975, number - 1) * error)
