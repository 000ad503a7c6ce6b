"""experiments/results/real_tables.md: a learner of tables beside those of scikit-learn.

A file experiments/results/real_tables/NAME.json is what experiments.compare_tables wrote, with what
was measured, in a few words, as 'row'. NAME.svg is the figure beside it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.output.critical_difference import critical_difference, friedman, mean_ranks
from experiments.output.records import NONE, device
from experiments.output.records import RESULTS as STORED
from experiments.output.text import format_duration
from experiments.runs.compare_tables import METRICS, OURS, scores_of
from experiments.tables.pages import markdown_table, page_of_records
from metakit.estimates import estimate

RESULTS = STORED / 'real_tables'
PAGE = STORED / 'real_tables.md'
HEAD = """# Real tables

Written by `python -m experiments.tables` from the files in [real_tables](real_tables), which
`experiments.compare_tables` wrote. The tables and the rule by which they were chosen are in
[real_tables.py](../runs/real_tables.py). A number is a mean over splits of a table, and then over
tables, with a 95% interval over tables. The learners of scikit-learn have their default settings.
"""
SHOWN = {
  'auc': 'ROC-AUC',
  'log_loss': 'log loss',
  'accuracy': 'accuracy',
  'r2': 'R²',
  'rmse': 'RMSE, in deviations of the target',
}


def texts(root: Path) -> dict[Path, str]:
  """Returns what the page should say; nothing where there are no records.

  Raises:
    OSError: if a file cannot be read.
    ValueError: if a file does not say what was measured ('row').
  """
  return page_of_records(root, RESULTS, PAGE, head=HEAD, section=section)


def section(name: str, record: Mapping[str, Any]) -> str:
  """Returns a record as Markdown."""
  metric = METRICS[record['kind']][0]
  learners, scores = scores_of(record, metric)
  tables = len(scores)
  apart = critical_difference(len(learners), tables)
  said = (
    f'{tables} tables, {record["splits"]} splits of each, at most {record["rows"]} rows to learn '
    f'from; `{OURS}` has {record["ensemble"]} view{"s" * (record["ensemble"] > 1)} of each table. '
    f'Ranks differ with p = {friedman(scores):.1g} (Friedman); two learners do if their mean ranks '
    f'are more than {apart:.2f} apart (Nemenyi, 0.05). Fit and prediction of 150 rows of 5 columns '
    f'take `{OURS}` {record["milliseconds"]:.0f} ms after compilation, on {device(record)}.'
  )
  return '\n\n'.join(
    [
      f'## {record["row"]}',
      _trained(record) + said,
      f'![Mean ranks and their critical difference](real_tables/{name}.svg)',
      summary(record),
      lost(learners, scores, [table['name'] for table in record['tables']]),
      'By table:',
      by_table(record, metric),
      f'`{record["command"]}`\n',
    ]
  )


def _trained(record: Mapping[str, Any]) -> str:
  card = record['card']
  if 'train_seconds' not in card:
    return ''
  took = f'{card["steps"]:,} steps, {format_duration(card["train_seconds"])} on {device(card)}'
  before = f', with the parameters of {card["start"]} to begin with' if 'start' in card else ''
  return f'`{record["learner"]}`, trained on drawn tables alone ({took}{before}). '


def summary(record: Mapping[str, Any]) -> str:
  """Returns a row for each learner: mean rank, means of all metrics, and seconds."""
  metrics = METRICS[record['kind']]
  learners, scores = scores_of(record, metrics[0])
  ranks = mean_ranks(scores)
  means = {metric: scores_of(record, metric)[1] for metric in metrics}
  seconds = np.median(scores_of(record, 'seconds')[1], axis=0)
  lines = []
  for place in np.argsort(ranks, kind='stable'):
    each = (estimate(means[metric][:, place]) for metric in metrics)
    shown = [f'{mean:.3f} ± {ci95:.3f}' for mean, ci95, _ in each]
    lines.append([learners[place], f'{ranks[place]:.2f}', *shown, f'{seconds[place]:.3f}'])
  names = [SHOWN[metric] for metric in metrics]
  table = markdown_table(['learner', 'mean rank', *names, 'seconds a split'], lines)
  covered = [cell['coverage'] for cell in record['cells'] if cell.get('coverage') is not None]
  if not covered:
    return table
  inside = f'{100 * np.mean(covered):.1f}%'
  return (
    f'{table}\n\n{inside} of the targets lie in the intervals of `{OURS}` that should hold 90%.'
  )


def lost(learners: Sequence[str], scores: np.ndarray, tables: Sequence[str]) -> str:
  """Says by how much each other learner is behind, and on which tables it is ahead."""
  mine = scores[:, learners.index(OURS)]
  lines = []
  for place, name in enumerate(learners):
    if name == OURS:
      continue
    mean, ci95, _ = estimate(mine - scores[:, place])
    worse = np.flatnonzero(mine < scores[:, place])
    named = ', '.join(tables[int(table)] for table in worse)
    lines.append([name, f'{mean:+.3f} ± {ci95:.3f}', str(len(worse)), named or NONE])
  columns = [f'`{OURS}` beside', 'ahead by', 'tables lost', 'which']
  return markdown_table(columns, lines)


def by_table(record: Mapping[str, Any], metric: str) -> str:
  """Returns a row for each table; the best learner is bold."""
  learners, scores = scores_of(record, metric)
  lines = []
  for table, row in zip(record['tables'], scores, strict=True):
    shown = [f'{score:.3f}' for score in row]
    best = row.argmax()
    shown[best] = f'**{shown[best]}**'
    sizes = [f'{table["rows"]:,}', str(table['columns'])]
    sizes += [str(table['classes'])] if 'classes' in table else []
    lines.append([table['name'], *sizes, *shown])
  classes = ['classes'] if record['kind'] == 'classification' else []
  return markdown_table(['table', 'rows', 'columns', *classes, *learners], lines)
