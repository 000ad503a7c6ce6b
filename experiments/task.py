"""What the binaries know of a task distribution."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from metakit.data.fingerprint import fingerprint
from metakit.data.table import ClassTable
from metakit.evaluate import Judge
from metakit.types import EpisodeSource, MetaLearner, Objective


class Task(NamedTuple):
  """A task distribution as the binaries use it.

  Attributes:
    source: (split, shots=None) -> EpisodeSource for 'train', 'validation' or 'test', with another
      number of support examples a class if `shots` is given.
    objective: what predictions are judged by.
    num_outputs: ways, or size of the regression targets.
    metric: the headline metric, a key of the objective's metrics.
    fixed_shots: whether every episode has the same number of support examples a class.
    exchangeable: whether the order of the support says nothing; otherwise it is sorted by class,
      and a network that reads one example after the other would learn the order.
    reference: the best there can be on these episodes (a Bayes predictor), to be shown beside any
      learner; None if it is not known (or no pool or list small enough to sum over).
    reference_episodes: with how many test episodes at most, where it takes long.
    judges: further metrics, each with the judge that gives it.
    chance: the accuracy without learning, where training episodes are easier than those of
      validation and test, which alone tell then when a model learns; otherwise None.
    table: split -> the classes that episodes are of, as numbered by info['classes']; None if they
      are of none.
  """

  source: Callable[..., EpisodeSource]
  objective: Objective
  num_outputs: int
  metric: str
  fixed_shots: bool
  exchangeable: bool
  reference: MetaLearner | None = None
  reference_episodes: int | None = None
  judges: Mapping[str, Judge] = MappingProxyType({})
  chance: float | None = None
  table: Callable[[str], ClassTable] | None = None


def sources_by_shots(task: Task, shots: Iterable[int]) -> dict[int, EpisodeSource]:
  """Returns the test source for each number of shots that the classes are large enough for."""
  sources = {}
  for number in shots if task.fixed_shots else ():
    with contextlib.suppress(ValueError):
      sources[number] = task.source('test', number)
  return sources


def fingerprint_of(task: Task, split: str) -> str | None:
  """Returns the checksum of the data of a split; None if its episodes are made of none."""
  return fingerprint(task.source(split), task.table(split) if task.table else None)


def training_classes(task: Task) -> Callable[[], int] | None:
  """Returns () -> the number of training classes, which loads them; None if there are none."""
  table = task.table
  return None if table is None else lambda: len(table('train').counts)
