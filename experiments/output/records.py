"""Stored results in the words of tables."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.output.results import read_results
from experiments.output.text import format_duration, format_estimate, is_fraction

RESULTS = Path('experiments') / 'results'
NONE = '-'
Record = Mapping[str, Any]


def read_records(root: Path) -> dict[str, Record]:
  """Reads the records experiments/results/*.json of a repository, in the order of their names.

  A file is a record of experiments.output.results.result_record with three more keys: 'row' says
  what was measured, 'published' is the paper's value in the unit of 'mean' (or null), and 'status'
  is 'unmeasured' for a row that waits for its device.

  Returns:
    The records by the names of their files, without the ending.

  Raises:
    OSError: if a file cannot be read.
    ValueError: if a file is no record, naming it.
  """
  return {path.stem: read_results(path) for path in sorted((root / RESULTS).glob('*.json'))}


def read_folder(folder: Path) -> dict[str, Any]:
  """Reads all JSON files of a folder, in the order of their names, without checks."""
  return {path.stem: json.loads(path.read_text('utf-8')) for path in sorted(folder.glob('*.json'))}


def is_measured(record: Record) -> bool:
  """Says whether a record holds a measurement, or only what is to be measured."""
  return record.get('status', 'measured') == 'measured'


def what(record: Record) -> str:
  """Says what was measured, and by which metric if that is unusual."""
  words = record.get('row') or record.get('title') or f'{record["learner"]}, {record["task"]}'
  return words if record['metric'] in ('accuracy', 'loss') else f'{words} ({record["metric"]})'


def score(record: Record) -> str:
  """Returns the mean with its 95% interval, or 'unmeasured'."""
  if not is_measured(record):
    return 'unmeasured'
  return format_estimate(record['metric'], record['mean'], record['ci95'])


def published(record: Record) -> str:
  """Returns the paper's value with the digits it was given with: 0.988 is 98.8%."""
  value = record.get('published')
  if value is None:
    return NONE
  return f'{100 * value:.6g}%' if is_fraction(record['metric']) else f'{value:g}'


def training_time(record: Record) -> str:
  """Returns how long training took."""
  return format_duration(record['train_seconds']) if is_measured(record) else NONE


def training_command(record: Record) -> str:
  """Returns the command that trained what a record tests."""
  return record.get('training_command') or record['command']


def device(record: Record) -> str:
  """Returns the device in few words.

  >>> device({'device': 'cpu x2 (Intel(R) Xeon(R) Processor)'})
  '2 CPU cores (Intel Xeon)'
  """
  named = re.sub(r'\(R\)| Processor', '', record['device'])
  return re.sub(r'^cpu x(\d+)', r'\1 CPU cores', named)
