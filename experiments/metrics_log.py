"""metrics.jsonl and TensorBoard events: the metrics of a training, one line a write.

Resuming at step s takes back what was written after s, so that both hold every step once.
"""

import contextlib
import json
import math
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.results import finite, naming, write_text
from metakit.distributed import is_first

FILE_NAME = 'metrics.jsonl'
EVENTS_FOLDER = 'tensorboard'


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

  Lines of a later step are dropped, and so is a last line cut short by a kill. TensorBoard is told
  to forget the same steps. Every write reaches the operating system before it returns, so a killed
  process loses nothing that it has written. Of several processes, the first one alone writes.

  Args:
    workdir: a folder, made if it does not exist; gets metrics.jsonl and tensorboard/.
    resume_step: the last step to keep; 0 for a new run.

  Yields:
    A MetricsLog.

  Raises:
    OSError: one line naming the file, if it cannot be written.
    ValueError: if a line of metrics.jsonl other than the last cannot be read.
  """
  if not is_first():
    yield MetricsLog(lambda step, metrics, prefix='train': None)
    return
  path = Path(workdir) / FILE_NAME
  kept = [line for line in read_metrics(workdir) if line['step'] <= resume_step]
  write_text(path, ''.join(_as_line(line) for line in kept))
  add_event = _events(Path(workdir) / EVENTS_FOLDER, resume_step + 1)

  def write(step: int, metrics: Mapping[str, Any], prefix: str = 'train') -> None:
    named = {f'{prefix}/{name}': float(value) for name, value in metrics.items()}
    # Opened for each line: nothing stays in a buffer, neither at a kill nor on a full disk.
    with naming(path), open(path, 'a', encoding='utf-8') as file:
      file.write(_as_line({'step': int(step)} | named))
    add_event(int(step), named)

  yield MetricsLog(write)


def read_metrics(workdir: str | os.PathLike) -> list[dict[str, Any]]:
  """Reads metrics.jsonl: one dict a line, 'step' and metrics such as 'train/loss'.

  A last line that is not whole (a write in progress, a kill) is left out. A metric that was not
  finite is nan. No file means no lines.

  Raises:
    ValueError: if another line is not a JSON object with a step.
  """
  path = Path(workdir) / FILE_NAME
  lines = path.read_text(encoding='utf-8', errors='replace').split('\n') if path.exists() else []
  lines = lines if lines and lines[-1] else lines[:-1]  # a whole last line ends in a newline
  parsed = [_parse(line) for line in lines]
  if parsed and parsed[-1] is None:
    parsed = parsed[:-1]
  if None in parsed:
    number = parsed.index(None) + 1
    raise ValueError(f'{path}, line {number}, is not a JSON object with a step; delete that line')
  return [line for line in parsed if line is not None]


def _as_line(line: Mapping[str, Any]) -> str:
  return json.dumps(finite(dict(line)), allow_nan=False) + '\n'


def _parse(text: str) -> dict[str, Any] | None:
  try:
    line = json.loads(text)
  except ValueError:
    return None
  if not isinstance(line, dict) or not isinstance(line.get('step'), int):
    return None
  return {name: math.nan if value is None else value for name, value in line.items()}


def _events(folder: Path, first_step: int) -> Callable[[int, Mapping[str, float]], None]:
  """Starts a TensorBoard file; returns (step, named) -> None, which appends an event.

  The content is that of tensorboardX.SummaryWriter(purge_step=first_step), without its thread: on
  a full disk that thread dies, and the eleventh event after that blocks the training for ever.
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
  # From here on readers drop the events of former files that are not before this step.
  add(first_step, session_log=SessionLog(status=SessionLog.START))
  return add_scalars


def _framed(data: bytes) -> bytes:
  """Returns one TFRecord: length, its checksum, data, its checksum."""
  from tensorboardX.record_writer import masked_crc32c

  length = struct.pack('<Q', len(data))
  checksum = lambda part: struct.pack('<I', masked_crc32c(part))
  return length + checksum(length) + data + checksum(data)
