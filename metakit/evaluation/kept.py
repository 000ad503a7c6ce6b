"""Compiled functions that are kept, so that a second call with the same parts compiles nothing."""

import functools
from collections.abc import Callable
from typing import Any

MOST = 32  # more than the heads that a comparison tests in turn


def keep_programs_of(make: Callable[..., Any]) -> Callable[..., Any]:
  """Returns `make` with its 32 latest results kept, each by the arguments that it was made of.

  Args:
    make: returns one or more compiled functions. If an argument cannot be hashed, the result is
      made anew.
  """
  kept = functools.lru_cache(maxsize=MOST)(make)

  def get(*parts: Any) -> Any:
    try:
      hash(parts)
    except TypeError:
      return make(*parts)
    return kept(*parts)

  return get
