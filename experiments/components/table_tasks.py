"""Tasks that classify examples from a table of classes, one table for each part of a data set."""

import contextlib
import functools
import inspect
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from experiments.components.class_parts import ClassParts, counted, parts_of, with_levels
from metakit import episodes, objectives
from metakit.components.docstrings import document, meanings, summary
from metakit.data.files import check_choice, listed
from metakit.data.splits import leave_out_small
from metakit.data.table import ClassTable
from metakit.data.targets import standardised
from metakit.episodes.augmentation import augment
from metakit.episodes.one_domain import check_several
from metakit.episodes.turned_classes import turned_classes, turned_table
from metakit.sizes import check_positive
from metakit.sources import EpisodeSource, place
from metakit.tasks import Task

FEWEST_WAYS = 5  # variable_shot has so many at least, as in Meta-Dataset
DRAWN = 'groups', 'classes'  # what says where a class belongs if neither data nor files do
# Examples of each class without a label, with distractors and, by default, in semi_supervised.
UNLABELLED = 5
# The arguments of episodes with their usual values, as a spec may set them.
EPISODES: dict[str, Any] = {
  'ways': 5,
  'shots': 1,
  'queries': 15,
  'sampler': 'few_shot',
  'levels': 0.0,
}
SUPPLIED = 'budget', 'data_dir'
FIRST = 'path'  # an argument that stands before those of episodes


def table_task(
  parts: Callable[..., ClassParts],
  usual: Mapping[str, Any] = EPISODES,
  told_by: Sequence[Callable[..., Any]] = (),
) -> Callable[..., Task]:
  """Returns the factory of a task, whose arguments are those of episodes and of a data set.

  Args:
    parts: returns a data set by its parts. Parameters with a default are arguments of the spec. If
      it has a parameter `data_dir`, the binaries supply it.
    usual: usual values of arguments of `classification`. One that is not there is no argument of
      the spec. `skip` is among them if the data may be of any kind, and goes to `parts` too.
    told_by: functions whose docstrings say what arguments mean, where no other one does.
  """
  takes = inspect.signature(parts, eval_str=True).parameters

  def task(budget: float, **given: Any) -> Task:
    drawn = {name: given.get(name, value) for name, value in usual.items()}
    data = parts(**{name: value for name, value in given.items() if name in takes})
    data = with_levels(data, drawn.get('levels', 0.0))
    if data.outputs():
      _check_for_classes(data.name, usual, drawn)
      sizes = {name: drawn[name] for name in ('shots', 'queries')}
      return regression(data, budget=budget, skip=drawn.get('skip'), **sizes)
    drawn.pop('levels', None)
    return classification(data, budget=budget, **drawn)

  said: dict[str, str] = {}
  tellers: list[Callable[..., Any]] = [*told_by, parts_of, with_levels, classification, parts]
  for function in tellers:
    said |= meanings(function)
  said['sampler'] = f'how episodes are drawn: {", ".join(SAMPLERS)}.'
  document(task, summary(parts), said)
  task.__signature__ = inspect.Signature(_settable(takes, usual))  # type: ignore[attr-defined]
  return task


def _check_for_classes(name: str, usual: Mapping[str, Any], drawn: Mapping[str, Any]) -> None:
  for argument in ('ways', 'sampler', 'levels'):
    if drawn.get(argument) != usual.get(argument):
      raise ValueError(
        f'{argument}={drawn[argument]} is for classes, and {name} is a regression; leave it out'
      )


def _settable(
  takes: Mapping[str, inspect.Parameter], usual: Mapping[str, Any]
) -> list[inspect.Parameter]:
  """Returns the parameters of a task: supplied ones, a path, of episodes, of the data, `skip`."""
  kind = inspect.Parameter.KEYWORD_ONLY
  known = inspect.signature(classification).parameters
  of_data = {name: p.replace(kind=kind) for name, p in takes.items() if name != 'skip'}
  of_episodes = {
    n: inspect.Parameter(n, kind, default=v, annotation=type(v)) for n, v in usual.items()
  }
  skip = of_episodes.pop('skip', None)
  early = {name: p for name, p in of_data.items() if name in (*SUPPLIED, FIRST)}
  late = {name: p for name, p in of_data.items() if name not in early}
  named = {'budget': known['budget'], **early, **of_episodes, **late}
  return [*named.values(), *([skip] if skip else [])]


