"""What a report says of a test: its episodes, its classes, and what confidence means."""

from collections.abc import Sequence

import numpy as np

from experiments.output import figures_of_test
from experiments.output.answers import (
  NONE,
  Answers,
  OfClass,
  by_class,
  calibration,
  confusion,
  most_confused,
)
from experiments.output.page import details, escaped, figure, heading, table, wide
from experiments.output.text import format_estimate

MOST_IN_MATRIX = 30  # classes; of more only the pairs that are confused most are shown
HARDEST, PAIRS = 10, 10  # rows of the tables
QUANTILES = {
  'lowest': 0.0,
  '5% are below': 0.05,
  '25% are below': 0.25,
  'median': 0.5,
  '75% are below': 0.75,
  '95% are below': 0.95,
  'highest': 1.0,
}


def episodes_section(values: np.ndarray, metric: str) -> str:
  """Returns how the episodes of a test differ.

  Args:
    values: [episodes]; those that are not finite are left out, and counted.
    metric: what they measure.
  """
  values = np.asarray(values, float)
  finite = values[np.isfinite(values)]
  if len(finite) < 2:
    return ''
  levels = [format_estimate(metric, each) for each in np.quantile(finite, [*QUANTILES.values()])]
  note = (
    f'{metric} of each of {len(values):,} test episodes; dashed, the mean. The middle half is '
    f'between {levels[2]} and {levels[4]}.'
  )
  if lost := len(values) - len(finite):
    note += f' In {lost:,} it is not finite.'
  rows = zip(QUANTILES, levels, strict=True)
  numbers = details(
    'The numbers', table(('episodes', metric), rows, f'{metric} of episodes', numbers=True)
  )
  return figure(figures_of_test.histogram(finite, metric), note) + numbers


def classes_section(answers: Answers) -> str:
  """Returns which classes are hard, and which are taken for which; '' if classes have no names."""
  if answers.names is None or not len(answers.true):
    return ''
  names, found = answers.names, by_class(answers)
  note = (
    f'From the {len(answers.true):,} queries of {len(answers.ways):,} test episodes, which asked '
    f'for {len(found):,} of {len(names):,} classes.'
  )
  body = f'<p class="note">{note}</p>{heading("Hardest classes")}{_hardest(names, found)}'
  if pairs := most_confused(answers, PAIRS):
    rows = [
      (names[p.true], names[p.predicted], _share(p.times, p.queries), f'{p.times} of {p.queries}')
      for p in pairs
    ]
    heads = 'class', 'taken for', 'share', 'times'
    said = 'How many queries of a class were taken for another, of those where both were ways.'
    body += f'{heading("Most confused")}<p class="note">{said}</p>' + table(
      heads, rows, 'Most confused pairs of classes'
    )
  if len(names) <= MOST_IN_MATRIX:
    body += heading('Confusion') + _matrix(answers)
  return body


def _hardest(names: Sequence[str], found: Sequence[OfClass]) -> str:
  name = lambda number: 'none' if number == NONE else names[number]
  rows = [
    (name(each.number), _share(each.right, each.queries), each.queries, name(each.taken_for))
    for each in found[:HARDEST]
  ]
  return table(
    ('class', 'accuracy', 'queries', 'most taken for'), rows, 'Hardest classes', numbers=True
  )


def _share(part: int, whole: int) -> str:
  return f'{100 * part / max(whole, 1):.0f}%'


def _matrix(answers: Answers) -> str:
  """A table whose cells are shaded by their value; its columns are named by the rows' numbers."""
  names = answers.names or ()
  head = ''.join(f'<th scope="col">{number}</th>' for number in range(1, len(names) + 1))
  rows = ''
  for number, (name, shares) in enumerate(zip(names, confusion(answers), strict=True)):
    cells = ''.join(_cell(share, place == number) for place, share in enumerate(shares))
    rows += f'<tr><th scope="row">{number + 1} {escaped(name)}</th>{cells}</tr>\n'
  note = (
    'Of the queries of a class (row), the share in percent that was taken for each class (column), '
    'where both were ways of an episode; empty, where they never were.'
  )
  matrix = (
    '<table class="matrix"><thead><tr><th scope="col">class</th>'
    f'{head}</tr></thead><tbody>{rows}</tbody></table>'
  )
  return f'<p class="note">{note}</p>{wide(matrix, "Confusion of classes")}'


def _cell(share: float, own: bool) -> str:
  if not np.isfinite(share):
    return '<td></td>'
  kind = ' class="own"' if own else ''
  return f'<td{kind} style="--heat: {100 * share:.0f}%">{100 * share:.0f}</td>'


def calibration_section(answers: Answers) -> str:
  """Returns how often answers of a confidence are right."""
  measured = calibration(answers.confidence, answers.right)
  if not len(measured.queries):
    return ''
  surplus = (measured.queries * (measured.confidence - measured.accuracy)).sum()
  much = 'more' if surplus > 0 else 'less'
  note = (
    f'How often answers are right, by their probability, in {len(answers.ways):,} test episodes. '
    f'Expected calibration error {100 * measured.error:.1f}%: on average the learner is {much} '
    'confident than right.'
  )
  rows = [
    (f'{100 * c:.0f}%', f'{100 * a:.0f}%', f'{q:,}')
    for c, a, q in zip(measured.confidence, measured.accuracy, measured.queries, strict=True)
  ]
  numbers = table(('mean confidence', 'accuracy', 'answers'), rows, 'Calibration', numbers=True)
  return figure(figures_of_test.reliability(measured), note) + details('The numbers', numbers)
