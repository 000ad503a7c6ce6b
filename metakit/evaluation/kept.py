"""Compiled functions that are kept, so that a second call with the same parts compiles nothing."""

import functools
from collections.abc import Callable
from typing import Any


def keep_programs_of(make: Callable[..., Any]) -> Callable[..., Any]:
  """Returns `make` with its eight latest results kept, each by the arguments that it was made of.

  Args:
    make: returns one or more compiled functions. If an argument cannot be hashed, the result is
      made anew.
  """
  kept = functools.lru_cache(maxsize=8)(make)

  def get(*parts: Any) -> Any:
    try:
      hash(parts)
    except TypeError:
      return make(*parts)
    return kept(*parts)

  return get
