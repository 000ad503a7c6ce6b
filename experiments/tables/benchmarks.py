"""experiments/results/benchmarks.md: what experiments.benchmark measured, and what was aimed at.

A file experiments/results/benchmarks/SUITE.json is what experiments.benchmark wrote (--output).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.running import SUITES
from experiments.benchmarks.suite import AT_LEAST, FASTER, LARGER, LONGER, Aim
from experiments.output.records import NONE, read_folder
from experiments.output.records import RESULTS as STORED
from experiments.tables.pages import markdown_table

RESULTS = STORED / 'benchmarks'
PAGE = STORED / 'benchmarks.md'
HEAD = """# Benchmarks

Written by `python -m experiments.tables` from the files in [benchmarks](benchmarks), which
`experiments.benchmark` wrote. Cases of a suite ran in turns, and those that are compared computed
the same, or it is said how many of their answers are the same. A ratio is the median over rounds.
"""
MISSED = """### Why some aims are missed

These notes are typed, and come from other days than the files from which the rest of this page is
generated.

**Second order against first order.** A meta-step asks for 8.66 GFLOP a task in second order and for
5.81 in first order (`product_flops` counts them): 1.49 times as many. Both run at the same GFLOP/s.
What made one faster made the other faster too.

**The meta-step beside PyTorch.** The ratio depends on the machine:

| machine | metakit | PyTorch, learn2learn form | metakit is so many times as fast |
| --- | --- | --- | --- |
| AMD EPYC, one day | 243 ms | 407 ms | 1.67 |
| AMD EPYC, another day | 335 ms | 605 ms | 1.8 |
| AMD EPYC, a third day | 462 ms | 628 ms | 1.35 |
| AMD EPYC, a fourth day | 457 ms | 661 ms | 1.49 |
| Intel Xeon, one device | 298 ms | - | - |
| Intel Xeon, two devices on the same two cores | 270 ms | 485 ms | 1.82 |

On AMD EPYC the step was compiled in 11 to 16 s.

A profile of a step of 382 ms on AMD EPYC shows where the time goes:

| what | time of the threads |
| --- | --- |
| matrix products, at 108 GFLOP/s a thread, which is all a core has | 322 ms |
| patches, padding, pooling and copies | 200 ms |
| one core waits between small operations | the rest |

Two devices use the time of waiting. `remat` and `mixed` take more time.

**The simplest heads beside EasyFSL's.** Those that do not iterate, and LaplacianShot, are about 3
times as fast on 20 episodes, and those that iterate 15 to 150 times. The former were not profiled.

**A transformer beside PyTorch's.** Both train at 117 to 140 GFLOP/s on the same tokens. With `scan`
and `remat` together a step is faster than either; why was not looked into.
"""


def time_of(row: Mapping[str, Any]) -> str:
  """Says how long one call takes, or how many episodes are made in a second."""
  if row['per_second'] and row['unit'] == 'episodes' and row['milliseconds'][0] < 1000:
    return f'{row["per_second"]:,} {row["unit"]}/s'
  return in_milliseconds(row)


def in_milliseconds(row: Mapping[str, Any]) -> str:
  """Says how long one call takes."""
  milliseconds = row['milliseconds'][0]
  return f'{milliseconds:,.0f} ms' if milliseconds < 2000 else f'{milliseconds / 1000:,.1f} s'


def times_as_fast(rows: Mapping[str, Mapping[str, Any]], case: str, other: str) -> float:
  """Returns how many times as fast a case is as another that it was compared with.

  Raises:
    ValueError: if neither is the other's baseline.
  """
  if rows[case].get('baseline') == other:
    return rows[case]['ratio'][0]
  if rows[other].get('baseline') == case:
    return 1 / rows[other]['ratio'][0]
  raise ValueError(f'{case} and {other} were not compared')


def aims(records: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns what was aimed at beside what is measured, as Markdown, and why aims are missed.

  Ratios of times are those of the medians over rounds.
  """
  columns = ['suite', 'case', 'aim', 'measured', '']
  lines = [
    _aim_row(name, aim, records[name]['rows'])
    for name, suite in SUITES.items()
    for aim in suite.aims
    if name in records
  ]
  return f'## Aims on two CPU cores\n\n{markdown_table(columns, lines)}\n\n{MISSED}'


def _aim_row(suite: str, aim: Aim, measured_rows: Sequence[Mapping[str, Any]]) -> list[str]:
  rows = {row['name']: row for row in measured_rows}
  said = f'{aim.bound} {aim.limit:,g} {aim.what.replace("_", " ")}'
  said += f' {aim.other}' if aim.other else ''
  if not {aim.case, aim.other or aim.case} <= rows.keys():
    return [suite, aim.case, said, 'unmeasured', '']
  value = measured(aim, rows)
  met = value >= aim.limit if aim.bound == AT_LEAST else value <= aim.limit
  return [suite, aim.case, said, f'{value:,.4g}', 'met' if met else 'missed']


def measured(aim: Aim, rows: Mapping[str, Mapping[str, Any]]) -> float:
  """Returns the number that an aim bounds."""
  case, other = rows[aim.case], rows.get(aim.other, {})
  if aim.what == FASTER:
    return times_as_fast(rows, aim.case, aim.other)
  if aim.what == LONGER:
    return 1 / times_as_fast(rows, aim.case, aim.other)
  if aim.what == LARGER:
    return case['temporary_mib'] / other['temporary_mib']
  return float(np.ravel(case[aim.what])[0])


def suite(name: str, record: Mapping[str, Any]) -> str:
  """Returns a suite as Markdown, with a row for each case."""
  columns = ['case', 'median ms (quartiles)', 'a second', 'MiB', 'as fast as']
  table = markdown_table(columns, map(_row, record['rows']))
  jax, python = record['versions']['jax'], record['versions']['python']
  how = f'{record["repeats"]} rounds on {record["device"]}, jax {jax}, Python {python}'
  how += f', {record["threads"]} threads' if 'threads' in record else ''
  figure = f'![How long each case takes]({RESULTS.name}/{name}.svg)'
  return f'## {name}\n\n{how}.\n\n{table}\n\n{figure}\n\n`{record["command"]}`\n'


def _row(row: Mapping[str, Any]) -> list[str]:
  if row['milliseconds'] is None:
    return [row['name'], 'not run: too large', NONE, f'{row["temporary_mib"]:g}', NONE]
  median, low, high = (f'{value:,.4g}' for value in row['milliseconds'])
  rate = f'{row["per_second"]:,} {row["unit"]}' if row['per_second'] else NONE
  memory = f'{row["temporary_mib"]:g}' if row['temporary_mib'] else NONE
  ratio = NONE
  if row.get('ratio'):
    ratio = f'{row["ratio"][0]:.3g} x {row["baseline"]}'
  if 'agreement' in row:
    ratio += f'; {100 * row["agreement"]:.4g}% the same answers'
  return [row['name'], f'{median} ({low} to {high})', rate, memory, ratio]


def texts(root: Path) -> dict[Path, str]:
  """Returns what the page should say.

  Raises:
    OSError: if a file cannot be read.
    ValueError: if a file is no record.
  """
  suites = read_folder(root / RESULTS)
  parts = HEAD, aims(suites), *(suite(name, each) for name, each in suites.items())
  return {PAGE: '\n'.join(parts)}
