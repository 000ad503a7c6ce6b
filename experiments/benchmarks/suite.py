"""What a suite of benchmarks is: cases, and what was aimed at."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.benchmarks import figure
from experiments.benchmarks.timing import Case

FASTER, LONGER = 'times as fast as', 'times as long as'
LARGER = 'times the memory of'
AT_LEAST, AT_MOST = 'at least', 'at most'


class Aim(NamedTuple):
  """A bound of something that a suite measures, on two CPU cores.

  Attributes:
    case: a case of the suite.
    what: a field of its row, or FASTER, LONGER, LARGER for a ratio.
    other: the case that a ratio is with, or ''.
    bound: AT_LEAST or AT_MOST.
    limit: the number that the bound is.
  """

  case: str
  what: str
  other: str
  bound: str
  limit: float


class Suite(NamedTuple):
  """Cases that are timed together.

  Attributes:
    cases: returns the cases. Its arguments get the flags of experiments.benchmark of these names.
    aims: what was aimed at.
    draw: (rows, path, title) writes the figure.
  """

  cases: Callable[..., list[Case]]
  aims: tuple[Aim, ...] = ()
  draw: Callable[[Sequence[Mapping[str, Any]], Path, str], None] = figure.draw
