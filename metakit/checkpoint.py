"""Checkpoints of a run. Orbax writes them in a thread, and they are verified when they are read.

Orbax stores no checksum of the values, so a flipped byte would come back silently. Therefore each
step has a file beside it, its list. The list holds the sha256 of the arrays and of the files, the
number of the step, and its score. It is written last, and without it a step does not count. A step
that does not match its list, or cannot be read, is passed over. The checksums find accidents, by a
disk or by hand. They are no signature: somebody who changes a step on purpose can change its list.

Only what was written here is deleted: steps whose list can be read, and steps that are marked as
being written or removed (by a file STEP.partial). Anything else in the folder stays. If it is in
the way of a step, it is set aside. Of several processes, only the first one reads and writes.
"""

import contextlib
import errno
import hashlib
import itertools
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from metakit.distributed import barrier, from_first, is_first

DAMAGED = 'damaged'  # the folder beside the checkpoints that holds what could not be read
READING_SECONDS = 3600.0  # how long other processes wait for the first one to read a checkpoint
ARRAYS, FILES, STEP, SCORE, SUM = 'arrays', 'files', 'step', 'score', 'sha256'
PARTIAL = '.partial'  # the mark of a step that is being written or removed
ORBAX_PARTIAL = '.orbax-checkpoint-tmp*'  # what Orbax writes before it gives a step its name


class Damage(Exception):
  """A step cannot be read, or holds other values than were saved; the message says which."""


class Checkpoints(NamedTuple):
  """The checkpoints of one folder.

  Attributes:
    restore: (state, best=False, step=None) -> (step, state). It reads the newest step that is
      whole, or step number `step` alone. With `best` it reads the one with the highest score, of
      those whose score can be read. It returns None if there is none. The arrays are those of
      NumPy. They have the structure, shapes and types of the given state, whose leaves may be
      jax.ShapeDtypeStruct. For None as state they are as they were stored, in dicts and lists.
    save: (step, state, score=None) -> None. It returns before the files are written, but waits for
      the files of the save before. The state must be the same in every process.
    wait: () -> None; it waits until all files are written.
  """

  restore: Callable[..., tuple[int, Any] | None]
  save: Callable[..., None]
  wait: Callable[[], None]


@contextlib.contextmanager
def checkpoints(directory: Any, keep: int = 2, set_aside: bool = True) -> Iterator[Checkpoints]:
  """Opens a folder of checkpoints; leaving the context waits for the last save.

  After a save that was cut short (kill -9, a full disk), the step before it is the newest. If a
  step is damaged or has no list, a warning names it, and it is moved to a folder beside.

  Args:
    directory: created if it does not exist.
    keep: how many of the newest steps to keep, besides the one with the highest score.
    set_aside: True moves damaged steps away; False only passes over them.

  Raises:
    ValueError: from `restore`, if a checkpoint holds other arrays than the given state; it names
      the first one.
    OSError: from `save`, `wait` or at the end, if the files cannot be written.
  """
  folder = Path(directory).absolute()  # a relative one fails in Orbax's own threads
  if is_first():
    folder.mkdir(parents=True, exist_ok=True)
  running: list[Future[None]] = []

  def restore(state: Any, best: bool = False, step: int | None = None) -> tuple[int, Any] | None:
    wait()
    read = None
    if is_first():
      read = _newest_whole(folder, state, set_aside, order=_order(folder, best, step))
    barrier('checkpoint read', READING_SECONDS)
    return from_first(read, (0, state))

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
  """Returns an Orbax checkpointer that works in this process alone, however many there are."""
  rank = jax.process_index()
  alone = ocp.options.MultiprocessingOptions(primary_host=rank, active_processes={rank})
  handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
  return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _save(folder: Path, keep: int, step: int, state: Any, score: float | None) -> None:
  _remove_partial(folder)
  for path in _unlisted(folder, step):
    warnings.warn(f'{path} is in the way of step {step}; {_move_aside(folder, path)}', stacklevel=2)
  arrays = describe(state)
  with _marked(folder, step):
    _beside(folder, step).unlink(missing_ok=True)  # without its list the step does not count
    with _orbax() as orbax:
      orbax.save(folder / str(step), args=ocp.args.StandardSave(state), force=True)
    listed = {ARRAYS: arrays, FILES: _files(folder / str(step)), STEP: step, SCORE: score}
    _write(_beside(folder, step), json.dumps(listed | {SUM: _sum_of(listed)}))
  for old in _superseded(folder, keep):
    with _marked(folder, old):
      _beside(folder, old).unlink()
      with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder / str(old))


