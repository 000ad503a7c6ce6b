"""Checks that a table has the classes and rows that episodes need."""

import numpy as np

from metakit.data.files import listed
from metakit.data.table import ClassTable


def check_classes(table: ClassTable, name: str, number: int) -> None:
  """Raises ValueError if a table has fewer classes than an argument, or sum of some, asks for."""
  classes = len(table.counts)
  if number > classes:
    raise ValueError(f'{name}={number} exceeds the {classes} classes; use {name}<={classes}')


def check_rows(
  table: ClassTable, name: str, number: int, *, least: int = 2, what: str = 'class'
) -> None:
  """Raises ValueError, naming the classes, if any has fewer rows than episodes take of it.

  Args:
    table: the table.
    name: the argument, or sum of some, that says how many.
    number: its value.
    least: the smallest possible value; one support example and one query by default.
    what: 'class', or 'task' if the classes of the table are tasks.
  """
  small = np.flatnonzero(table.counts < number)
  if not len(small):
    return
  fewest = int(table.counts[small].min())
  remedies = [f'use {name}<={fewest}'] if fewest >= least else []
  if len(small) < len(table.counts):
    remedies.append(f'leave {f"the {what}" if len(small) == 1 else "them"} out')
  names = [table.names[c] for c in small]
  several = 'classes' if what == 'class' else f'{what}s'
  if len(small) == 1:
    owners = f'the {fewest} examples of {what} {names[0]!r}'
  elif (table.counts == fewest).all():
    owners = f'the {fewest} examples of each {what}'
  else:
    each = [f'{n!r} has {table.counts[c]}' for n, c in zip(names, small, strict=True)]
    owners = f'the examples of {len(small)} {several} ({listed(each)})'
  remedy = ' or '.join(remedies) or f'use data with more examples of a {what}'
  raise ValueError(f'{name}={number} exceeds {owners}; {remedy}')
