"""Which classes of a data set train, validate and test, and how that is reported."""

import contextlib
import functools
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metakit.data.files import PathLike, listed
from metakit.data.levels import LEVELS, split_levels
from metakit.data.parts import PARTS, PartedTable, read_lists, select_part
from metakit.data.splits import join_parts, split_classes
from metakit.data.table import ClassTable
from metakit.episodes.image_transforms import Transform
from metakit.tasks import Task

MOST_NAMES = 200  # of classes that a record names one by one
FEWEST_TASKS = 4  # of which 60:20:20 leaves one to each part
AT_RANDOM = ('auto', 'group', 'class')  # values of an argument `split`; any other is a path
NUMBERED = ('glyphs',)  # their groups are numbers within a part, so equal names are no same group


class ClassParts(NamedTuple):
  """A data set by its parts.

  Attributes:
    name: name of the data set, for messages.
    table: the classes of 'train', 'validation', 'test' or, together, 'all'.
    parted: () -> what decides which class is in which part: 'official', 'given' (by the folder of
      the data, or the files of a split), or a draw of 'groups' or 'classes'.
    said: () -> a line that says how the data was understood; '' if there is no doubt.
    outputs: () -> how many numbers a target of a regression has, whose tasks the classes then are;
      0 for a classification.
    augmentations: transforms of training images, in their order. Each is applied to every 'example'
      or to every 'class'.
    turned: whether the quarter turns of a training class are classes of their own.
    levels: further parts for tests, if those are of three levels (`with_levels`).
  """

  name: str
  table: Callable[[str], ClassTable]
  parted: Callable[[], str] = lambda: 'official'
  said: Callable[[], str] = lambda: ''
  augmentations: Sequence[tuple[Transform, str]] = ()
  outputs: Callable[[], int] = lambda: 0
  turned: bool = False
  levels: Sequence[str] = ()


def official(name: str, load: Callable[[str], ClassTable], *, own: bool = False) -> ClassParts:
  """Returns the parts of a data set that are read one by one, as `load` does.

  Args:
    name: name of the data set.
    load: part -> its table.
    own: whether the data are a user's own, so that a line has to say how they were understood.
  """
  load = functools.cache(load) if own else load

  def table(part: str) -> ClassTable:
    return join_parts({each: load(each) for each in PARTS}) if part == 'all' else load(part)

  def said() -> str:
    sizes = [f'{part} ({described(load(part))})' for part in PARTS]
    return f'parts {", ".join(sizes)}, each of its own file'

  return ClassParts(name, table, said=said if own else lambda: '')


def parts_of(name: str, split: str, load: Callable[[], PartedTable]) -> ClassParts:
  """Returns the parts of a data set that is read as a whole.

  Args:
    name: name of the data set.
    split: which class is for training, validation and test. 'auto' takes the parts that come with
      the data, if there are any. Otherwise it draws 60:20:20, whole groups or, where there are
      none, classes. 'group' and 'class' draw in any case. A .json or .csv file, or a folder of
      lists (train.txt, val.txt, test.txt), names the classes of each part.
    load: () -> the data set, with the parts that a file or a folder of lists names.

  Raises:
    ValueError: if `split` is none of these.
  """
  given_path(split)
  whole = functools.cache(load)
  table = lambda part: _part(name, whole(), split, part)
  parted = lambda: _parted(whole(), split)
  return ClassParts(name, table, parted, lambda: _said(whole(), split))