def classification(
  parts: ClassParts,
  *,
  ways: int,
  shots: int,
  queries: int,
  budget: float,
  sampler: str = 'few_shot',
  skip: bool | None = None,  # None: the spec has no such argument, so no error should speak of it
) -> Task:
  """Classification episodes of a class table for each part.

  Args:
    parts: the data set, and what is known about its parts.
    ways: classes of an episode.
    shots: support examples of each class.
    queries: query examples of each class.
    budget: bytes of device memory for a table.
    sampler: how episodes are drawn, a name in SAMPLERS.
    skip: whether to leave out classes that are too small for the episodes.
  """
  check_choice('sampler', sampler, tuple(SAMPLERS))
  check_positive(ways=ways, queries=queries)
  if sampler != 'variable_shot':  # it has no use for shots
    check_positive(shots=shots)
  if parts.levels and sampler == 'one_domain':
    raise ValueError(f'sampler={sampler} has the same classes in all domains; leave levels out')
  least = FEWEST_ROWS.get(sampler, operator.add)(shots, queries)
  left_out: dict[str, Sequence[str]] = {}
  turned = lambda part: parts.turned and part == 'train'

  def draw(part: str, rows: ClassTable, shots: int) -> EpisodeSource:
    if sampler == 'one_domain' and part == 'train':
      check_several(rows)
    of_table = lambda table: SAMPLERS[sampler](table, ways, shots, queries=queries)
    return turned_classes(of_table, rows) if turned(part) else of_table(rows)

  @functools.cache  # so that rows are placed on the device once
  def usual(part: str) -> tuple[ClassTable, EpisodeSource]:
    rows = parts.table(part)
    with _naming_part(parts, part, _remedy(parts, rows, ways, least, skip)):
      if skip:
        rows, left_out[part] = leave_out_small(rows, least)
      drawn = draw(part, rows, shots)
      if parts.levels and part != 'train':
        drawn = _sharing_rows(drawn, *usual('train'))
      return rows, place(drawn, budget)

  def source(part: str, other_shots: int | None = None) -> EpisodeSource:
    rows, episode_source = usual(part)
    if other_shots is not None:
      episode_source = episode_source.replace(plan=draw(part, rows, other_shots).plan)
    for transform, each in parts.augmentations if part == 'train' else ():
      episode_source = augment(episode_source, transform, each)
    return episode_source

  def table(part: str) -> ClassTable:
    return turned_table(usual(part)[0]) if turned(part) else usual(part)[0]

  fixed = sampler != 'variable_shot'
  fields = source, objectives.cross_entropy, ways, 'accuracy', fixed, False
  said = lambda: _said(parts, left_out, least)
  return Task(*fields, table=table, parted=parts.parted, said=said, levels=tuple(parts.levels))


def _sharing_rows(drawn: EpisodeSource, rows: ClassTable, placed: EpisodeSource) -> EpisodeSource:
  """Returns a source with the rows that lie on the device, if they are its own: one copy of all."""
  return drawn.replace(data=placed.data) if drawn.data is rows.x else drawn


def regression(
  parts: ClassParts, *, shots: int, queries: int, budget: float, skip: bool | None = None
) -> Task:
  """Regression episodes of a table whose classes are tasks, for each part.

  Numbers are standardised by the training tasks, targets too: a loss of 1 is that of their mean.

  Args:
    parts: the data set.
    shots: support examples in all.
    queries: query examples in all.
    budget: bytes of device memory for a table.
    skip: whether to leave out tasks that are too small for the episodes.
  """
  check_positive(shots=shots, queries=queries)
  least = shots + queries
  left_out: dict[str, Sequence[str]] = {}
  draw = lambda rows, shots: episodes.table_regression(rows, shots, queries=queries)

  @functools.cache
  def usual(part: str) -> tuple[ClassTable, EpisodeSource]:
    rows = parts.table(part)
    with _naming_part(parts, part, _remedy(parts, rows, 0, least, skip)):
      rows = standardised(rows, parts.table('train'))
      if skip:
        rows, left_out[part] = leave_out_small(rows, least)
      return rows, place(draw(rows, shots), budget)

  def source(part: str, other_shots: int | None = None) -> EpisodeSource:
    rows, episode_source = usual(part)
    if other_shots is None:
      return episode_source
    return episode_source.replace(plan=draw(rows, other_shots).plan)

  def said() -> str:
    known = (usual('train')[0].encoding or {})['targets']
    scale = [f'{m:.4g} and {d:.4g}' for m, d in zip(known['mean'], known['deviation'], strict=True)]
    line = _said(parts, left_out, least, 'task')
    return f'{line}; mean and deviation of training targets: {listed(scale, 3)}'

  fields = source, objectives.squared_error, parts.outputs(), 'loss', True, True
  return Task(*fields, table=lambda part: usual(part)[0], parted=parts.parted, said=said)


