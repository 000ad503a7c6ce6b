"""JSON objects that tell when they were changed: each holds a sum of the rest of it.

It finds accidents, of a disk or a hand; it is no signature.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any

SUM = 'crc32'  # its key


def with_sum(values: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what JSON can hold with its sum.

  >>> with_sum({'step': 1})
  {'step': 1, 'crc32': 981963069}
  """
  return {**values, SUM: _sum_of(values)}


def without_sum(values: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what was given to `with_sum`; what earlier versions wrote has no sum, and is taken.

  Raises:
    ValueError: if it was changed.
  """
  rest = {name: value for name, value in values.items() if name != SUM}
  if SUM in values and values[SUM] != _sum_of(rest):
    raise ValueError('was changed after it was written')
  return rest


def _sum_of(values: Mapping[str, Any]) -> int:
  return zlib.crc32(json.dumps(values).encode())
