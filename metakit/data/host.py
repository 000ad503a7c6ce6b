"""Tables larger than the device: a thread of the host reads their rows, from the same plan.

Where a row is does not change which row it is: a plan gives row numbers, and only the gather is
done by the device (metakit.episodes.few_shot.complete) or, here, by the host.
"""

import collections
import json
import os
import shutil
import uuid
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metakit.data.files import PathLike, damaged
from metakit.data.numbers import check_width, is_numeric
from metakit.data.table import ClassTable
from metakit.episodes.few_shot import complete
from metakit.inputs import native
from metakit.types import Episode, EpisodeSource, Key

BUDGET_BYTES = 2 << 30
_X, _CLASSES = 'x.npy', 'classes.json'


def place(source: EpisodeSource, budget_bytes: float = BUDGET_BYTES) -> EpisodeSource:
  """Puts the data of a source into device memory if it fits a budget.

  Args:
    source: any source.
    budget_bytes: the device memory that data may take, in bytes.

  Returns:
    The source with its data as a jax array, or unchanged if it is larger than the budget (see
    `on_host`), already on a device, or None.

  Raises:
    ValueError: if the data are integers, or float64, beyond what 32 bits hold.
  """
  if source.data is None or isinstance(source.data, jax.Array):
    return source
  if source.data.nbytes > budget_bytes:
    return source
  return source._replace(data=jnp.asarray(_for_device(source.data)))


def on_host(source: EpisodeSource) -> bool:
  """Tells whether the rows of a source are to be read by the host, with `read_ahead`."""
  return source.data is not None and not isinstance(source.data, jax.Array)


def read_ahead(
  plan_batch: Callable[[int], Episode], data: np.ndarray, steps: Iterable[int], depth: int = 2
) -> Generator[Episode, None, None]:
  """Yields the episodes of a plan, their rows read by one background thread ahead of their use.

  Plans are called in the caller's thread (a jitted plan returns at once) and waited for in the
  background thread. An error while reading is raised here when its episode is due. Closing the
  generator cancels what has not begun and returns when the thread has ended.

  Args:
    plan_batch: step -> Episode whose x are row numbers of `data` with any leading axes, such as
      [steps, tasks, examples].
    data: [rows, ...] NumPy array or memory map.
    steps: what plan_batch is called with, in order.
    depth: how many episodes are planned and read ahead of the one in use.

  Yields:
    For each step the Episode with data[rows] (NumPy) in place of the row numbers.

  Raises:
    ValueError: if depth is not positive.
  """
  if depth < 1:
    raise ValueError(f'depth={depth} is not positive; use depth>=1')
  return _read_ahead(plan_batch, data, steps, depth)


def _read_ahead(
  plan_batch: Callable[[int], Episode], data: np.ndarray, steps: Iterable[int], depth: int
) -> Generator[Episode, None, None]:
  pending: collections.deque[Future[Episode]] = collections.deque()
  reader = ThreadPoolExecutor(1, thread_name_prefix='read_ahead')
  try:
    for step in steps:
      pending.append(reader.submit(read_rows, plan_batch(step), data))
      if len(pending) > depth:
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()
  finally:
    reader.shutdown(wait=True, cancel_futures=True)


def sample_episode(source: EpisodeSource, key: Key) -> Episode:
  """Returns the episode of a key, its rows read where they are; not for use under jit."""
  planned = source.plan(key)
  if on_host(source):
    return complete(source, read_rows(planned, source.data), None)
  return complete(source, planned, source.data)


def read_rows(episode: Episode, data: np.ndarray) -> Episode:
  """Replaces the row numbers in an episode by those rows of `data`, as NumPy arrays in memory.

  Raises:
    ValueError: if the rows hold integers, or float64, beyond what 32 bits hold.
  """

  def rows(examples):
    return examples._replace(x=_for_device(np.asarray(data[np.asarray(examples.x)])))

  return episode._replace(support=rows(episode.support), query=rows(episode.query))


