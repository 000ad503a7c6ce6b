"""Records of comparisons as Markdown."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from experiments.runs.compare_heads import NONE, pace, score
from experiments.runs.compare_sessions import AT_END, percent
from experiments.runs.two_regimes import CLOSE, HEADS
from experiments.tables.pages import markdown_table
from metakit.episodes.class_incremental import Sessions


def heads_table(record: Mapping[str, Any]) -> str:
  """Returns what experiments.compare_heads wrote as Markdown: a row a head, then seconds."""
  cells = {(each['head'], each['task']): each for each in record['cells']}
  names, tested = ([*dict.fromkeys(key[i] for key in cells)] for i in (0, 1))

  def rows(show: Callable[[Mapping[str, Any]], str]) -> list[list[str]]:
    shown = lambda name: (cells.get((name, task)) for task in tested)
    return [[f'`{name}`', *(show(c) if c else NONE for c in shown(name))] for name in names]

  episodes = max(each['episodes'] for each in record['cells'])
  columns = ['head', *(f'`{task}`' for task in tested)]
  return (
    f'## {record["row"]}\n\n{episodes:,} {record["split"]} episodes each, on {record["device"]}; '
    f'after the comma is the difference to `{names[0]}`, paired by episode; omniglot_runs are the '
    f'20 official ones.\n`{record["command"]}`\n\n{markdown_table(columns, rows(score))}\n\n'
    f'Seconds per 1,000 episodes, after compilation:\n\n{markdown_table(columns, rows(pace))}\n'
  )


def sessions_table(record: Mapping[str, Any]) -> str:
  """Returns what experiments.compare_sessions wrote as Markdown: a row a head, its end."""
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
    f'{record["device"]}: {sizes.base_ways} base classes of {sizes.base_shots} examples, then '
    f'{sizes.number} sessions of {sizes.ways} classes of {sizes.shots}; {sizes.queries} queries of '
    'each class. Examples of earlier sessions are seen once, or again in each session; the '
    f'difference is that of the accuracies at the end, paired by stream.\n`{record["command"]}`\n\n'
  )
  columns = ['head', 'earlier ones', 'at first', 'at the end', *AT_END[1:], 'forgetting']
  return f'{text}{markdown_table([*columns, "difference"], rows)}\n'


def regimes_table(record: Mapping[str, Any]) -> str:
  """Returns what experiments.two_regimes wrote as Markdown: a row a number of features."""
  cells = {(each['ways'], each['features']): each for each in record['cells']}
  ways, features = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
  columns = [(name, k) for name in HEADS for k in ways]
  of = lambda n, name, k: cells[k, n][name]
  rows = [[str(n), *(f'{of(n, *column) or "more"}' for column in columns)] for n in features]
  for what, scale in (('log n', np.log(features)), ('n', np.array(features, float))):
    fits = [explained(scale, [of(n, *column) for n in features]) for column in columns]
    rows.append([f'R² of a line in {what}', *(f'{each:.2f}' for each in fits)])
  text = (
    f'## {record["row"]}\n\nExamples until the error is within {100 * CLOSE:.0f}% of the least '
    f'(mean of {record["repeats"]} draws), by the number of features and of classes.\n'
    f'`{record["command"]}`\n\n'
  )
  head = ['features', *(f'`{name}`, {k} classes' for name, k in columns)]
  return f'{text}{markdown_table(head, rows)}\n'


def explained(x: np.ndarray, y: list[int | None]) -> float:
  """Returns the share of the variance of y that a line in x explains; nan if some y is None."""
  if None in y:
    return math.nan
  return float(np.corrcoef(x, np.array(y, float))[0, 1] ** 2) if len({*y}) > 1 else math.nan
