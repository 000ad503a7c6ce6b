"""JSON objects that hold a checksum of themselves, so that a change is found.

The checksum finds accidents, by a disk or by hand. It is no signature.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any

SUM = 'crc32'  # the key of the checksum


def with_sum(values: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the values, which JSON can hold, with their checksum.

  >>> with_sum({'step': 1})
  {'step': 1, 'crc32': 981963069}
  """
  return {**values, SUM: _sum_of(values)}


def without_sum(values: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the values that `with_sum` got. Values without a checksum, of earlier versions, pass.

  Raises:
    ValueError: if they were changed.
  """
  rest = {name: value for name, value in values.items() if name != SUM}
  if SUM in values and values[SUM] != _sum_of(rest):
    raise ValueError('was changed after it was written')
  return rest


def _sum_of(values: Mapping[str, Any]) -> int:
  return zlib.crc32(json.dumps(values).encode())