def _for_device(rows: np.ndarray) -> np.ndarray:
  """Returns rows as JAX takes them, which asks for native bytes, and would wrap wide integers."""
  check_width(rows)
  return native(rows)


def save_table(table: ClassTable, folder: PathLike) -> None:
  """Writes a table to a new folder, from which `open_table` reads it without loading x.

  The folder appears only when it is complete.

  Args:
    table: any table; x may be memory-mapped and larger than memory.
    folder: a folder that does not exist or is empty.

  Raises:
    FileExistsError: if the folder holds something.
  """
  target = Path(folder).expanduser().absolute()
  if target.exists() and (not target.is_dir() or any(target.iterdir())):
    raise FileExistsError(f'{target} exists; give a folder that does not, or delete it')
  target.parent.mkdir(parents=True, exist_ok=True)
  unfinished = target.parent / f'.{target.name}.{uuid.uuid4().hex}'
  unfinished.mkdir()
  try:
    x = np.asarray(table.x)
    np.save(unfinished / _X, x, allow_pickle=False)
    classes = {
      key: np.asarray(value).tolist() for key, value in table._asdict().items() if key != 'x'
    }
    if x.dtype.kind == 'V':  # bfloat16 and its like: .npy files keep their bytes, not their names
      classes['dtype'] = x.dtype.name
    (unfinished / _CLASSES).write_text(json.dumps(classes))
    os.replace(unfinished, target)
  except BaseException:
    shutil.rmtree(unfinished, ignore_errors=True)
    raise


def open_table(folder: PathLike) -> ClassTable:
  """Opens a table of `save_table`; x is memory-mapped and read only where it is used.

  Args:
    folder: the folder.

  Raises:
    FileNotFoundError: if there is no table in the folder.
    ValueError: if a file is damaged or the two files do not belong together.
  """
  path = Path(folder).expanduser()
  for file in (_X, _CLASSES):
    if not (path / file).is_file():
      raise FileNotFoundError(f'no {file} in {path}; write the table with save_table')
  classes, dtype = _open_classes(path / _CLASSES)
  table = ClassTable(x=_open_array(path / _X, dtype), **classes)
  counted = int(table.counts.sum())
  if counted != len(table.x):
    raise damaged(path, f'{_CLASSES} counts {counted} rows, {_X} has {len(table.x)}')
  return table


def _open_array(path: Path, dtype: str | None) -> np.ndarray:
  try:
    x = np.load(path, mmap_mode='r', allow_pickle=False)
  except (ValueError, EOFError, OSError) as error:
    reason = f'no .npy file, or truncated ({path.stat().st_size} bytes)'
    raise damaged(path, reason) from error
  try:
    x = x if dtype is None else x.view(np.dtype(dtype))
  except (TypeError, ValueError) as error:
    raise damaged(path, f'{x.dtype} where {dtype} was written') from error
  if x.ndim == 0 or not is_numeric(x):
    raise ValueError(f'{path}: {x.dtype} of shape {x.shape}, no rows of numbers; save it again')
  return x


def _open_classes(path: Path) -> tuple[dict[str, Any], str | None]:
  """Returns what a table holds beside x, and the type of x where its file does not say it."""
  try:
    values = json.loads(path.read_text())
    arrays = {key: np.asarray(values[key], np.int64) for key in ('starts', 'counts', 'groups')}
    names = {key: tuple(values[key]) for key in ('names', 'group_names')}
  except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
    raise damaged(path, f'no table of classes ({error})') from error
  counts, groups = arrays['counts'], arrays['groups']
  agree = counts.shape == groups.shape == (len(names['names']),) and counts.min(initial=0) >= 0
  agree = agree and np.array_equal(arrays['starts'], np.cumsum(counts) - counts)
  if not agree or not np.isin(groups, np.arange(len(names['group_names']))).all():
    raise damaged(path, 'its starts, counts, names and groups do not agree')
  return arrays | names, values.get('dtype')
