"""results.json: what a run measured, and all that is needed to measure it again."""

import contextlib
import errno
import importlib.metadata
import json
import math
import os
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # records are read and written without JAX
  from metakit.estimates import Estimate

# Keys of every record, measured or not.
DESCRIPTION = ('metric', 'protocol', 'task', 'learner', 'network', 'command')
# Keys that a measurement adds.
MEASUREMENT = ('mean', 'ci95', 'episodes', 'seed', 'steps', 'train_seconds', 'device', 'versions')
STATUSES = ('measured', 'unmeasured')

_PACKAGES = {'orbax': 'orbax-checkpoint'}  # distributions whose names differ from their packages
_REPORTED = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'orbax', 'metakit')


def result_record(
  *,
  metric: str,
  estimate: 'Estimate',
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
  path: str | os.PathLike, stored: Mapping[str, Any], setting: Mapping[str, Any], remedy: str
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


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes a text file as UTF-8, like `write_bytes`."""
  write_bytes(path, text.encode())


def writes() -> bool:
  """Says whether this process writes files: of several processes, only the first one does.

  A process that is one of several has loaded metakit.distributed to join the others.
  """
  distributed = sys.modules.get('metakit.distributed')
  return distributed is None or distributed.is_first()


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
  """Writes a whole file or nothing: first a temporary file beside it, which is then renamed.

  Missing folders are created. Of several processes, only the first one writes.

  Raises:
    OSError: if it cannot be written, in one line that names the file. An existing file is then
      unchanged.
  """
  if not writes():
    return
  path = Path(path)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  with naming(path):
    _make_folder(path.parent)
    try:
      with open(temporary, 'wb') as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # without it a power cut may leave an empty file of the new name
      os.replace(temporary, path)
    except BaseException:
      with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
      raise


def with_ending(path: Path, ending: str) -> Path:
  """Returns a path with an ending added to its name. The name may have dots; with_suffix cuts them.

  >>> with_ending(Path('runs/of_1.5'), '.json').name
  'of_1.5.json'
  """
  return path.with_name(path.name + ending)


def check_writable(paths: Iterable[Path]) -> None:
  """Raises OSError, in one line that names the file, if one of the files could not be written."""
  for path in paths if writes() else ():
    with naming(path):
      if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, 'it is a folder')
      _make_folder(path.parent)
      with tempfile.TemporaryFile(dir=path.parent):
        pass  # write_bytes needs such a file


def _make_folder(folder: Path) -> None:
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except FileExistsError:
    raise NotADirectoryError(errno.ENOTDIR, f'{folder} is not a folder') from None


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
  """Turns an OSError inside the block into one of the same kind that names the file in one line."""
  try:
    yield
  except OSError as error:
    reason = error.strerror or str(error)
    remedy = 'free some space or write elsewhere'
    raise OSError(error.errno, f'cannot write {path}: {reason}; {remedy}') from error


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


def describe_device() -> str:
  """Returns the kind and number of JAX devices of all processes: 'NVIDIA H100 80GB HBM3 x1'.

  On a CPU the number is that of the cores this process may use, since JAX sees one device (or as
  many as XLA_FLAGS pretends there are): 'cpu x2 (AMD EPYC)'.
  """
  import jax  # not at the top, since records are read and written without JAX

  devices = jax.devices()
  if devices[0].platform == 'cpu':
    model = _cpu_model()
    return f'cpu x{_cores()}' + (f' ({model})' if model else '')
  kinds = Counter(device.device_kind for device in devices)
  return ' + '.join(f'{kind} x{count}' for kind, count in kinds.items())


def _cores() -> int:
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _cpu_model() -> str:
  with contextlib.suppress(OSError):
    for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
      if line.startswith('model name'):
        return line.partition(':')[2].strip()
  return platform.processor()


def versions() -> dict[str, str | None]:
  """Returns the versions of Python and of the packages that determine a result; None if absent."""

  def version(name: str) -> str | None:
    try:
      return importlib.metadata.version(_PACKAGES.get(name, name))
    except importlib.metadata.PackageNotFoundError:
      return None

  return {'python': platform.python_version()} | {name: version(name) for name in _REPORTED}


def is_fraction(metric: str) -> bool:
  """Says whether a metric is a fraction, which people read in percent."""
  return 'accuracy' in metric


def format_closeness(closeness: Mapping[str, Any]) -> str:
  """Says how far a learner is from the Bayes predictor.

  Args:
    closeness: a record's 'beside_bayes'. Differences of predictions are in units of the error
      before any example; in a regression that is the variance of y.

  >>> closeness = {'ratio': 1.25, 'ratio_after': 3, 'difference': 0.002, 'difference_after': 4}
  >>> format_closeness(closeness)
  'at most 1.250 x the Bayes error (after 3), predictions within 0.0020 (after 4)'
  """
  after = closeness['difference_after']
  apart = f'predictions within {closeness["difference"]:.4f} (after {after})'
  if closeness['ratio'] is None:
    return apart
  ratio = f'at most {closeness["ratio"]:.3f} x the Bayes error (after {closeness["ratio_after"]})'
  return f'{ratio}, {apart}'


def format_onset(record: Mapping[str, Any]) -> str:
  """Says by which step ('onset_step' of a record) a model began to learn from the examples it
  reads.

  >>> format_onset({'onset_step': 1200, 'steps': 5000})
  'learns in context by step 1,200'
  >>> format_onset({'onset_step': None, 'steps': 5000})
  'no learning in context in 5,000 steps'
  """
  if record['onset_step'] is None:
    return f'no learning in context in {record["steps"]:,} steps'
  return f'learns in context by step {record["onset_step"]:,}'


def format_estimate(metric: str, mean: float | None, ci95: float | None = None) -> str:
  """Returns 'mean ± ci95', in percent for accuracies, with as many digits as the interval warrants.

  The interval is left out if it is None, or infinite, as that of a single episode.

  >>> format_estimate('accuracy', 0.98424, 0.00131), format_estimate('loss', 0.61234, 0.0213)
  ('98.42 ± 0.13%', '0.612 ± 0.021')
  """
  if mean is None or not math.isfinite(mean):
    return 'not finite'
  if ci95 is not None and not math.isfinite(ci95):
    ci95 = None
  if is_fraction(metric):
    interval = '' if ci95 is None else f' ± {100 * ci95:.2f}'
    return f'{100 * mean:.2f}{interval}%'
  if not ci95:
    return f'{mean:.4g}'
  decimals = min(max(1 - math.floor(math.log10(ci95)), 0), 8)  # two digits of the interval
  return f'{mean:.{decimals}f} ± {ci95:.{decimals}f}'


def format_duration(seconds: float | None) -> str:
  """Returns a duration for people.

  >>> [format_duration(seconds) for seconds in (4.26, 95, 2460, 7530, None)]
  ['4.3 s', '95 s', '41 min', '2 h 06 min', '-']
  """
  if seconds is None:
    return '-'
  if seconds < 120:
    return f'{seconds:.1f} s' if seconds < 10 else f'{seconds:.0f} s'
  minutes = round(seconds / 60)
  return f'{minutes} min' if minutes < 120 else f'{minutes // 60} h {minutes % 60:02} min'
