"""What a fault is."""

from typing import NamedTuple


def in_checkout(test: str) -> str:
  """Returns the id of a test, or the name of its file, from the root of the checkout."""
  return test if test.startswith('metakit/') else f'tests/{test}'


class Fault(NamedTuple):
  """A change that a careless hand makes, and who notices.

  Attributes:
    name: what is wrong then.
    file: that is changed.
    old: what stands there, once.
    new: what stands there instead.
    tests: ids of those expected to catch it, below tests/ or, doctests, from metakit/ on; one after
      the other, words apart.
    tier: 'quick', 'slow', or 'optimised' (with programs as users have them).
    added: whether no test caught it before it was planted: the test was added with it.
  """

  name: str
  file: str
  old: str
  new: str
  tests: str
  tier: str = 'quick'
  added: bool = False