def with_levels(parts: ClassParts, levels: float) -> ClassParts:
  """Returns the parts of a data set whose tests tell three levels of generalisation apart.

  Args:
    parts: the data set.
    levels: the share of the classes of each training group, and of the examples of each training
      class, that is held out, so that a test tells new examples, new classes and classes of new
      groups apart; 0 for none.

  Raises:
    ValueError: if `levels` is no share.
  """
  if not 0 <= levels < 1:
    raise ValueError(f'levels={levels} is no share of the classes; use 0 <= levels < 1')
  if not levels:
    return parts

  @functools.cache
  def split() -> dict[str, ClassTable]:
    seen, unseen = parts.table('train'), parts.table('test')
    _check_new_groups(parts.name, seen, unseen)
    return split_levels(
      _side_by_side(seen, unseen),
      levels,
      families=len(seen.group_names) + np.unique(unseen.groups),
    )

  def table(part: str) -> ClassTable:
    if part in ('validation', 'all'):
      return parts.table(part)
    return split()['families' if part == 'test' else part]

  def said() -> str:
    sizes = {level: counted(len(table(level).names), _unit(table(level))) for level in LEVELS}
    known, *new = sizes.values()
    line = f'tests of new examples of {known}, of {new[0]} of the same groups, of {new[1]} of new'
    return '; '.join(filter(None, [parts.said(), line]))

  return parts._replace(table=table, said=said, levels=LEVELS)


def _check_new_groups(name: str, seen: ClassTable, unseen: ClassTable) -> None:
  of = lambda table: {table.group_names[group] for group in np.unique(table.groups)}
  shared = [] if name in NUMBERED else sorted(of(seen) & of(unseen))
  if shared:
    raise ValueError(
      f'{name}: training and test have classes of {counted(len(shared), "same group")} '
      f'({listed(shared)}), so no test is of a new group; use another split, or leave levels out'
    )


def _side_by_side(seen: ClassTable, unseen: ClassTable) -> ClassTable:
  """Returns the classes of two parts as one table; equal names are other classes and groups."""

  def of_part(part: str, table: ClassTable) -> ClassTable:
    named = lambda names: tuple(f'{part}/{name}' for name in names)
    return table._replace(names=named(table.names), group_names=named(table.group_names))

  whole = join_parts({'train': of_part('train', seen), 'test': of_part('test', unseen)})
  groups = seen.group_names + unseen.group_names
  return whole._replace(names=seen.names + unseen.names, group_names=groups)


def given_path(split: str) -> PathLike | None:
  """Returns the path that an argument `split` names, or None.

  Raises:
    ValueError: if there is nothing there.
  """
  if split in AT_RANDOM:
    return None
  path = Path(split).expanduser()
  if not path.exists():
    raise ValueError(
      f'split={split!r} is none of {", ".join(AT_RANDOM)}, and no file or folder of lists'
    )
  return path


def with_lists(table: ClassTable, split: str) -> PartedTable:
  """Returns a table with the parts that an argument `split` names, if it is a path."""
  path = given_path(split)
  return PartedTable(table) if path is None else PartedTable(table, read_lists(path).parts, split)


def class_names(trained: Task, tested: Task, parts: Sequence[str]) -> dict[str, Any]:
  """Returns the names of the classes of each part, for a record.

  Args:
    trained: the training task.
    tested: the test task.
    parts: some of 'train', 'validation' and 'test'. That of training is of the training task.

  Returns:
    Part -> names. If there are more than MOST_NAMES: their number, the first ones, and the SHA-256
    of all names, each on a line. Tasks without classes are left out.
  """
  tables = {part: (trained if part == 'train' else tested).table for part in parts}
  return {part: brief_names(table(part).names) for part, table in tables.items() if table}


def brief_names(names: Sequence[str]) -> list[str] | dict[str, Any]:
  """Returns names for a record; if there are more than MOST_NAMES, what stands for them."""
  if len(names) <= MOST_NAMES:
    return list(names)
  digest = hashlib.sha256('\n'.join(names).encode()).hexdigest()
  return {'number': len(names), 'first': list(names[:10]), 'sha256': digest}


def write_names(classes: Mapping[str, Any]) -> dict[str, str]:
  """Returns `class_names` as text, for people.

  >>> write_names({'test': ['cow', 'eel']})
  {'test': '2: cow, eel'}
  """

  def text(names: Any) -> str:
    number, first = len(names), names
    if isinstance(names, dict):
      number, first = names['number'], names['first']
    more = f' and {number - len(first):,} more' if number > len(first) else ''
    return f'{number:,}: {", ".join(first)}{more}'

  return {part: text(names) for part, names in classes.items()}


