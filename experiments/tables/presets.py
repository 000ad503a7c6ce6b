"""The headers of presets: the scores and times that were measured with each."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.output.records import (
  RESULTS,
  Record,
  is_measured,
  read_folder,
  read_records,
  score,
  training_command,
  what,
)
from experiments.output.text import format_closeness, format_duration, format_onset
from experiments.tables import sweeps

FOLDER = Path('experiments') / 'presets'
MARK = '#= '  # the lines that this module writes begin so
PAGES = {  # folders of other results, and the pages that show them
  'comparisons': 'metakit/learners/README.md',
  'heads': 'metakit/heads/README.md',
  'sweeps': 'experiments/results/sweeps.md',
}


def texts(root: Path) -> dict[Path, str]:
  """Returns what each preset should say.

  Raises:
    OSError: if a file cannot be read.
    ValueError: if a file is no record.
  """
  records = list(read_records(root).values())
  others = {folder: read_folder(root / RESULTS / folder).values() for folder in PAGES}
  return {
    path.relative_to(root): with_lines(path.read_text('utf-8'), lines(path.name, records, others))
    for path in sorted((root / FOLDER).glob('*.flags'))
  }


def with_lines(text: str, written: Sequence[str]) -> str:
  """Returns a preset's text with the given lines after its comments, in place of those before."""
  kept = [line for line in text.splitlines() if not line.startswith(MARK)]
  comments = list(itertools.takewhile(lambda line: line.startswith('#'), kept))
  marked = (MARK + line for line in written)
  return '\n'.join([*comments, *marked, *kept[len(comments) :], ''])


def lines(
  preset: str, records: Iterable[Record], others: Mapping[str, Iterable[Mapping[str, Any]]]
) -> list[str]:
  """Returns the scores and the times that were measured with a preset."""
  mine = [r for r in records if is_measured(r) and f'/{preset}' in training_command(r)]
  if mine:
    scores = [
      f'Score: {full_score(record)} ({what(record)}, {record["protocol"]})' for record in mine
    ]
    return [*scores, f'Time: {times((r["train_seconds"], r["device"]) for r in mine)}']
  for folder, page in PAGES.items():
    measured = [each for each in others[folder] if f'/{preset}' in each['command']]
    if measured:
      return [f'Score: a table in {page}', f'Time: {time_of(measured)}']
  return ['Score: unmeasured', 'Time: unmeasured']


def full_score(record: Record) -> str:
  """Returns a score with all that a record says beside it."""
  parts = [score(record)]
  if 'beside_bayes' in record:
    parts.append(format_closeness(record['beside_bayes']))
  if 'onset_step' in record:
    parts.append(format_onset(record))
  return '; '.join(parts)


def time_of(measured: Sequence[Mapping[str, Any]]) -> str:
  """Says how long sweeps or comparisons of learners trained; those of heads train little."""
  trained = [(spent, each['device']) for each in measured if (spent := seconds(each)) is not None]
  return times(trained) or 'see the table'


def seconds(record: Mapping[str, Any]) -> float | None:
  """Returns how long a sweep or a comparison of learners trained; None of other records."""
  if all('width' in cell for cell in record['cells']):
    return sweeps.seconds(record)
  if all('train_seconds' in cell for cell in record['cells']):
    return sum(cell['train_seconds'] for cell in record['cells'])
  return None


def times(trained: Iterable[tuple[float, str]]) -> str:
  """Says how long trainings took, as a range for each device.

  >>> times([(60, 'cpu x2'), (7530, 'cpu x2'), (60, 'cpu x2'), (4.26, 'cpu x1')])
  '60 s to 2 h 06 min on cpu x2; 4.3 s on cpu x1'
  """
  by_device: dict[str, list[float]] = {}
  for spent, device in trained:
    by_device.setdefault(device, []).append(spent)
  return '; '.join(f'{_range(spent)} on {device}' for device, spent in by_device.items())


def _range(spent: Sequence[float]) -> str:
  return ' to '.join(dict.fromkeys(map(format_duration, (min(spent), max(spent)))))
