"""experiments/results/growth.md: what training steps cost against sizes, and what breaks first.

All numbers are computed from experiments/results/computed/growth.json, which the suite `growth` of
experiments.benchmark wrote.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.benchmarks.chips import CHIPS, Chip, peak
from experiments.output.records import RESULTS as STORED
from experiments.tables.pages import markdown_table

RECORD = STORED / 'computed' / 'growth.json'
PAGE = STORED / 'growth.md'
TIMES = 1000  # the usual size, which is the first
SMALL, LARGE = CHIPS['v5e'], CHIPS['H100']
HEAD = """# Cost against size

Written by `python -m experiments.tables` from [growth.json](computed/growth.json). All of this is
computed and nothing is measured: training steps were compiled for CPUs (jax {jax}) and never run.
Memory is that of the arguments and temporaries of a step on one device, by XLA's analysis.
Operations are those of matrix products and convolutions on one device. A cost grows as the size to
the power of its exponent, which comes from the last two sizes. What larger sizes cost is told by
that power, or by a line if it is below 1, where a part that does not grow hides what does.

`{command}`

![Memory of a device against size](computed/growth.svg)
"""
NOTES = """What to do:

- **Pixels, ways.** A task runs on one device, so its activations must fit there. Fewer queries in
  training episodes help, and so does a network that strides early. `--tasks_at_once` does not: it
  is for many tasks, not for one large task.
- **Examples in context.** The gradient of attention keeps the scores of all pairs. `remat=true`
  keeps those of one layer alone. On GPUs `attention=fused` keeps none, which programs for CPUs do
  not show. Attention with a memory of fixed size (linear, gated_linear, delta, diagonal_ssm) grows
  in proportion, as an LSTM does.
