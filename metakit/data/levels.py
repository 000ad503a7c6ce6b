"""Three levels of generalisation: new examples, new classes, and classes of new groups.

Srinivasan Iyer et al., OPT-IML: Scaling Language Model Instruction Meta Learning through the Lens
of Generalization, 2022, arXiv:2212.12017, section 2: held-out instances of training tasks, held-out
tasks of training categories, and held-out categories. Here a task is a class, and its category is
the group of the class (an alphabet, a domain).
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from metakit.data.table import ClassTable

LEVELS = ('instances', 'classes', 'families')  # from the nearest to what was trained on
_TURN = re.compile(r'/rot\d+$')  # ends the name of a class of turned images


def split_levels(
  table: ClassTable, share: float = 1 / 3, *, families: Any = None, seed: int = 0
) -> dict[str, ClassTable]:
  """Splits a table with groups into training classes and tests of three levels.

  Whole groups are held out first ('families'), then classes of the other groups ('classes'), then
  rows of the other classes ('instances'). Each time it is the share, rounded, and at least one; at
  least one stays too. A group of one class keeps it. Turned images of a class ('Korean/a/rot090')
  go where the class goes, and a turned row where its row goes.

  Args:
    table: a table with groups.
    share: what is held out, between 0 and 1.
    families: integer numbers of the groups that are held out; by default they are drawn.
    seed: a non-negative integer. The same table and seed give the same split for ever.

  Returns:
    The tables 'train', 'instances', 'classes' and 'families'. No row is in two of them. They share
    one x (and y), a copy of all rows in memory, of which each owns those of its classes. So a
    program that is compiled for one serves all of them.

  Raises:
    ValueError: if the share is not between 0 and 1, no group or all groups would be held out, no
      class can be, or a training class has a single row.

  >>> from metakit.data.table import class_table
  >>> groups = {'groups': [0, 0, 0, 1, 1, 1], 'group_names': ('cats', 'dogs')}
  >>> parts = split_levels(class_table(np.arange(24), np.arange(24) // 4, **groups))
  >>> {part: each.names for part, each in parts.items() if part != 'instances'}
  {'train': ('4', '5'), 'classes': ('3',), 'families': ('0', '1', '2')}
  >>> parts['train'].counts.tolist(), parts['instances'].counts.tolist()
  ([3, 3], [1, 1])
  """
  if not 0 < share < 1:
    raise ValueError(f'share={share} leaves nothing on one side; use a number between 0 and 1')
  raw = partial(_raw, seed)
  held = _held_groups(table, share, families, raw(0, len(table.group_names)))
  unseen = np.isin(table.groups, held)
  kin, rest = _kin(table), ~unseen
  new = rest & np.isin(kin, _held_kin(table.groups[rest], kin[rest], share, raw(1, len(kin))))
  seen = ~unseen & ~new
  if not new.any():
    raise ValueError('no training group has two classes, of which one can be held out')
  _check_rows(table, seen)
  rows = _shuffled(table, kin, raw)
  x, y = table.x[rows], None if table.y is None else table.y[rows]
  starts = np.cumsum(table.counts) - table.counts
  some = _share_of(table.counts, share)

  def part(classes: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> ClassTable:
    chosen = np.flatnonzero(classes)
    names = tuple(table.names[c] for c in chosen)
    return table._replace(
      x=x,
      y=y,
      starts=starts[chosen],
      counts=counts[chosen],
      names=names,
      groups=table.groups[chosen],
    )

  return {
    'train': part(seen, starts + some, table.counts - some),
    'instances': part(seen, starts, some),
    'classes': part(new, starts, table.counts),
    'families': part(unseen, starts, table.counts),
  }


def _raw(seed: int, stream: int, number: int) -> np.ndarray:
  """Returns [number] random integers, the same ones for ever."""
  return np.random.Philox(key=(seed << 64) + stream).random_raw(number)


def _held_groups(table: ClassTable, share: float, given: Any, order: np.ndarray) -> np.ndarray:
  """Returns the numbers of the groups that are held out."""
  groups = np.unique(table.groups)
  if len(groups) < 2:
    raise ValueError(
      'the classes are of one group, so none is of a new one; give them two groups or more'
    )
  if given is None:
    return groups[np.argsort(order[groups], kind='stable')[: _share_of(len(groups), share)]]
  held = np.intersect1d(groups, np.asarray(given, np.int64))
  if len(held) in (0, len(groups)):
    raise ValueError(
      f'families={np.asarray(given).tolist()} are {len(held)} of the {len(groups)} groups; hold '
      'some out, and keep some'
    )
  return held


def _share_of(number: Any, share: float) -> Any:
  """Returns the share of a number or of several, at least 1, and less than all where it can be."""
  return np.clip(np.rint(share * np.asarray(number)).astype(int), 1, np.maximum(number, 2) - 1)


def _kin(table: ClassTable) -> np.ndarray:
  """Returns [classes] a number that classes of the same images, turned, have in common."""
  stems = [(_TURN.sub('', n), int(g)) for n, g in zip(table.names, table.groups, strict=True)]
  number = {stem: i for i, stem in enumerate(dict.fromkeys(stems))}
  return np.array([number[stem] for stem in stems])


def _held_kin(groups: np.ndarray, kin: np.ndarray, share: float, order: np.ndarray) -> np.ndarray:
  """Returns the numbers of kin that are held out of some groups."""
  held = []
  for group in np.unique(groups):
    members = np.unique(kin[groups == group])
    if len(members) > 1:
      first = np.argsort(order[members], kind='stable')[: _share_of(len(members), share)]
      held.append(members[first])
  return np.concatenate([np.zeros(0, np.int64), *held])


def _check_rows(table: ClassTable, seen: np.ndarray) -> None:
  single = np.flatnonzero(seen & (table.counts < 2))
  if len(single):
    raise ValueError(
      f'class {table.names[single[0]]!r} has one example, which cannot be trained on and held out; '
      'leave it out'
    )


def _shuffled(table: ClassTable, kin: np.ndarray, raw: Callable[..., np.ndarray]) -> np.ndarray:
  """Returns the rows of the table, class after class, in a random order within each class."""
  most = np.zeros(kin.max() + 1, np.int64)
  np.maximum.at(most, kin, table.counts)
  classes = np.repeat(np.arange(len(kin)), table.counts)
  place = np.arange(len(classes)) - np.repeat(np.cumsum(table.counts) - table.counts, table.counts)
  order = raw(2, int(most.sum()))[(np.cumsum(most) - most)[kin[classes]] + place]
  return (table.starts[classes] + place)[np.lexsort((order, classes))]
