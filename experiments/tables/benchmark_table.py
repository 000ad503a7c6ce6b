r"""Writes what experiments.benchmark measured: a page of all cases, and the README's short table.

  python -m experiments.benchmark_table           # writes them
  python -m experiments.benchmark_table --check   # fails if they are not what the files say

A file experiments/results/benchmarks/SUITE.json is what experiments.benchmark wrote (--output).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.command_line.runtime import run as run_binary
from experiments.tables.pages import keep_page, markdown_table
from experiments.tables.results_table import update

FASTER, LONGER = 'times as fast as', 'times as long as'
LARGER = 'times the memory of'
AT_LEAST, AT_MOST = 'at least', 'at most'
ROOTS, LOOP = 'mixed, one in 6 kept', 'PyTorch, torch.func, a loop over tasks'


class Target(NamedTuple):
  """A bound of something that a suite measures.

  Attributes:
    suite: that measures it.
    case: of the suite.
    what: a field of its row, or FASTER, LONGER, LARGER for a ratio.
    other: the case that a ratio is with.
    bound: AT_LEAST or AT_MOST.
    limit: the bound's.
  """

  suite: str
  case: str
  what: str
  other: str
  bound: str
  limit: float


ROOT = Path(__file__).parents[2]
README = Path('README.md')
RESULTS = Path('experiments') / 'results' / 'benchmarks'
PAGE = Path('experiments') / 'results' / 'benchmarks.md'
# What it is, suite, metakit's case, and what stands beside it in the same rounds.
SHOWN = (
  (
    'plan of a task, 5-way 1-shot',
    'plans',
    '5-way 1-shot',
    ('PyTorch, randperm', 'NumPy', 'jax.random.choice'),
  ),
  ('task of images, 5-way 1-shot', 'episodes', '5-way 1-shot', ('PyTorch, randperm', 'NumPy')),
  (
    'meta-gradient step of MAML, Conv4, 4 tasks',
    'meta_step',
    'second order',
    (
      'PyTorch, learn2learn form',
      'PyTorch, torch.func, vmap over tasks',
      'TorchOpt, MetaSGD',
      'grouped convolutions',
    ),
  ),
  (
    'step of prototypical networks, Conv4, 4 tasks',
    'meta_step',
    'prototypical networks',
    ('PyTorch, prototypical networks',),
  ),
  ('2,000 steps of MAML on sinusoids', 'train', 'with logs, as the binary', ('by hand: one scan',)),
  (
    '10,000 episodes of features, 20-way 5-shot',
    'evaluate',
    '20-way 5-shot',
    ('20-way 5-shot, NumPy',),
  ),
  ('1,000 episodes of PT-MAP', 'heads', 'pt_map', ('pt_map, one episode after the other',)),
  ('start', 'startup', 'import metakit', ('import jax',)),
)
# What was aimed at on two CPU cores: suite, case, what of it, beside which case, and the bound.
TARGETS = (
  Target('meta_step', 'second order', FASTER, 'PyTorch, learn2learn form', AT_LEAST, 1.6),
  Target('meta_step', 'second order', FASTER, LOOP, AT_LEAST, 1.6),
  Target('meta_step', 'second order', FASTER, 'grouped convolutions', AT_LEAST, 15),
  Target('meta_step', 'second order', LONGER, 'first order', AT_MOST, 1.35),
  Target('meta_step', 'second order', 'compile_seconds', '', AT_MOST, 15),
  Target('memory', f'{ROOTS}, 32 steps', LARGER, f'{ROOTS}, 4 steps', AT_MOST, 1.5),
  Target('memory', 'unroll, 32 steps', LARGER, f'{ROOTS}, 32 steps', AT_LEAST, 10),
  Target('plans', '5-way 1-shot', 'per_second', '', AT_LEAST, 150_000),
  Target('plans', '5-way 1-shot', FASTER, 'PyTorch, randperm', AT_LEAST, 10),
  Target('plans', '5-way 1-shot, 1,000,000 classes', LONGER, '5-way 1-shot', AT_MOST, 1.1),
  Target('episodes', '5-way 1-shot, rows of 784 bytes', 'per_second', '', AT_LEAST, 70_000),
  Target('episodes', '5-way 1-shot', 'per_second', '', AT_LEAST, 70_000),
  Target('evaluate', '20-way 5-shot', 'milliseconds', '', AT_MOST, 2000),
  Target('train', 'metakit.train_until', LONGER, 'by hand: one scan', AT_MOST, 1.03),
  Target('startup', 'a binary, to its first step', 'milliseconds', '', AT_MOST, 10_000),
  Target('heads', 'pt_map', 'milliseconds', '', AT_MOST, 10_000),
  Target('heads', 'tim', 'milliseconds', '', AT_MOST, 10_000),
)
COLUMNS = 'what', 'metakit', 'beside it: metakit is so many times as fast', 'device'
NONE = '-'
MISSED = """Why some are missed, and what was tried. These notes are typed, and of other days too
than the files from which the rest of this page is generated:

