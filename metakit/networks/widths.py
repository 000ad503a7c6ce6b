"""How many channels each block of a network has."""

from collections.abc import Sequence

Width = int | str | Sequence[int]


def widths_of(width: Width, factors: Sequence[float]) -> tuple[int, ...]:
  """Returns the channels of each block.

  Args:
    width: channels of the first block, or those of each block as a sequence or a text like
      '64-160-320-640'.
    factors: how many times `width` channels each block has, if `width` is one number.

  Raises:
    ValueError: if a width is no positive number, or there are more or fewer than blocks.

  >>> widths_of(16, (1, 2.5)), widths_of('96-192', (1, 1))
  ((16, 40), (96, 192))
  """
  known: list[int] = []
  if isinstance(width, int):
    known = [int(width * factor) for factor in factors]
  elif not isinstance(width, str):
    known = list(width)
  elif all(part.isdecimal() for part in width.split('-')):
    known = [int(part) for part in width.split('-')]
  if not known or min(known) < 1:
    raise ValueError(
      f'width={width} must be positive; give channels as a number, or those of each block as in '
      "'64-160-320-640'"
    )
  if len(known) != len(factors):
    raise ValueError(
      f'width={width} is of {len(known)} blocks, and the network has {len(factors)}; give one '
      'number, or one for each block'
    )
  return tuple(known)
