"""Task: a distribution of tasks with all that training, tests and reports need to know of it."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from metakit.data.table import ClassTable
from metakit.evaluation import Judge
from metakit.fingerprint import fingerprint
from metakit.sources import EpisodeSource
from metakit.types import MetaLearner, Objective


class Task(NamedTuple):
  """A task distribution.

  Attributes:
    source: (split, shots=None) -> EpisodeSource for 'train', 'validation' or 'test', with another
      number of support examples a class if `shots` is given.
    objective: what predictions are judged by.
    num_outputs: ways, or size of the regression targets.
    metric: the headline metric, a key of the objective's metrics.
    fixed_shots: whether every episode has the same number of support examples a class.
    exchangeable: True if the order of the support says nothing. Otherwise the support is sorted by
      class, and a network that reads one example after the other would learn the order.
    reference: the best possible learner on these episodes (a Bayes predictor), to be shown beside
      any learner. None if it is not known, or if its pool or list is too large to sum over.
    reference_objective: what the outputs of the reference are judged by; None for `objective`.
    posterior: the exact posterior of the targets as densities, (learner, its objective); None if it
      is not known. It is the reference where a learner predicts densities.
    reference_episodes: the most test episodes of the reference, if it takes long.
    judges: further metrics, each with its judge.
    chance: the accuracy without learning, if training episodes are easier than those of validation
      and test. Then only validation shows when a model learns. Otherwise None.
    table: split -> the classes that episodes are of, as numbered by info['classes'] (or the tasks
      of a regression, as numbered by info['task']); None if they are of none.
    parted: () -> what says which classes are for training and tests: 'official', 'given' (the data,
      or files), or a draw of 'groups' or 'classes'.
    said: () -> what was understood of the data, in one line; '' if there is no doubt. It may load
      the data.
    levels: further parts for tests, from the nearest to what was trained on: those of
      metakit.data.levels, if the classes are parted so; otherwise none.
    tested: the part that stands for 'test' (see `with_tested`).
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
  parted: Callable[[], str] = lambda: 'official'
  said: Callable[[], str] = lambda: ''
  tested: str = 'test'
  reference_objective: Objective | None = None
  posterior: tuple[MetaLearner, Objective] | None = None
  levels: tuple[str, ...] = ()


def with_tested(task: Task, part: str) -> Task:
  """Returns the task whose test episodes are of the classes of another part, or of 'all'.

  Raises:
    ValueError: if the task has no classes to take all of.
  """
  if part == 'all' and task.table is None:
    raise ValueError(
      'part=all is for tasks with classes of their own; use train, validation or test'
    )
  chosen = lambda split: part if split == 'test' else split
  table = task.table

  def said() -> str:
    line = task.said()
    return line and f'{line}; tests are on {part}'

  if part == 'test':
    return task
  return task._replace(
    source=lambda split, shots=None: task.source(chosen(split), shots),
    table=None if table is None else lambda split: table(chosen(split)),
    said=said,
    tested=part,
  )


def understood(*tasks: Task) -> list[str]:
  """Returns the lines that say how the data of some tasks was understood, each line once."""
  return list(dict.fromkeys(filter(None, (task.said() for task in tasks))))


def sources_by_shots(task: Task, shots: Iterable[int]) -> dict[int, EpisodeSource]:
  """Returns the test source for each number of shots that the classes are large enough for."""
  sources = {}
  for number in shots if task.fixed_shots else ():
    with contextlib.suppress(ValueError):
      sources[number] = task.source('test', number)
  return sources


def fingerprint_of(task: Task, split: str) -> str | None:
  """Returns the checksum of the data of a split; None if its episodes are made without data."""
  return fingerprint(task.source(split), task.table(split) if task.table else None)


def training_classes(task: Task) -> Callable[[], int] | None:
  """Returns () -> the number of training classes, which loads them; None if there are none."""
  table = task.table
  if table is None or not task.objective.classifies:
    return None
  return lambda: len(table('train').counts)
