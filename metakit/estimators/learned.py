"""The trained learner of an estimator, loaded once."""

import functools
from pathlib import Path
from typing import Any

from metakit.components.head_learners import HEADS
from metakit.trained.stored import NAME, load
from metakit.trained.trained import Trained

LOADED = 8  # learners that are kept with their compiled programs


def learned(learner: Any, *, heads: bool = False) -> Trained:
  """Returns the learner that the argument of an estimator means.

  Args:
    learner: a metakit.Trained, or a place or name that metakit.load knows.
    heads: whether the estimator takes heads too, for messages.

  Raises:
    ValueError: if it is nothing of these.
  """
  if isinstance(learner, Trained):
    return learner
  if not isinstance(learner, str | Path):
    others = f'a head ({", ".join(HEADS)}), ' if heads else ''
    raise ValueError(
      f'learner is {type(learner).__name__}; give {others}a path, a name of the zoo, or a '
      'metakit.Trained'
    )
  path = Path(learner).expanduser()
  changes = [each.stat().st_mtime_ns for each in (path, path / NAME) if each.exists()]
  try:
    return _loaded(str(learner), max(changes, default=0))
  except ValueError as error:
    if path.exists():
      raise
    known = f'; known heads: {", ".join(HEADS)}' if heads else ''
    raise ValueError(f'learner={str(learner)!r}: {error}{known}') from None


@functools.lru_cache(maxsize=LOADED)
def _loaded(where: str, changed: int) -> Trained:
  """Loads a learner once; every fit takes the programs that were compiled before."""
  del changed  # part of what is remembered: a file that was written anew is read again
  return load(where)
