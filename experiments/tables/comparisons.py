"""Tables of what the commands that compare heads wrote."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from experiments.output.records import NONE
from experiments.runs.compare_heads import pace, score
from experiments.runs.compare_sessions import AT_END, percent
from experiments.tables.pages import markdown_table
from metakit.episodes.class_incremental import Sessions

Cell = Mapping[str, Any]


def on_tasks(record: Mapping[str, Any]) -> str:
  """Returns a record of experiments.compare_heads as Markdown: accuracies, then seconds."""
  cells = {(each['head'], each['task']): each for each in record['cells']}
  names, tested = ([*dict.fromkeys(key[i] for key in cells)] for i in (0, 1))

  def rows(show: Callable[[Cell], str]) -> list[list[str]]:
    shown = lambda name: (cells.get((name, task)) for task in tested)
    return [[f'`{name}`', *(show(c) if c else NONE for c in shown(name))] for name in names]

  episodes = max(each['episodes'] for each in record['cells'])
  columns = ['head', *(f'`{task}`' for task in tested)]
  official = ' `omniglot_runs` are the 20 official episodes.' * ('omniglot_runs' in tested)
  return (
    f'## {record["row"]}\n\n{episodes:,} {record["split"]} episodes each, on {record["device"]}. '
    f'After the comma is the difference to `{names[0]}`, paired by episode.{official}\n\n'
    f'{markdown_table(columns, rows(score))}\n\n'
    f'Seconds per 1,000 episodes, after compilation:\n\n{markdown_table(columns, rows(pace))}\n\n'
    f'`{record["command"]}`\n'
  )


def on_sessions(record: Mapping[str, Any]) -> str:
  """Returns a record of experiments.compare_sessions as Markdown: what a head knows at the end."""
  rows = []
  for each in record['cells']:
    mean, ci95 = each['difference']
    at_end = [percent(each[name][-1]) for name in AT_END]
    apart = f'{100 * mean:+.2f} ± {100 * ci95:.2f}'
    seen = 'once' if each['streaming'] else 'again'
    first = percent(each['accuracy'][0])
    rows.append([f'`{each["head"]}`', seen, first, *at_end, percent(each['forgetting']), apart])
  sizes = Sessions(**record['sizes'])
  text = (
    f'## {record["row"]}\n\n{record["episodes"]:,} streams of {record["split"]} classes on '
    f'{record["device"]}. A stream has {sizes.base_ways} base classes of {sizes.base_shots} '
    f'examples, then {sizes.number} sessions of {sizes.ways} classes of {sizes.shots} examples. '
    f'There are {sizes.queries} queries of each class. A head sees the examples of earlier '
    'sessions once, or again in each session. The difference is that of the accuracies at the end, '
    'paired by stream.\n\n'
  )
  columns = ['head', 'earlier ones', 'at first', 'at the end', *AT_END[1:], 'forgetting']
  table = markdown_table([*columns, 'difference'], rows)
  return f'{text}{table}\n\n`{record["command"]}`\n'


def on_regimes(record: Mapping[str, Any]) -> str:
  """Returns a record of experiments.two_regimes as Markdown: a row for each number of features."""
  cells = {(each['ways'], each['features']): each for each in record['cells']}
  ways, features = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
  names = [name for name in record['cells'][0] if name not in ('ways', 'features')]
  columns = [(name, k) for name in names for k in ways]
  of = lambda n, name, k: cells[k, n][name]
  rows = [[str(n), *(f'{of(n, *column) or "more"}' for column in columns)] for n in features]
  for what, scale in (('log n', np.log(features)), ('n', np.array(features, float))):
    fits = [explained(scale, [of(n, *column) for n in features]) for column in columns]
    rows.append([f'R² of a line in {what}', *(f'{each:.2f}' for each in fits)])
  text = (
    f'## {record["row"]}\n\nHow many examples bring the error within 0.01 of the least possible '
    f'(mean of {record["repeats"]} draws), by the number of features and of classes.\n\n'
  )
  head = ['features', *(f'`{name}`, {k} classes' for name, k in columns)]
  return f'{text}{markdown_table(head, rows)}\n\n`{record["command"]}`\n'


def explained(x: np.ndarray, y: list[int | None]) -> float:
  """Returns the share of the variance of y that a line in x explains; nan if some y is None."""
  if None in y:
    return math.nan
  return float(np.corrcoef(x, np.array(y, float))[0, 1] ** 2) if len({*y}) > 1 else math.nan
