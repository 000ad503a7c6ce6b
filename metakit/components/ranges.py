"""Checks of numbers on the command line: finite, not too large for a device, and within a range.

The range depends on the name of the argument, which means the same in every component.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

MOST = 2**31 - 1  # whole numbers (steps, rows, sizes) are int32 on the devices
LARGEST = 3.4e38  # of float32

# No argument may be negative but a coordinate and an angle, nor may a rate be zero; averages decay
# by less than one (1 forgets nothing, more grows without bound), and a share is at most one.
SIGNED = {'high', 'low', 'phase'}
POSITIVE = {'distinct', 'inner_learning_rate', 'initial_rate', 'learning_rate', 'scale'}
BELOW_ONE = {'b1', 'b2', 'b3', 'beta', 'decay', 'decay_rate', 'momentum', 'rho'}
# Layers are written out one by one, in Python; priors over vectors of weights are made at once.
AT_MOST = {'depth': 1000, 'dim': 2**24}
SHARES = {'eta_minus', 'final', 'fixed_labels', 'fixed_projection', 'repeated', 'stretch'}


def check_number(what: str, value: Any) -> None:
  """Checks that a number, or each of a pair of numbers, is one that a device can hold.

  Args:
    what: the number, for the message.
    value: a value of any type; one that is no number passes.

  Raises:
    ValueError: for NaN, infinity, whole numbers above int32, and other numbers above float32.
  """
  for number in numbers_of(value):
    if not math.isfinite(number):
      raise ValueError(f'{what}={number} is not finite; use a finite number')
    if abs(number) > (MOST if isinstance(number, int) else LARGEST):
      kind = f'{MOST} (int32)' if isinstance(number, int) else f'{LARGEST} (float32)'
      raise ValueError(f'{what}={number} exceeds the largest number on a device, {kind}')


def check_argument(what: str, name: str, value: Any, *, default: Any) -> None:
  """Checks a component's argument: `check_number`, and the range that its name stands for.

  Args:
    what: the argument, for the message.
    name: name of the argument.
    value: a value of any type; one that is no number passes.
    default: default of the argument. A range without the default belongs to another argument of the
      same name, and is not applied.

  Raises:
    ValueError: if the value is out of range; it says what the argument may be.
  """
  check_number(what, value)
  if isinstance(value, tuple) and value[0] > value[1]:
    raise ValueError(f'{what}={value[0]}..{value[1]} falls; write the smaller number first')
  for within, rule in _ranges(name):
    if all(map(within, numbers_of(default))) and not all(map(within, numbers_of(value))):
      raise ValueError(f'{what}={value} {rule}')


def numbers_of(value: Any) -> Iterator[int | float]:
  """Yields a number, or the two numbers of a pair."""
  for each in value if isinstance(value, tuple) else (value,):
    if isinstance(each, int | float) and not isinstance(each, bool):
      yield each


def _ranges(name: str) -> Iterator[tuple[Callable[[float], bool], str]]:
  """Yields pairs (number -> whether it is in range, text if it is not), the narrowest first."""
  if name in BELOW_ONE:
    yield lambda number: 0 <= number < 1, f'is out of range; use 0 <= {name} < 1'
  if name in SHARES:
    yield lambda number: 0 <= number <= 1, f'is out of range; use 0 <= {name} <= 1'
  if name in AT_MOST:
    yield lambda number: number <= AT_MOST[name], f'is too large; use {name} <= {AT_MOST[name]}'
  if name in POSITIVE:
    yield lambda number: number > 0, f'is not positive; use {name} > 0'
  if name not in SIGNED:
    yield lambda number: number >= 0, f'is negative; use {name} >= 0'
