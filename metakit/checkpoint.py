"""Checkpoints of a run: Orbax, written by a thread, verified when they are read.

Orbax stores no checksum of the values: a flipped byte comes back silently. So a file beside each
step lists the sha256 of its arrays and of its files. It is written last, and makes the step count;
one that does not match it, or cannot be read, is passed over. In a run of several processes the
first one alone reads and writes.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from metakit.distributed import barrier, from_first, is_first

DAMAGED = 'damaged'  # the folder beside the checkpoints that holds what could not be read
READING_SECONDS = 3600.0  # that others wait for the first process to read a checkpoint
ARRAYS, FILES, SCORE, SUM = 'arrays', 'files', 'score', 'sha256'


class Damage(Exception):
  """A step cannot be read, or holds other values than were saved; the message says what."""


class Checkpoints(NamedTuple):
  """The checkpoints of one folder.

  Attributes:
    restore: (state, best=False) -> (step, state) of the newest step that is whole, or of the one
      with the highest score; None if there is none. The arrays are NumPy's, of the structure,
      shapes and types of the given state (jax.ShapeDtypeStruct will do).
    save: (step, state, score=None) -> None; returns before the files are written, but after those
      of the save before. The state is the same in every process.
    wait: () -> None; returns after.
  """

  restore: Callable[..., tuple[int, Any] | None]
  save: Callable[..., None]
  wait: Callable[[], None]


@contextlib.contextmanager
def checkpoints(directory: Any, keep: int = 2, set_aside: bool = True) -> Iterator[Checkpoints]:
  """Opens a folder of checkpoints; leaving the context waits for the last save.

  A save that was cut short (kill -9, a full disk) leaves the previous step the newest. A damaged
  step is warned of by name and moved to a folder beside.

  Args:
    directory: created if it does not exist.
    keep: how many of the newest steps to keep, besides the one with the highest score.
    set_aside: whether to move damaged steps, or only to pass over them.

  Raises:
    ValueError: from `restore`, if a checkpoint holds other arrays than the given state, naming the
      first.
    OSError: from `save`, `wait` or at the end, if the files cannot be written.
  """
  folder = Path(directory).absolute()  # a relative one fails in Orbax's own threads
  if is_first():
    folder.mkdir(parents=True, exist_ok=True)
  running: list[Future[None]] = []

  def restore(state: Any, best: bool = False) -> tuple[int, Any] | None:
    wait()
    found = _newest_whole(folder, state, best, set_aside) if is_first() else None
    barrier('checkpoint read', READING_SECONDS)
    return from_first(found, (0, state))

  def save(step: int, state: Any, score: float | None = None) -> None:
    wait()
    if is_first():
      running.append(writer.submit(_save, folder, keep, step, jax.device_get(state), score))

  def wait() -> None:
    while running:
      with _full_disk(folder):
        running.pop().result()

  with ThreadPoolExecutor(1, thread_name_prefix='checkpoints') as writer:
    yield Checkpoints(restore, save, wait)
    wait()


def _orbax() -> ocp.Checkpointer:
  """Returns what reads and writes in this process alone, whatever others there are."""
  own = jax.process_index()
  alone = ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})
  handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
  return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _save(folder: Path, keep: int, step: int, state: Any, score: float | None) -> None:
  arrays = describe(state)
  _beside(folder, step).unlink(missing_ok=True)  # until it is there again, the step does not count
  with _orbax() as orbax:
    orbax.save(folder / str(step), args=ocp.args.StandardSave(state), force=True)
  listed = {ARRAYS: arrays, FILES: _files(folder / str(step)), SCORE: score}
  _write(_beside(folder, step), json.dumps(listed | {SUM: _sum_of(listed)}))
  for old in set(_steps(folder)) - _kept(folder, keep):
    _beside(folder, old).unlink()
    shutil.rmtree(folder / str(old))
  _remove_unfinished(folder)


def _write(path: Path, text: str) -> None:
  """Writes a file that appears whole and lasts."""
  temporary = path.with_suffix('.tmp')
  with open(temporary, 'w', encoding='utf-8') as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, path)


def _beside(folder: Path, step: int | str) -> Path:
  """Returns the file that lists the sums of a step."""
  return folder / f'{step}.json'


def _steps(folder: Path) -> list[int]:
  """Returns the steps that were saved to the end, newest first."""
  return sorted((int(p.stem) for p in folder.glob('*.json') if p.stem.isdigit()), reverse=True)


def _kept(folder: Path, keep: int) -> set[int]:
  """Returns the newest steps, and the one with the highest score."""
  steps = _steps(folder)
  scores = {step: score for step in steps if (score := _score(folder, step)) is not None}
  return {*steps[:keep], *sorted(scores, key=lambda step: (scores[step], step))[-1:]}


def _score(folder: Path, step: int) -> float | None:
  with contextlib.suppress(Damage):
    score = _listed(folder, step)[SCORE]
    return score if score is not None and math.isfinite(score) else None
  return None


def _remove_unfinished(folder: Path) -> None:
  """Removes what saves that were cut short have left."""
  for path in folder.iterdir():
    if path.is_dir() and not _beside(folder, path.name).exists():
      shutil.rmtree(path)


def _newest_whole(folder: Path, state: Any, best: bool, set_aside: bool) -> tuple[int, Any] | None:
  order = _in_order(folder, best)
  for path in folder.iterdir():
    if path.name.isdigit() and int(path.name) not in order:
      warnings.warn(f'checkpoint {path} was not saved to the end; it is not used', stacklevel=2)
  for step in order:
    try:
      return step, _read(folder, step, state)
    except Damage as damage:
      said = f'checkpoint {folder / str(step)} is damaged: {damage}'
      if set_aside:
        said += f'; it is moved to {_move_aside(folder, step)}'
      warnings.warn(f'{said}; the one before it is used', stacklevel=2)
  return None


def _in_order(folder: Path, best: bool) -> list[int]:
  """Returns the steps, newest first; if `best`, those with the highest score before others."""
  steps = _steps(folder)
  if not best:
    return steps
  scores = {step: _score(folder, step) for step in steps}
  lowest = lambda score: -math.inf if score is None else score
  return sorted(steps, key=lambda step: lowest(scores[step]), reverse=True)


def _read(folder: Path, step: int, state: Any) -> Any:
  """Returns a step's state as NumPy arrays.

  Raises:
    Damage: if it is not what was saved.
    ValueError: if what was saved is of another configuration.
  """
  listed = _listed(folder, step)
  _check_same_arrays(step, listed[ARRAYS], state)
  _check_same_files(listed[FILES], _files(folder / str(step)))
  target = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)
  with _damage(), _orbax() as orbax:
    read = orbax.restore(folder / str(step), args=ocp.args.StandardRestore(target))
    read = jax.tree.map(np.asarray, read)
  for name, what in describe(read).items():
    if what != listed[ARRAYS][name]:
      raise Damage(f'{name} holds other values than were saved')
  return read


def _listed(folder: Path, step: int) -> dict[str, Any]:
  """Returns what was written beside a step."""
  path = _beside(folder, step)
  with _damage():
    listed = json.loads(path.read_text(encoding='utf-8'))
    told = listed.pop(SUM)
  if told != _sum_of(listed):
    raise Damage(f'{path.name} is altered')
  return listed


def _files(folder: Path) -> dict[str, str]:
  """Returns the sha256 of each file below a folder."""
  with _damage():
    paths = sorted(path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): _sum_of_file(path) for path in paths}


def _sum_of_file(path: Path) -> str:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _check_same_files(saved: Mapping[str, str], there: Mapping[str, str]) -> None:
  for name in sorted(set(saved) | set(there)):
    if name not in there:
      raise Damage(f'its file {name} is missing')
    if saved.get(name) != there[name]:
      raise Damage(f'its file {name} is altered')


@contextlib.contextmanager
def _damage() -> Iterator[None]:
  """A truncated, missing or altered file raises one of many kinds of errors."""
  try:
    yield
  except Exception as error:
    raise Damage(' '.join(f'{type(error).__name__}: {error}'.split())[:300]) from error


def _move_aside(folder: Path, step: int) -> Path:
  """Moves a step out of the way, keeping it; returns where to."""
  aside = folder.parent / DAMAGED
  number = len(list(aside.glob(f'{step}*')))
  target = aside / (f'{step}_{number}' if number else str(step))
  target.mkdir(parents=True)
  for path in (_beside(folder, step), folder / str(step)):  # the first no longer counts the step
    if path.exists():
      path.rename(target / path.name)
  return target


@contextlib.contextmanager
def _full_disk(folder: Path) -> Iterator[None]:
  """Orbax raises a full disk as a ValueError of many lines."""
  try:
    yield
  except Exception as error:
    if 'No space left on device' not in str(error):
      raise
    raise OSError(
      errno.ENOSPC, f'no space left for a checkpoint in {folder}; free some and start again'
    ) from error


def describe(state: Any) -> dict[str, str]:
  """Returns type, shape and sha256 of every array of a state, by name.

  Args:
    state: a pytree of NumPy arrays; of jax.ShapeDtypeStruct too, which have no sha256.

  >>> describe({'bias': np.zeros(2, np.float32)})['bias'][:20]
  'float32(2,) af5570f5'
  """
  # Paths of plain names: what was saved as a tuple comes back as a list, a NamedTuple as a dict.
  name_of = lambda path: jax.tree_util.keystr(path, simple=True, separator='/')
  leaves = jax.tree_util.tree_leaves_with_path(state)
  return {name_of(path): _describe(leaf) for path, leaf in leaves}


def _describe(leaf: Any) -> str:
  kind = f'{np.dtype(leaf.dtype)}{tuple(leaf.shape)}'
  if isinstance(leaf, jax.ShapeDtypeStruct):
    return kind
  content = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
  return f'{kind} {hashlib.sha256(content.data).hexdigest()}'


def _sum_of(listed: Mapping[str, Any]) -> str:
  return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()


def _check_same_arrays(step: int, saved: Mapping[str, str], state: Any) -> None:
  """Orbax casts a different dtype silently and names no leaf; this names it."""
  shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
  here = describe(shapes)
  there = {name: what.rpartition(' ')[0] for name, what in saved.items()}
  for name in sorted(set(here) | set(there)):
    if here.get(name) != there.get(name):
      raise ValueError(
        f'checkpoint step {step} has {there.get(name)} at {name}, this run {here.get(name)}; '
        'it was made by another configuration'
      )