def _remedy(parts: ClassParts, rows: ClassTable, ways: int, least: int, skip: bool | None) -> str:
  """Returns what helps where classes are too few or too small, as the ending of an error."""
  if ways > len(rows.counts) and parts.parted() in DRAWN:
    return ', or split=FILE, which gives this part more'
  too_small = (rows.counts < least).sum()
  return ' (skip=true)' if 0 < too_small < len(rows.counts) and skip is False else ''


def _said(
  parts: ClassParts, left_out: Mapping[str, Sequence[str]], least: int, what: str = 'class'
) -> str:
  """Returns a line that says how the data was understood, and which classes were left out."""
  small = [
    f'left out of {part}: {counted(len(names), what)} of fewer than {least} examples '
    f'({listed(names)})'
    for part, names in left_out.items()
    if names
  ]
  line = '; '.join(filter(None, [parts.said(), *small]))
  return f'{parts.name}: {line}' if line else ''


@contextlib.contextmanager
def _naming_part(parts: ClassParts, part: str, remedy: str) -> Iterator[None]:
  """Adds the name of the part, and a further remedy, to errors of drawing episodes."""
  try:
    yield
  except ValueError as error:
    of = f' of {parts.name}' if parts.name else ''
    raise ValueError(f'part {part}{of}: {error}{remedy}') from error


def variable_shot(table: ClassTable, ways: int, shots: int, *, queries: int) -> EpisodeSource:
  """Episodes of at most `ways` and `queries`; the rule of Meta-Dataset draws the shots."""
  del shots
  return episodes.variable_shot(table, ways, min(ways, FEWEST_WAYS), max_queries_per_class=queries)


def distractors(table: ClassTable, ways: int, shots: int, *, queries: int) -> EpisodeSource:
  """Episodes with as many classes of distractors as there are ways."""
  sizes = {'queries': queries, 'unlabelled': UNLABELLED, 'distractors': ways}
  return episodes.semi_supervised(table, ways, shots, **sizes)


def _takes_classes(factory: Callable[..., Any]) -> bool:
  """Tells whether a sampler takes a table, ways, shots and queries, with defaults for the rest."""
  known = inspect.signature(factory).parameters
  given = 'table', 'ways', 'shots', 'queries'
  others = [p for name, p in known.items() if name not in given]
  return set(given) <= set(known) and not any(p.default is p.empty for p in others)


# (table, ways, shots, queries=) -> EpisodeSource, by the name in a spec. They are the samplers of
# the library that take these arguments, and two made from samplers with other arguments.
SAMPLERS: dict[str, Callable[..., EpisodeSource]] = {
  **{
    name: getattr(episodes, name)
    for name in episodes.__all__
    if inspect.isfunction(getattr(episodes, name)) and _takes_classes(getattr(episodes, name))
  },
  'distractors': distractors,
  'variable_shot': variable_shot,
}
# (shots, queries) -> the fewest rows of a class, for samplers that need not just their sum
FEWEST_ROWS: dict[str, Callable[[int, int], int]] = {
  'imbalanced': lambda shots, queries: shots + queries + 1,
  'one_domain': lambda shots, queries: 1,
  'semi_supervised': lambda shots, queries: shots + UNLABELLED + queries,
  'distractors': lambda shots, queries: shots + UNLABELLED + queries,
  'variable_shot': lambda shots, queries: 2,
}