- **Rows.** A table above `--table_budget_gib` stays on the disk. The host reads the rows of a step.
- **Tasks.** With `--tasks_at_once` memory stays that of one group; time grows with the tasks.
"""


class Growth(NamedTuple):
  """How a step grows with a size.

  Attributes:
    grows: what grows.
    what: what is trained.
    sizes: in order.
    memory: bytes on one device, by size.
    flops: of one device, by size.
  """

  grows: str
  what: str
  sizes: tuple[float, ...]
  memory: tuple[float, ...]
  flops: tuple[float, ...]


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
  """Returns the power of the size that values grow with, from the last two.

  >>> exponent([1, 10, 100], [7.0, 3.0, 300.0])
  2.0
  """
  return math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2])


def at(size: float, sizes: Sequence[float], values: Sequence[float]) -> float:
  """Returns a value at a larger size, by the power law through the last two.

  If the exponent is below 1, a part that does not grow hides what does. Then it is the line through
  the last two, which is above the power law.

  >>> round(at(1000, [1, 10, 100], [7.0, 3.0, 300.0])), at(1000, [1, 10, 100], [101, 110, 200])
  (30000, 1100.0)
  """
  if exponent(sizes, values) < 1:
    return values[-1] + _slope(sizes, values) * (size - sizes[-1])
  return values[-1] * (size / sizes[-1]) ** exponent(sizes, values)


def largest(limit: float, sizes: Sequence[float], values: Sequence[float]) -> float:
  """Returns the size at which a value reaches a limit, as `at` has it; infinity if it never does.

  >>> [round(largest(30_000, [1, 10, 100], last)) for last in ([7, 3.0, 300.0], [101, 110, 200])]
  [1000, 29900]
  """
  power, slope = exponent(sizes, values), _slope(sizes, values)
  if slope <= 0:
    return math.inf
  if power < 1:
    return sizes[-1] + (limit - values[-1]) / slope
  return sizes[-1] * (limit / values[-1]) ** (1 / power)


def _slope(sizes: Sequence[float], values: Sequence[float]) -> float:
  return (values[-1] - values[-2]) / (sizes[-1] - sizes[-2])


def growths(rows: Sequence[Mapping[str, Any]]) -> list[Growth]:
  """Returns the rows of each name together, in the order of the record."""
  together: dict[str, list[Mapping[str, Any]]] = {}
  for row in rows:
    together.setdefault(row['name'], []).append(row)
  return [_growth(name, each) for name, each in together.items()]


def _growth(name: str, rows: Sequence[Mapping[str, Any]]) -> Growth:
  grows, _, what = name.partition(': ')
  memory = [(row['argument_mib'] + row['temporary_mib']) * 2**20 for row in rows]
  flops = [1e9 * row['gflop'] for row in rows]
  return Growth(grows, what, tuple(row['size'] for row in rows), tuple(memory), tuple(flops))


def costs(grown: Sequence[Growth]) -> str:
  """Returns the table of costs and their exponents."""
  columns = 'what grows', 'what is trained', 'sizes', 'memory', 'exponent', 'GFLOP', 'exponent'
  return markdown_table(columns, map(_cost_row, grown))


def _cost_row(grown: Growth) -> list[str]:
  listed = lambda values, said: ', '.join(map(said, values))
  powers = [f'{exponent(grown.sizes, each) + 0.0:.2f}' for each in (grown.memory, grown.flops)]
  gflop = lambda flops: _short(flops / 1e9, 3)
  return [
    grown.grows,
    grown.what,
    listed(grown.sizes, lambda size: f'{size:,}'),
    listed(grown.memory, in_bytes),
    powers[0],
    listed(grown.flops, gflop),
    powers[1],
  ]


def in_bytes(number: float) -> str:
  """Says a number of bytes.

  >>> in_bytes(2_560_000), in_bytes(31e12)
  ('2.6 MB', '31 TB')
  """
  for unit, name in ((1e15, 'PB'), (1e12, 'TB'), (1e9, 'GB'), (1e6, 'MB')):
    if number >= unit:
      return f'{_short(number / unit)} {name}'
  return f'{_short(number / 1e3)} kB'


def in_time(seconds: float) -> str:
  """Says a time.

  >>> in_time(0.00021), in_time(0.021), in_time(90_000)
  ('210 µs', '21 ms', '25 h')
  """
  for unit, name in ((3600, 'h'), (60, 'min'), (1, 's'), (1e-3, 'ms')):
    if seconds >= unit:
      return f'{_short(seconds / unit)} {name}'
  return f'{_short(1e6 * seconds)} µs'


def _short(number: float, digits: int = 2) -> str:
  rounded = float(f'{number:.{digits}g}')
  return f'{rounded:,.0f}' if rounded >= 1000 else f'{rounded:g}'


def _reach(grown: Growth, chip: Chip) -> float:
  """Returns how many times its usual size fits into the memory of a chip."""
  return largest(chip.memory, grown.sizes, grown.memory) / grown.sizes[0]


def breaks(grown: Sequence[Growth]) -> str:
  """Returns what happens at a thousand times the usual size, what breaks first before the rest."""
  columns = (
    'what grows', 'what is trained', f'size x {TIMES:,}', 'memory',
    'time at the peak of an H100', 'fits a v5e up to', 'fits an H100 up to',
  )  # fmt: skip
  order = sorted(grown, key=lambda each: _reach(each, SMALL))
  return markdown_table(columns, map(_break_row, order))


def _break_row(grown: Growth) -> list[str]:
  size = TIMES * grown.sizes[0]
  seconds = at(size, grown.sizes, grown.flops) / peak(LARGE, 'float32')
  reach = [_reach(grown, chip) for chip in (SMALL, LARGE)]
  said = [
    'any' if each > 1e6 else f'{_short(each)} x ({_short(each * grown.sizes[0])})' for each in reach
  ]
  memory = in_bytes(at(size, grown.sizes, grown.memory))
  return [grown.grows, grown.what, f'{size:,}', memory, in_time(seconds), *said]


def summary(grown: Sequence[Growth]) -> str:
  """Says in a few sentences what breaks first, what later, and what does not."""
  order = sorted(grown, key=lambda each: _reach(each, SMALL))
  first = order[0]
  size = _reach(first, SMALL) * first.sizes[0]
  breaking = [each for each in order if _reach(each, SMALL) < TIMES]
  lasting = [f'{each.what} ({each.grows})' for each in order if each not in breaking]
  on_large = sum(_reach(each, LARGE) < TIMES for each in order)
  slowest = max(order, key=lambda each: at(TIMES * each.sizes[0], each.sizes, each.flops))
  longest = at(TIMES * slowest.sizes[0], slowest.sizes, slowest.flops) / peak(LARGE, 'float32')
  return (
    f'The first to break is {first.what}, as the {first.grows} grow: from {_short(size)} on '
    f'({_short(_reach(first, SMALL))} times the usual size) a step needs more than the '
    f'{SMALL.memory / 1e9:g} GB of a v5e. Of {len(order)} kinds of growth, {len(breaking)} end '
    f'before {TIMES:,} times their usual size on a v5e, and {on_large} on an H100 '
    f'({LARGE.memory / 1e9:g} GB). At that size the longest step is that of {slowest.what} '
    f'({slowest.grows}): {in_time(longest)} at the peak of an H100.\n\n'
    f'What still fits a v5e at {TIMES:,} times the size: {"; ".join(lasting) or "nothing"}.'
  )


def page(record: Mapping[str, Any]) -> str:
  """Returns the page of a record of the suite `growth`."""
  grown = growths(record['rows'])
  return '\n'.join(
    [
      HEAD.format(command=record['command'], jax=record['versions']['jax']),
      f'{costs(grown)}\n',
      f'## What breaks first at {TIMES:,} times the size\n',
      f'The usual size is the first of each row above. {summary(grown)}\n',
      f'{breaks(grown)}\n',
      NOTES,
    ]
  )


def texts(root: Path) -> dict[Path, str]:
  """Returns what the page should say.

  Raises:
    OSError: if the record cannot be read.
    ValueError: if it is no record.
  """
  return {PAGE: page(json.loads((root / RECORD).read_text('utf-8')))}
