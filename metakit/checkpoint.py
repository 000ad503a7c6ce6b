"""Checkpoints of a run: Orbax, asynchronous, the newest complete one restored."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp


class Checkpoints(NamedTuple):
  """The checkpoints of one folder.

  Attributes:
    latest_step: () -> the newest complete step, or None.
    restore: (state) -> the newest state, of the structure, shapes and types of the given one, on
      its devices (the first local one for jax.ShapeDtypeStruct), whichever devices saved it; the
      arrays are committed to them.
    save: (step, state) -> None; returns before the files are written.
    wait: () -> None; returns after.
  """

  latest_step: Callable[[], int | None]
  restore: Callable[[Any], Any]
  save: Callable[[int, Any], None]
  wait: Callable[[], None]


@contextlib.contextmanager
def checkpoints(directory: Any, keep: int = 2) -> Iterator[Checkpoints]:
  """Opens a folder of checkpoints; leaving the context waits for the last save.

  A save that was cut short (kill -9, a full disk) leaves the previous step the newest.

  Args:
    directory: created if it does not exist.
    keep: how many of the newest steps to keep.

  Raises:
    ValueError: from `restore`, if the checkpoint holds other arrays than the given state, naming
      the first, or is damaged, naming its folder.
    OSError: from `save`, `wait` or at the end, if the disk is full; asynchronous saves fail late.
  """
  options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
  # Absolute: a relative folder fails in Orbax's background thread.
  folder, handler = Path(directory).absolute(), ocp.StandardCheckpointHandler()
  with (
    _full_disk(folder),
    ocp.CheckpointManager(folder, options=options, item_handlers=handler) as manager,
  ):

    def restore(state: Any) -> Any:
      step = manager.latest_step()
      with _damaged(folder / str(step)):
        saved = manager.item_metadata(step)
      _check_same_arrays(step, saved, state)
      with _damaged(folder / str(step)):
        return manager.restore(step, args=ocp.args.StandardRestore(jax.tree.map(_placed, state)))

    def save(step: int, state: Any) -> None:
      manager.save(step, args=ocp.args.StandardSave(state))

    yield Checkpoints(manager.latest_step, restore, save, manager.wait_until_finished)


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


@contextlib.contextmanager
def _damaged(folder: Path) -> Iterator[None]:
  """Orbax raises a truncated or missing file as one of many kinds of errors."""
  try:
    yield
  except Exception as error:
    reason = f'{type(error).__name__}: {error}'.partition('\n')[0]
    raise ValueError(
      f'the checkpoint {folder} cannot be read ({reason[:200]}); move it away to continue from the '
      'one before it'
    ) from error


def _placed(leaf: Any) -> Any:
  """Says where a leaf that is known by its shape alone shall be: Orbax would ask for the devices
  that saved it."""
  if getattr(leaf, 'sharding', None) is not None or not isinstance(leaf, jax.ShapeDtypeStruct):
    return leaf
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here)


def _check_same_arrays(step: int, saved: Any, state: Any) -> None:
  """Orbax casts a different dtype silently and names no leaf; this names it."""
  # Paths of plain names: what was saved as a tuple comes back as a list, a NamedTuple as a dict.
  name_of = lambda path: jax.tree_util.keystr(path, simple=True, separator='/')
  describe = lambda tree: {
    name_of(path): (tuple(leaf.shape), np.dtype(leaf.dtype))
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
  here, there = describe(state), describe(saved)
  for name in sorted(set(here) | set(there)):
    if here.get(name) != there.get(name):
      raise ValueError(
        f'checkpoint step {step} has {there.get(name)} at {name}, this run {here.get(name)}; '
        'it was made by another configuration'
      )
