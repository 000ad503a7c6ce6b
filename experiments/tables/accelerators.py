"""experiments/results/accelerators.md: what training steps should take on accelerators, computed.

The record experiments/results/computed/accelerators.json is what launch.accelerators wrote.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.chips import CHIPS, Bound, Chip, bound
from experiments.output.records import NONE
from experiments.output.records import RESULTS as STORED
from experiments.tables.growth import in_bytes, in_time
from experiments.tables.pages import markdown_table
from metakit.traffic import Sent

RECORD = STORED / 'computed' / 'accelerators.json'
PAGE = STORED / 'accelerators.md'
# Where a step runs: what it is called, its chip, and how many.
PLACES = (
  ('one H100', 'H100', 1),
  ('one H200', 'H200', 1),
  ('8 H100', 'H100', 8),
  ('v5e 4x4', 'v5e', 16),
  ('v5e 16x16', 'v5e', 256),
)
HEAD = """# What to expect on accelerators

Written by `python -m experiments.tables` from [accelerators.json](computed/accelerators.json).
**All of this is computed. Nothing was measured on an accelerator.** The programs of a training
step were compiled for chips of a TPU v5e (jax {jax}, libtpu {libtpu}), without such a chip:

`{command}`

The time is a bound from below, the longest of three: products at the peak of the chip, reads and
writes at the bandwidth of its memory, collectives at the bandwidth of its links (in a ring). A real
step takes longer: these three do not wholly overlap, and small operations do not reach a peak.

- Each device runs the same program. Where a number of devices was not compiled for, the row says
  whose program tells.
- Memory is that of one device: arguments, the table among them, and temporaries.
- Products are those that the step asks for, without padding. A loop counts as often as it runs.
- There was no compiler for GPUs. Their rows are of the program for v5e chips: its memory with the
  padding of TPU tiles, its reads and writes without. A compiler for GPUs fuses differently, and
  keeps less on the chip.
- Products of float32 are made of bfloat16 numbers on a TPU, and of TF32 on a GPU, as JAX does by
  default. Some arrays of the program for a v5e are bfloat16 for that reason.
"""


def chips() -> str:
  """Returns the table of what the makers say."""
  columns = (
    'chip', 'memory', 'TFLOP/s bfloat16', 'TFLOP/s float32', 'memory bandwidth', 'links', 'source'
  )  # fmt: skip
  used = dict.fromkeys(chip for _, chip, _ in PLACES)
  return markdown_table(columns, [_chip_row(CHIPS[name]) for name in used])


def _chip_row(chip: Chip) -> list[str]:
  peaks = [
    f'{chip.peaks[d] / 1e12:g}' if d in chip.peaks else NONE for d in ('bfloat16', 'float32')
  ]
  rates = [f'{each / 1e9:,g} GB/s' for each in (chip.bandwidth, chip.link)]
  return [
    chip.kind,
    f'{chip.memory / 1e9:g} GB',
    *peaks,
    *rates,
    f'[page of the maker]({chip.source})',
  ]


def least(row: Mapping[str, Any], chip: Chip) -> Bound:
  """Returns the seconds that a compiled step takes at least on such chips."""
  moved = 'moved_gb' if chip.kind.startswith('TPU') else 'moved_without_padding_gb'
  return bound(
    chip,
    row['dtype'],
    flops=1e9 * row['gflop'],
    moved=1e9 * row[moved],
    collectives={kind: Sent(*each) for kind, each in row['collectives'].items()},
    devices=row['devices'],
  )


def step(rows: Sequence[Mapping[str, Any]]) -> str:
  """Returns a step in all places that its rows were compiled for, as Markdown."""
  columns = (
    'where', 'tasks a step', 'memory of a device', 'GFLOP of a device', 'collectives',
    'products', 'memory traffic', 'links', 'a step takes at least', 'share of peak at most',
    'tasks a second at most',
  )  # fmt: skip
  lines = [
    _place_row(where, row, CHIPS[chip])
    for where, chip, devices in PLACES
    if (row := compiled(rows, devices))
  ]
  return f'## {rows[0]["step"]}\n\n{markdown_table(columns, lines)}\n'


def compiled(rows: Sequence[Mapping[str, Any]], devices: int) -> dict[str, Any] | None:
  """Returns the row of so many devices, or what it would be; None if no program tells.

  Each device runs the same program, and collectives reach all devices. So the program of another
  number above one tells, and of it one device has all but the collectives. `by` says which it was.

  >>> row = {'devices': 16, 'tasks': 32, 'collectives': {'all-reduce': [1, 8]}}
  >>> compiled([row], 256)
  {'devices': 256, 'tasks': 512, 'collectives': {'all-reduce': [1, 8]}, 'by': 16}
  >>> compiled([row], 1)['collectives'], compiled([row | {'devices': 1}], 256)
  ({}, None)
  """
  telling = [row for row in rows if row['devices'] == devices]
  telling += [row for row in rows if row['devices'] > 1]
  if not telling:
    return None
  first, by = telling[0], telling[0]['devices']
  collectives = {} if devices == 1 else first['collectives']
  tasks = first['tasks'] * devices // by
  return {**first, 'devices': devices, 'tasks': tasks, 'collectives': collectives, 'by': by}


def _place_row(where: str, row: Mapping[str, Any], chip: Chip) -> list[str]:
  seconds = least(row, chip)
  memory = (row['argument_mib'] + row['temporary_mib']) * 2**20
  sent = [
    f'{calls} {kind} of {in_bytes(size)}' for kind, (calls, size) in row['collectives'].items()
  ]
  return [
    where if row['by'] == row['devices'] else f'{where}, by the program for {row["by"]}',
    f'{row["tasks"]:,}',
    in_bytes(memory) + ('' if memory <= chip.memory else ': too large'),
    f'{row["gflop"]:,.4g}',
    ', '.join(sent) or NONE,
    *map(in_time, seconds),
    f'{in_time(max(seconds))} ({seconds.longest})',
    f'{seconds.products / max(seconds):.0%}',
    f'{row["tasks"] / max(seconds):,.0f}',
  ]


def page(record: Mapping[str, Any]) -> str:
  """Returns the page of a record of launch.accelerators."""
  together: dict[str, list[Mapping[str, Any]]] = {}
  for row in record['rows']:
    together.setdefault(row['step'], []).append(row)
  head = HEAD.format(command=record['command'], **record['versions'])
  return '\n'.join([head, f'{chips()}\n', *map(step, together.values())])


def texts(root: Path) -> dict[Path, str]:
  """Returns what the page should say.

  Raises:
    OSError: if the record cannot be read.
    ValueError: if it is no record.
  """
  return {PAGE: page(json.loads((root / RECORD).read_text('utf-8')))}
