"""Class splits for data sets that have no official one."""

from collections.abc import Mapping, Sequence

import numpy as np

from metakit.data.files import check_choice
from metakit.data.parts import PARTS as PARTS
from metakit.data.parts import check_apart
from metakit.data.table import ClassTable, select_classes


def split_classes(
  table: ClassTable,
  split: str,
  fractions: Sequence[float] = (0.6, 0.2, 0.2),
  *,
  seed: int = 0,
  by: str = 'group',
) -> ClassTable:
  """Returns the classes of one part of a random but fixed partition of the classes.

  If the classes have several groups, whole groups go to a part. Otherwise a test would profit from
  what the classes of a group share (a speaker, an alphabet).

  The groups, or else the classes, are sorted by the first outputs of the counter-based generator
  Philox4x64 with `seed` as its key, and cut at the rounded cumulative fractions. Of three groups or
  more, every part with a share gets one; of six classes or more it gets two, the fewest that can be
  told apart. The parts are disjoint and together hold every class. They depend only on the number
  of classes, their groups, the fractions and the seed.

  Args:
    table: any table.
    split: 'train', 'validation' or 'test'.
    fractions: the share of the groups, or classes, of the three parts; they add up to 1.
    seed: a non-negative integer.
    by: 'group', or 'class' to split classes without regard to their groups.

  Returns:
    The table of those classes, in the order they have in `table`.

  Raises:
    ValueError: if an argument is wrong, or the part would have no class.

  >>> from metakit.data.table import class_table
  >>> table = class_table(np.arange(10), np.arange(10))
  >>> [split_classes(table, part).names for part in PARTS]
  [('0', '1', '2', '5', '8', '9'), ('3', '4'), ('6', '7')]
  """
  check_choice('split', split, PARTS)
  if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
    raise ValueError(f'fractions={tuple(fractions)}; give three shares that add up to 1')
  check_choice('by', by, ('group', 'class'))
  groups, part = np.unique(table.groups), PARTS.index(split)
  whole_groups = by == 'group' and len(groups) > 1
  number = len(groups) if whole_groups else len(table.counts)
  least = 1 if whole_groups else 2 if number >= 2 * len(PARTS) else 0
  sizes = _sizes(number, fractions, least)
  cuts = np.cumsum([0, *sizes])
  # NumPy keeps the raw outputs of a bit generator the same for ever, but not those of
  # permutation().
  order = np.argsort(np.random.Philox(key=seed).random_raw(number), kind='stable')
  chosen = order[cuts[part] : cuts[part + 1]]
  if len(chosen) == 0:
    units, instead = ('groups', "by='class'") if whole_groups else ('classes', 'more classes')
    raise ValueError(
      f'split={split!r} gets none of the {number} {units}, of which the parts hold '
      f'{tuple(fractions)}; use {instead}, or other fractions'
    )
  if whole_groups:
    chosen = np.flatnonzero(np.isin(table.groups, groups[chosen]))
  return select_classes(table, np.sort(chosen))


def _sizes(number: int, fractions: Sequence[float], least: int) -> np.ndarray:
  """Returns how many of `number` each part gets; if they are enough, `least` or more."""
  sizes = np.diff(np.round(np.cumsum([0, *fractions]) * number).astype(int))
  for part in np.flatnonzero(np.asarray(fractions) > 0):
    while sizes[part] < least < sizes.max():
      sizes[np.argmax(sizes)] -= 1
      sizes[part] += 1
  return sizes


def join_parts(parts: Mapping[str, ClassTable]) -> ClassTable:
  """Returns the classes of all parts as one table.

  Raises:
    ValueError: if a class is in two parts, or examples of two parts have other shapes.
  """
  tables = list(parts.values())
  check_apart({part: table.names for part, table in parts.items()}, 'all', 'choose one part')
  shapes = {part: np.shape(table.x)[1:] for part, table in parts.items()}
  if len(set(shapes.values())) > 1:
    raise ValueError(f'examples have other shapes in each part ({shapes}); choose one part')
  group_names = list(dict.fromkeys(name for table in tables for name in table.group_names))
  number = lambda table: [group_names.index(table.group_names[group]) for group in table.groups]
  counts = np.concatenate([table.counts for table in tables])
  rows = np.cumsum([0, *(len(table.x) for table in tables)])
  return ClassTable(
    x=np.concatenate([table.x for table in tables]),
    starts=np.concatenate([t.starts + start for t, start in zip(tables, rows[:-1], strict=True)]),
    counts=counts,
    names=tuple(name for table in tables for name in table.names),
    groups=np.concatenate([number(table) for table in tables]).astype(np.int64),
    group_names=tuple(group_names),
    encoding=tables[0].encoding,
    y=None if tables[0].y is None else np.concatenate([table.y for table in tables]),
  )


def leave_out_small(table: ClassTable, rows: int) -> tuple[ClassTable, list[str]]:
  """Returns a table without its classes of fewer than `rows` rows, and their names.

  x stays as it is, so that row numbers keep their meaning. Some of its rows then have no class.

  Raises:
    ValueError: if no class would be left.
  """
  kept = table.counts >= rows
  names = [name for name, stays in zip(table.names, kept, strict=True) if not stays]
  if not names:
    return table, []
  if not kept.any():
    raise ValueError(
      f'none of the {len(kept)} classes has {rows} examples (the largest has {table.counts.max()})'
    )
  return table._replace(
    starts=table.starts[kept],
    counts=table.counts[kept],
    names=tuple(name for name, stays in zip(table.names, kept, strict=True) if stays),
    groups=table.groups[kept],
  ), names
