"""metrics.jsonl and TensorBoard events: the metrics of a training, a line for each write.

A run that resumes at step s drops what was written after s, so that both hold every step once. Each
line of metrics.jsonl holds its number and a checksum. So changed or lost lines are found.
"""

import contextlib
import itertools
import json
import math
import os
import socket
import struct
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.output.results import finite
from experiments.output.sums import with_sum, without_sum
from metakit.distributed import is_first
from metakit.files import naming, write_text

FILE_NAME = 'metrics.jsonl'
EVENTS_FOLDER = 'tensorboard'
NUMBER = 'line'  # the key of a line's number, from 1


class MetricsLog(NamedTuple):
  """Where metrics go.

  Attributes:
    write: (step, metrics, prefix='train') -> None. The metric named `name` is logged as
      'prefix/name'; half the width of its 95% interval, if it has one, as 'prefix/name_ci95'.
  """

  write: Callable[..., None]


@contextlib.contextmanager
def metrics_log(workdir: str | os.PathLike, resume_step: int) -> Iterator[MetricsLog]:
  """Opens the metrics of a run, which continues after `resume_step`.

  Lines of later steps are dropped, and so is a last line that a kill cut short. TensorBoard forgets
  the same steps. Every write reaches the operating system before it returns, so a killed process
  loses nothing that it has written. If lines before `resume_step` are missing, a warning names
  them. Of several processes, only the first one writes.

  Args:
    workdir: the folder for metrics.jsonl and tensorboard/; it is created if it does not exist.
    resume_step: the last step to keep; 0 for a new run.

  Yields:
    A MetricsLog.

  Raises:
    OSError: one line naming the file, if it cannot be written.
    ValueError: if metrics.jsonl is damaged (`read_metrics`).
  """
  if not is_first():
    yield MetricsLog(lambda step, metrics, prefix='train': None)
    return
  path = Path(workdir) / FILE_NAME
  kept = [line for line in _read(path) if line['step'] <= resume_step]
  last = max((line['step'] for line in kept), default=0)
  if lost := _lost(kept):
    warnings.warn(
      f'{path} has lost lines: {", ".join(lost)}, from the learning curve too; restore the file if '
      'there is a copy',
      stacklevel=3,
    )
  if last < resume_step:
    warnings.warn(
      f'{path} ends at step {last} and the run goes on after step {resume_step}: metrics between '
      'them are missing, from the learning curve too; restore the file if there is a copy',
      stacklevel=3,
    )
  numbered = list(_numbered(kept))
  write_text(path, ''.join(_as_line(line) for line in numbered))
  numbers = itertools.count(numbered[-1][NUMBER] + 1 if numbered else 1)
  add_event = _events(Path(workdir) / EVENTS_FOLDER, resume_step + 1)

  def write(step: int, metrics: Mapping[str, Any], prefix: str = 'train') -> None:
    named = {f'{prefix}/{name}': float(value) for name, value in metrics.items()}
    # The file is opened for each line, so that nothing stays in a buffer at a kill or on a full
    # disk.
    with naming(path), open(path, 'a', encoding='utf-8') as file:
      file.write(_as_line({NUMBER: next(numbers), 'step': int(step)} | named))
    add_event(int(step), named)

  yield MetricsLog(write)


def read_metrics(workdir: str | os.PathLike) -> list[dict[str, Any]]:
  """Reads metrics.jsonl: one dict a line, 'step' and metrics such as 'train/loss'.

  An incomplete last line (of a write in progress, or a kill) is left out. A metric that was not
  finite is nan. Without a file there are no lines.

  Raises:
    ValueError: if another line is not a JSON object with a step and metrics, if it was changed
      after it was written, or if its step does not come after that of the line of its kind before
      it.
  """
  lines = _read(Path(workdir) / FILE_NAME)
  return [{name: value for name, value in line.items() if name != NUMBER} for line in lines]