- Second over first order: the step asks for 8.66 GFLOP a task in second order and 5.81 in first
  (`metakit.costs.product_flops`), 1.49 times as many, and both run at the same
  GFLOP/s. What made the one faster made the other faster too.
- The meta-step beside PyTorch depends on the machine. On AMD EPYC it took 243, 335, 462 and 457
  ms on four days, learn2learn's form 407, 605, 628 and 661 (1.67, 1.8, 1.35 and 1.49 times), and
  it was compiled in 11 to 16 s; on Intel Xeon, above, one device takes 298 ms, two devices of the
  same two cores 270. A profile, 382 ms on AMD EPYC: matrix products 322 ms of the threads' time,
  at 108 GFLOP/s each, which is all they have; patches, padding, pooling and copies 200 ms; in the
  rest one core waits between small operations, which is what two devices make good. `remat` and
  `mixed` take more.
- Whole tasks of images: XLA copies the rows of images [28, 28, 1] by 28 bytes at a time where it
  reshapes what it gathers; rows of 784 bytes are twice as fast, and tables may hold those.
"""


def time_of(row: Mapping[str, Any]) -> str:
  """Says how long one call takes, or how many things are made in a second."""
  milliseconds = row['milliseconds'][0]
  if row['per_second'] and row['unit'] == 'episodes' and milliseconds < 1000:
    return f'{row["per_second"]:,} {row["unit"]}/s'
  return f'{milliseconds:,.0f} ms' if milliseconds < 2000 else f'{milliseconds / 1000:,.1f} s'


def times_as_fast(rows: Mapping[str, Mapping[str, Any]], own: str, other: str) -> float:
  """Returns how many times as fast a case is as another that it was compared with.

  Raises:
    ValueError: if neither is the other's baseline.
  """
  if rows[own].get('baseline') == other:
    return rows[own]['ratio'][0]
  if rows[other].get('baseline') == own:
    return 1 / rows[other]['ratio'][0]
  raise ValueError(f'{own} and {other} were not compared')


def short(records: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns the README's table."""
  lines = []
  for what, suite, own, others in SHOWN:
    if suite not in records:
      continue
    rows = {row['name']: row for row in records[suite]['rows']}
    there = [other for other in others if other in rows]
    beside = [
      f'{other}: {time_of(rows[other])}, {times_as_fast(rows, own, other):.3g} x' for other in there
    ]
    lines.append([what, time_of(rows[own]), '; '.join(beside), records[suite]['device']])
  return markdown_table(
    ['what', 'metakit', 'beside it: metakit is so many times as fast', 'device'], lines
  )


