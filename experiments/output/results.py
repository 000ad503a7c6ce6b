"""results.json: what a run measured, and all that is needed to measure it again."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.output.machine import describe_device, versions
from experiments.output.text import is_fraction
from metakit.estimates import Estimate
from metakit.files import write_text

# Keys of every record, measured or not.
DESCRIPTION = ('metric', 'protocol', 'task', 'learner', 'network', 'command')
# Keys that a measurement adds.
MEASUREMENT = ('mean', 'ci95', 'episodes', 'seed', 'steps', 'train_seconds', 'device', 'versions')
STATUSES = ('measured', 'unmeasured')


def result_record(
  *,
  metric: str,
  estimate: Estimate,
  seed: int,
  protocol: str,
  task: str,
  learner: str,
  network: str,
  optimizer: str,
  steps: int,
  train_seconds: float | None,
  command: str,
  **more: Any,
) -> dict[str, Any]:
  """Returns a record of one evaluation. It holds no date: the same run gives the same record.

  Args:
    metric: 'accuracy' (a fraction), 'loss', ...
    estimate: mean and interval over the test episodes, in the unit of the metric.
    seed: the seed of the run.
    protocol: 'inductive' or 'transductive'.
    task: the full spec of the test task, defaults filled in.
    learner: the full spec.
    network: the full spec.
    optimizer: the full spec.
    steps: training steps done.
    train_seconds: seconds of training, summed over all processes that continued one another; None
      if unknown.
    command: what to type to get this record.
    **more: further keys: 'title', 'row', 'published', 'parallel', ...

  Raises:
    ValueError: if `more` has a key that this function fills in.
  """
  record = {
    'metric': metric,
    'mean': float(estimate.mean),
    'ci95': float(estimate.ci95),
    'episodes': int(estimate.episodes),
    'seed': seed,
    'protocol': protocol,
    'task': task,
    'learner': learner,
    'network': network,
    'optimizer': optimizer,
    'steps': steps,
    'train_seconds': train_seconds,
    'device': describe_device(),
    'versions': versions(),
    'command': command,
  }
  taken = sorted(record.keys() & more.keys())
  if taken:
    raise ValueError(f'result_record fills in {taken} itself; choose other names')
  return record | more


def write_results(path: str | os.PathLike, record: dict[str, Any]) -> None:
  """Writes a record as JSON. If that fails, nothing is written. NaN becomes null.

  Raises:
    OSError: if it cannot be written, in one line that names the file. An existing file is then
      unchanged.
  """
  write_text(path, json.dumps(finite(record), indent=2, allow_nan=False) + '\n')


def read_results(path: str | os.PathLike) -> dict[str, Any]:
  """Reads a record and checks its keys.

  Raises:
    OSError: if the file cannot be read.
    ValueError: if it is not a JSON object, lacks a key, or has an impossible value.
  """
  record = read_json(path)
  if not isinstance(record, dict):
    raise ValueError(f'{path} holds a {type(record).__name__}; a record is one JSON object')
  _check_record(path, record)
  return record


def read_json(path: str | os.PathLike) -> Any:
  """Reads a JSON file.

  Raises:
    OSError: if it cannot be read.
    ValueError: in one line naming the file, if it is damaged.
  """
  try:
    return json.loads(Path(path).read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(f'{path} is not JSON ({error}); write it again') from None


def refuse_other(
  path: str | os.PathLike, stored: Mapping[str, Any], setting: Mapping[str, Any], *, remedy: str
) -> None:
  """Raises ValueError, which names the difference, if a record was measured with another setting.

  Args:
    path: path of the record, for the message.
    stored: the record.
    setting: all that determines the measurement, with the keys of a record.
    remedy: the flag that needs another value.
  """
  other = [name for name in setting if stored.get(name) != setting[name]]
  if other:
    raise ValueError(f'{path} was measured with another {other[0]}; give another {remedy}')


def _check_record(path: str | os.PathLike, record: dict[str, Any]) -> None:
  status = record.get('status', 'measured')
  if status not in STATUSES:
    raise ValueError(f'{path}: status={status!r} is not one of {", ".join(STATUSES)}')
  needed = DESCRIPTION + (MEASUREMENT if status == 'measured' else ())
  missing = [name for name in needed if name not in record]
  if missing:
    raise ValueError(f'{path} lacks {", ".join(missing)}; add it or measure again')
  for name in ('mean', 'ci95', 'published', 'train_seconds', 'episodes'):
    value = record.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
      raise ValueError(f'{path}: {name}={value!r} is not a number; write a number or null')
  for name in ('mean', 'published'):
    if is_fraction(record['metric']) and not 0 <= (record.get(name) or 0) <= 1:
      raise ValueError(f'{path}: {name}={record[name]} is not a fraction; write 98.8% as 0.988')


def finite(value: Any) -> Any:
  """Returns `value` in a form that JSON can hold: None for NaN and infinity, lists for arrays."""
  if isinstance(value, dict):
    return {str(name): finite(child) for name, child in value.items()}
  if hasattr(value, 'tolist'):  # NumPy and JAX arrays and scalars
    value = value.tolist()
  if isinstance(value, list | tuple):
    return [finite(child) for child in value]
  if isinstance(value, os.PathLike):
    return os.fspath(value)
  return None if isinstance(value, float) and not math.isfinite(value) else value
