"""experiments/results/transfer.md: which sources help which targets, measured and predicted.

A file experiments/results/transfer/NAME.json is what experiments.transfer wrote, with what was
measured, in a few words, as 'row'.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.output.records import NONE, device
from experiments.output.records import RESULTS as STORED
from experiments.output.text import format_estimate
from experiments.tables.pages import markdown_table, page_of_records

RESULTS = STORED / 'transfer'
PAGE = STORED / 'transfer.md'
HEAD = """# Which sources help which targets

Written by `python -m experiments.tables` from the files in [transfer](transfer), which
`experiments.transfer` wrote. A learner was trained anew on each group of classes, and tested on
unseen examples of all. Then each group was taken to be new. The others were ranked as its sources
by what is known without it, and the ranking was compared with what was measured. Precision is that
of the five best, regret what the five predicted to be best fall short of them, as a share. The last
row ranks by the other trainings, judged by the first one: what a second measurement would say.
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
  found = record['difficulty']
  said = (
    f'`{record["task"]}`, `{record["learner"]}`, network `{record["network"]}`, {record["steps"]} '
    f'steps of {record["tasks_per_step"]} tasks on each group, {record["episodes"]} test episodes '
    f'a pair (inductive), mean of {record["seeds"]} trainings, on {device(record)}.'
  )
  bits = (
    'Rank correlation of the difficulty in bits with the accuracy that the other groups lead to: '
    f'{found["rank_correlation"]:.2f} (95% interval {found["low"]:.2f} to {found["high"]:.2f}, '
    f'over {len(record["groups"])} groups).'
  )
  parts = [f'## {record["row"]}', said, rankings(record), bits, by_group(record)]
  return '\n\n'.join([*parts, f'`{record["command"]}`\n'])


def rankings(record: Mapping[str, Any]) -> str:
  """Returns a row for each way to rank sources: means over targets with 95% intervals."""
  measures = {'rank_correlation': 'rank correlation', 'precision': 'precision', 'regret': 'regret'}
  lines = [
    [name, *(format_estimate(each, *values[each]) for each in measures)]
    for name, values in record['predictors'].items()
  ]
  return markdown_table(['ranked by', *measures.values()], lines)


def by_group(record: Mapping[str, Any]) -> str:
  """Returns a row for each group, as a target: accuracies, its best source and its bits.

  >>> record = {'groups': ['a', 'b'], 'matrix': [[0.9, 0.5], [0.7, 0.8]], 'bits': [3e6, None]}
  >>> print(by_group(record | {'by_others': [0.7, 0.5]}))
  | target | trained on itself | on others, mean | the best other | bits |
  | --- | --- | --- | --- | --- |
  | a | 90.0% | 70.0% | b, 70.0% | 3e+06 |
  | b | 80.0% | 50.0% | a, 50.0% | - |
  """
  names, matrix = record['groups'], np.array(record['matrix'])
  others = np.where(np.eye(len(matrix), dtype=bool), -np.inf, matrix)
  best, lines = others.argmax(0), []
  for number, name in enumerate(names):
    bits = record['bits'][number]
    lines.append(
      [
        name,
        f'{matrix[number, number]:.1%}',
        f'{record["by_others"][number]:.1%}',
        f'{names[best[number]]}, {others[best[number], number]:.1%}',
        NONE if bits is None else f'{bits:.3g}',
      ]
    )
  columns = 'target', 'trained on itself', 'on others, mean', 'the best other', 'bits'
  return markdown_table(columns, lines)