def _read(path: Path) -> list[dict[str, Any]]:
  """As read_metrics, but keeps the numbers of the lines that hold them."""
  if not path.exists():
    return []
  *whole, rest = path.read_text(encoding='utf-8', errors='replace').split('\n')
  lines, latest = [], dict[str, int]()
  for number, text in enumerate(whole, 1):
    try:
      lines.append(_parse(text, latest))
    except ValueError as error:
      raise ValueError(f'{path}, line {number}, {error}; delete that line') from None
  with contextlib.suppress(ValueError):  # a whole last line ends in a newline
    lines.append(_parse(rest, latest))
  return lines


def _numbered(lines: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
  """Gives each line the number it holds; lines of earlier versions hold none, and get the next."""
  last = 0
  for line in lines:
    last = line.get(NUMBER, last + 1)
    yield {**line, NUMBER: last}


def _lost(lines: Iterable[Mapping[str, Any]]) -> list[str]:
  """Returns the missing lines, as '3' or '3 to 7'."""
  gaps, last = [], 0
  for line in _numbered(lines):
    first, end = last + 1, line[NUMBER] - 1
    if first <= end:
      gaps.append(f'{first}' if first == end else f'{first} to {end}')
    last = line[NUMBER]
  return gaps


def _as_line(line: Mapping[str, Any]) -> str:
  return json.dumps(with_sum(finite(dict(line))), allow_nan=False) + '\n'


def _parse(text: str, latest: dict[str, int]) -> dict[str, Any]:
  """Reads a line. Checks its step against `latest`, the last step of each kind (train, ...), and
  updates that."""
  try:
    line = json.loads(text)
  except ValueError:
    line = None
  if not isinstance(line, dict) or not isinstance(line.get('step'), int):
    raise ValueError('is not a JSON object with a step')
  line = without_sum(line)
  if not isinstance(line.get(NUMBER, 1), int):
    raise ValueError(f'has {line[NUMBER]!r} for its number')
  if strange := [name for name in line if name not in ('step', NUMBER) and '/' not in name]:
    raise ValueError(f'holds {strange[0]!r}, which is no metric')
  _check_order(line, latest)
  return {name: math.nan if value is None else value for name, value in line.items()}


def _check_order(line: Mapping[str, Any], latest: dict[str, int]) -> None:
  """Notes the step of a line; raises ValueError if it does not come after the last of its kind."""
  step = line['step']
  for kind in {name.partition('/')[0] for name in line if '/' in name}:
    if step <= latest.get(kind, -1):
      raise ValueError(f'has step {step} of {kind}, after step {latest[kind]}')
    latest[kind] = step


def _events(folder: Path, first_step: int) -> Callable[[int, Mapping[str, float]], None]:
  """Starts a TensorBoard file; returns (step, named) -> None, which appends an event.

  The content is that of tensorboardX.SummaryWriter(purge_step=first_step), but there is no thread.
  The thread of SummaryWriter dies on a full disk, and the eleventh event after that blocks the
  training for ever.
  """
  from tensorboardX.proto.event_pb2 import Event, SessionLog
  from tensorboardX.proto.summary_pb2 import Summary

  # Readers order the files of a folder by name.
  path = folder / f'events.out.tfevents.{time.time():.3f}.{socket.gethostname()}'

  def add(step: int, **content: Any) -> None:
    event = Event(step=step, wall_time=time.time(), **content)
    with naming(path), open(path, 'ab') as file:
      file.write(_framed(event.SerializeToString()))

  def add_scalars(step: int, named: Mapping[str, float]) -> None:
    values = [Summary.Value(tag=name, simple_value=value) for name, value in named.items()]
    add(step, summary=Summary(value=values))

  with naming(folder):
    folder.mkdir(parents=True, exist_ok=True)
  add(0, file_version='brain.Event:2')
  # This event makes readers drop the events of earlier files from this step on.
  add(first_step, session_log=SessionLog(status=SessionLog.START))
  return add_scalars


def _framed(data: bytes) -> bytes:
  """Returns one TFRecord: length, its checksum, data, its checksum."""
  from tensorboardX.record_writer import masked_crc32c

  length = struct.pack('<Q', len(data))
  checksum = lambda part: struct.pack('<I', masked_crc32c(part))
  return length + checksum(length) + data + checksum(data)