@contextlib.contextmanager
def _marked(folder: Path, step: int) -> Iterator[None]:
  """Marks a step as partial within the block. The mark stays if the block ends early."""
  mark = folder / f'{step}{PARTIAL}'
  mark.touch()
  yield
  mark.unlink()


def _remove_partial(folder: Path) -> None:
  """Removes what is left of saves and removals that were cut short; their marks show them."""
  for mark in folder.glob(f'*{PARTIAL}'):
    if not _is_step(mark.stem):
      continue
    if not _beside(folder, mark.stem).exists():
      for path in _all_of(folder, mark.stem):
        shutil.rmtree(path)
      _temporary(_beside(folder, mark.stem)).unlink(missing_ok=True)
    mark.unlink()


def _all_of(folder: Path, step: int | str) -> list[Path]:
  """Returns the folders of a step: the whole one, and those that Orbax was writing."""
  paths = folder / str(step), *folder.glob(f'{step}{ORBAX_PARTIAL}')
  return [path for path in paths if path.is_dir()]


def _unlisted(folder: Path, step: int | str) -> list[Path]:
  """Returns the folders of a step that has no list: no save here has made or finished them."""
  return [] if _beside(folder, step).exists() else _all_of(folder, step)


def _write(path: Path, text: str) -> None:
  """Writes a whole file at once, which also survives a power cut."""
  temporary = _temporary(path)
  with open(temporary, 'w', encoding='utf-8') as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, path)


def _temporary(path: Path) -> Path:
  return path.with_suffix('.tmp')


def _beside(folder: Path, step: int | str) -> Path:
  """Returns the path of the list of a step."""
  return folder / f'{step}.json'


def _steps(folder: Path) -> list[int]:
  """Returns the steps that were saved to the end, newest first."""
  return sorted((int(p.stem) for p in folder.glob('*.json') if _is_step(p.stem)), reverse=True)


def _is_step(name: str) -> bool:
  return name.isdecimal() and str(int(name)) == name


def _superseded(folder: Path, keep: int) -> list[int]:
  """Returns the steps that are neither among the newest nor have the highest score.

  Steps whose list cannot be read are left out, since each may be the best.
  """
  lists = _lists(folder)
  whole = [step for step, listed in lists.items() if not isinstance(listed, Damage)]
  best = _by_score(lists)[:1]
  return [step for step in whole[keep:] if step not in best]


def _lists(folder: Path) -> dict[int, dict[str, Any] | Damage]:
  """Returns the list of each step, or why it cannot be read, the newest step first."""
  lists: dict[int, dict[str, Any] | Damage] = {}
  for step in _steps(folder):
    try:
      lists[step] = _listed(folder, step)
    except Damage as damage:
      lists[step] = damage
  return lists


def _by_score(lists: Mapping[int, dict[str, Any] | Damage]) -> list[int]:
  """Returns the steps with a finite score, the highest first; of equal ones the later first."""
  listed = {step: each for step, each in lists.items() if not isinstance(each, Damage)}
  scores = {step: each[SCORE] for step, each in listed.items() if each[SCORE] is not None}
  finite = [step for step, score in scores.items() if math.isfinite(score)]
  return sorted(finite, key=lambda step: (scores[step], step), reverse=True)


def _order(folder: Path, best: bool, step: int | None) -> list[int]:
  """Returns the steps to read, the next one if one cannot be read."""
  lists = _lists(folder)
  if step is not None:
    return [step] if step in lists else []
  if not best:
    return [*lists]
  # An unreadable score may be the highest, so unreadable steps are named first.
  unreadable = [step for step in lists if isinstance(lists[step], Damage)]
  return list(dict.fromkeys([*unreadable, *_by_score(lists), *lists]))


