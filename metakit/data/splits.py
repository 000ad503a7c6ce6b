"""Class splits for data sets that have no official one."""

from collections.abc import Sequence

import numpy as np

from metakit.data.files import check_choice
from metakit.data.table import ClassTable, select_classes

PARTS = ('train', 'validation', 'test')


def split_classes(
  table: ClassTable, split: str, fractions: Sequence[float] = (0.6, 0.2, 0.2), seed: int = 0
) -> ClassTable:
  """Returns the classes of one part of a random but fixed partition of the classes.

  The classes are put in the order of the first outputs of the counter-based generator Philox4x64
  with `seed` as its key, and cut at the rounded cumulative fractions. The parts are disjoint,
  together hold every class, and depend on the number of classes, the fractions and the seed alone.

  Args:
    table: any table.
    split: 'train', 'validation' or 'test'.
    fractions: the share of the classes of the three parts; they add up to 1.
    seed: a non-negative integer.

  Returns:
    The table of those classes, in the order they have in `table`.

  Raises:
    ValueError: if the split or the fractions are wrong, or the part would have no class.

  >>> from metakit.data.table import class_table
  >>> table = class_table(np.arange(10), np.arange(10))
  >>> [split_classes(table, part).names for part in PARTS]
  [('0', '1', '2', '5', '8', '9'), ('3', '4'), ('6', '7')]
  """
  check_choice('split', split, PARTS)
  if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
    raise ValueError(f'fractions={tuple(fractions)}; give three shares that add up to 1')
  classes, part = len(table.counts), PARTS.index(split)
  cuts = np.round(np.cumsum([0, *fractions]) * classes).astype(int)
  # NumPy promises the raw outputs of a bit generator for ever, but not those of permutation().
  order = np.argsort(np.random.Philox(key=seed).random_raw(classes), kind='stable')
  chosen = order[cuts[part] : cuts[part + 1]]
  if len(chosen) == 0:
    raise ValueError(
      f'split={split!r} gets none of the {classes} classes, of which the parts hold '
      f'{tuple(fractions)}; use a data set of more classes, or other fractions'
    )
  return select_classes(table, np.sort(chosen))