def page(records: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns the page of all cases."""
  parts = '# Benchmarks\n', targets(records), *(suite(name, each) for name, each in records.items())
  return '\n'.join(parts)


def targets(records: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns what was aimed at beside what is measured, as Markdown, and why aims are missed.

  Ratios of times are those of the medians over rounds.
  """
  columns = ['suite', 'case', 'aim', 'measured', '']
  lines = [_target_row(target, records) for target in TARGETS if target.suite in records]
  return f'## Aims on two CPU cores\n\n{markdown_table(columns, lines)}\n\n{MISSED}'


def _target_row(target: Target, records: Mapping[str, Mapping[str, Any]]) -> list[str]:
  rows = {row['name']: row for row in records[target.suite]['rows']}
  aim = f'{target.bound} {target.limit:,g} {target.what.replace("_", " ")}'
  aim += f' {target.other}' if target.other else ''
  if not {target.case, target.other or target.case} <= rows.keys():
    return [target.suite, target.case, aim, 'unmeasured', '']
  value = measured(target, rows)
  met = value >= target.limit if target.bound == AT_LEAST else value <= target.limit
  return [target.suite, target.case, aim, f'{value:,.4g}', 'met' if met else 'missed']


def measured(target: Target, rows: Mapping[str, Mapping[str, Any]]) -> float:
  """Returns the number that a target bounds."""
  own, other = rows[target.case], rows.get(target.other, {})
  if target.what == FASTER:
    return times_as_fast(rows, target.case, target.other)
  if target.what == LONGER:
    return 1 / times_as_fast(rows, target.case, target.other)
  if target.what == LARGER:
    return own['temporary_mib'] / other['temporary_mib']
  return float(np.ravel(own[target.what])[0])


def suite(name: str, record: Mapping[str, Any]) -> str:
  """Returns a suite as Markdown, a row a case."""
  columns = ['case', 'median ms (quartiles)', 'a second', 'MiB', 'as fast as']
  table = markdown_table(columns, map(_row, record['rows']))
  jax, python = record['versions']['jax'], record['versions']['python']
  made = f'{record["repeats"]} rounds on {record["device"]}, jax {jax}, Python {python}'
  made += f', {record["threads"]} threads' if 'threads' in record else ''
  figure = f'![How long each case takes]({RESULTS.name}/{name}.svg)'
  return f'## {name}\n\n{made}:\n`{record["command"]}`\n\n{table}\n\n{figure}\n'


def _row(row: Mapping[str, Any]) -> list[str]:
  if row['milliseconds'] is None:
    return [row['name'], 'not run: too large', NONE, f'{row["temporary_mib"]:g}', NONE]
  median, low, high = (f'{value:,.4g}' for value in row['milliseconds'])
  rate = f'{row["per_second"]:,} {row["unit"]}' if row['per_second'] else NONE
  memory = f'{row["temporary_mib"]:g}' if row['temporary_mib'] else NONE
  ratio = NONE
  if row.get('ratio'):
    ratio = f'{row["ratio"][0]:.3g} x {row["baseline"]}'
  return [row['name'], f'{median} ({low} to {high})', rate, memory, ratio]


def run(root: Path, check: bool) -> str:
  """Writes page and table of the repository at `root`, or only checks them; returns what it did.

  Raises:
    OSError: if a file cannot be read or written.
    ValueError: if one is stale and `check`, or a record is none.
  """
  paths = sorted((root / RESULTS).glob('*.json'))
  records = {path.stem: json.loads(path.read_text('utf-8')) for path in paths}
  keep_page(root, PAGE, page(records), check, 'benchmark_table')
  text = update((root / README).read_text('utf-8'), short(records), 'performance')
  keep_page(root, README, text, check, 'benchmark_table')
  return f'{PAGE} and {README} show the suites {", ".join(records)}'


def main() -> None:
  with one_line_errors(*BAD_INPUT):
    print(run(ROOT, flags.FLAGS.check))


def command() -> None:
  """Defines the flag and runs the command."""
  flags.DEFINE_bool('check', False, 'Fail if a table is stale; write nothing.')
  run_binary(main, __doc__)