def _newest_whole(
  folder: Path, state: Any, set_aside: bool, *, order: Sequence[int]
) -> tuple[int, Any] | None:
  _look_for_unlisted(folder, set_aside)
  for number, step in enumerate(order):
    try:
      return step, _read(folder, step, state)
    except Damage as damage:
      said = f'checkpoint {folder / str(step)} is damaged: {damage}'
      if set_aside:
        said += f'; {_move_aside(folder, *_parts(folder, step))}'
      others = order[number + 1 :]
      instead = f'step {others[0]} is read instead' if others else 'no other is left'
      warnings.warn(f'{said}; {instead}', stacklevel=2)
  return None


def _look_for_unlisted(folder: Path, set_aside: bool) -> None:
  """Warns of steps that were not saved to the end, and of steps that no save here has made."""
  for path in sorted(folder.iterdir()):
    if not _is_step(path.name) or not _unlisted(folder, path.name):
      continue
    if path.with_suffix(PARTIAL).exists():
      said = 'was not saved to the end'
    else:
      said = f'has no list of sums, {path.name}.json, and was not made by this version'
      if set_aside:
        said += f'; {_move_aside(folder, path)}'
    warnings.warn(f'checkpoint {path} {said}; it is not used', stacklevel=2)


def _read(folder: Path, step: int, state: Any) -> Any:
  """Returns a step's state as NumPy arrays.

  Raises:
    Damage: if the step is not what was saved.
    ValueError: if the step was saved by another configuration.
  """
  listed = _listed(folder, step)
  if state is not None:
    _check_same_arrays(step, listed[ARRAYS], state)
  _check_same_files(listed[FILES], _files(folder / str(step)))
  with _damage(), _orbax() as orbax:
    if state is None:
      state = orbax.metadata(folder / str(step)).item_metadata.tree
    target = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)
    read = orbax.restore(folder / str(step), args=ocp.args.StandardRestore(target))
    read = jax.tree.map(np.asarray, read)
  for name, what in describe(read).items():
    if what != listed[ARRAYS][name]:
      raise Damage(f'{name} holds other values than were saved')
  return read


def _listed(folder: Path, step: int) -> dict[str, Any]:
  """Returns the list of a step."""
  path = _beside(folder, step)
  with _damage():
    listed = json.loads(path.read_text(encoding='utf-8'))
    checksum = listed.pop(SUM)
  if checksum != _sum_of(listed):
    raise Damage(f'{path.name} is altered')
  if listed.setdefault(STEP, step) != step:  # lists of earlier versions name none
    raise Damage(f'it holds step {listed[STEP]}, as {path.name} says')
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
  """Turns any error into Damage, since a broken file can raise errors of many kinds."""
  try:
    yield
  except Exception as error:
    raise Damage(' '.join(f'{type(error).__name__}: {error}'.split())[:300]) from error


def _parts(folder: Path, step: int) -> list[Path]:
  """Returns the paths of a step. Its list comes first, since without it the step does not count."""
  return [path for path in (_beside(folder, step), folder / str(step)) if path.exists()]


def _move_aside(folder: Path, *paths: Path) -> str:
  """Moves files and folders of a step out of the way; returns a text that says where they are."""
  aside, name = folder.parent / DAMAGED, paths[-1].name.partition('.')[0]
  names = itertools.chain([name], (f'{name}_{i}' for i in itertools.count(1)))
  target = next(aside / each for each in names if not (aside / each).exists())
  target.mkdir(parents=True)
  for path in paths:
    path.rename(target / path.name)
  return f'it is moved to {target}'


@contextlib.contextmanager
def _full_disk(folder: Path) -> Iterator[None]:
  """Turns the errors of a full disk, which Orbax raises in many lines, into an OSError."""
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
    state: a pytree of NumPy arrays, or of jax.ShapeDtypeStruct, which have no sha256.

  >>> describe({'bias': np.zeros(2, np.float32)})['bias'][:20]
  'float32(2,) af5570f5'
  """
  # Paths are plain names, since Orbax returns a tuple as a list, and a NamedTuple as a dict.
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
  """Raises ValueError that names the first array which differs. Orbax would cast it silently."""
  shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
  here = describe(shapes)
  there = {name: what.rpartition(' ')[0] for name, what in saved.items()}
  for name in sorted(set(here) | set(there)):
    if here.get(name) != there.get(name):
      raise ValueError(
        f'checkpoint step {step} has {there.get(name)} at {name}, this run {here.get(name)}; '
        'it was made by another configuration'
      )