def _parted(data: PartedTable, split: str) -> str:
  if data.parts is not None:
    return 'given'
  return 'groups' if split != 'class' and len(np.unique(data.table.groups)) > 1 else 'classes'


def _part(name: str, data: PartedTable, split: str, part: str) -> ClassTable:
  table, groups = data.table, len(np.unique(data.table.groups))
  parted = _parted(data, split)
  if part == 'all':
    return table
  if parted == 'given' and data.parts is not None:
    return select_part(table, data.parts, part, where=name)
  if split == 'group' and groups == 1:
    raise ValueError(f'{name} has no groups to be split by; use split=class')
  # If the classes of a group were in different parts, what they share would leak into tests.
  if parted == 'groups' and groups < len(PARTS):
    raise ValueError(
      f'{name}: {groups} groups are too few for three parts of whole groups; use split=class, '
      'which parts classes whatever their groups, or split=FILE, which says where each belongs'
    )
  if table.y is not None and len(table.names) < FEWEST_TASKS:
    raise ValueError(
      f'{name}: {counted(len(table.names), "task")} are too few for three parts; use at least '
      f'{FEWEST_TASKS}, or split=FILE, which says where each belongs'
    )
  return split_classes(table, part, by='group' if parted == 'groups' else 'class')


def _said(data: PartedTable, split: str) -> str:
  rows = np.arange(len(data.table.x))  # they stand for the examples: only classes are counted
  light = data._replace(table=data.table._replace(x=rows))
  parts = {}
  for part in data.parts or PARTS:
    with contextlib.suppress(ValueError):  # raised if no class is left for the part
      parts[part] = _part('', light, split, part)
  parted, what = _parted(data, split), _unit(data.table)
  groups = lambda each: (
    counted(len(np.unique(each.groups)), 'group') + ', ' if parted == 'groups' else ''
  )
  sizes = [
    f'{part} ({groups(each)}{counted(len(each.names), what)})' for part, each in parts.items()
  ]
  if data.parts is None:
    drawn = 'whole groups' if parted == 'groups' else 'classes' if what == 'class' else 'tasks'
    how = f'{drawn} drawn at random'
  else:
    how = f'as {"its folders" if data.said_by == "folders" else data.said_by} say'
  said = f'{described(data.table)}; parts {", ".join(sizes)}, {how}'
  if rest := len(data.table.names) - sum(len(each.names) for each in parts.values()):
    said += f'; in no part: {counted(rest, what)}'
  if data.left_out:
    images = counted(len(data.left_out), 'image')
    said += f'; left out: {images} that cannot be read ({listed(data.left_out)})'
  return said


def described(table: ClassTable) -> str:
  """Returns how many examples of which size a table has, in how many classes.

  >>> from metakit.data import arrays
  >>> described(arrays(np.zeros((5, 8, 8, 3), np.uint8), ['cat', 'dog', 'dog', 'cat', 'dog']))
  '5 examples of 8 x 8 x 3 in 2 classes (2 to 3 each)'
  """
  shape = np.shape(table.x)[1:]
  size = ' x '.join(map(str, shape)) if len(shape) > 1 else counted(math.prod(shape), 'number')
  if names := (table.encoding or {}).get('names'):
    size = f'{counted(len(names), "column")} ({listed(names)})'
  least, most = table.counts.min(), table.counts.max()
  each = f'{least:,}' if least == most else f'{least:,} to {most:,}'
  classes = counted(len(table.counts), _unit(table))
  return f'{counted(int(table.counts.sum()), "example")} of {size} in {classes} ({each} each)'


def _unit(table: ClassTable) -> str:
  """Returns what the classes of a table are called."""
  return 'class' if table.y is None else 'task'


def counted(number: int, what: str) -> str:
  """Returns a number of things.

  >>> counted(1, 'class'), counted(2, 'class'), counted(1200, 'group')
  ('1 class', '2 classes', '1,200 groups')
  """
  plural = what if number == 1 else f'{what}{"es" if what.endswith("s") else "s"}'
  return f'{number:,} {plural}'
