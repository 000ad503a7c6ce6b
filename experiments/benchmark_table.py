r"""Writes what experiments.benchmark measured: a page of all cases, and the README's short table.

  python -m experiments.benchmark_table           # writes them
  python -m experiments.benchmark_table --check   # fails if they are not what the files say

A file experiments/results/benchmarks/SUITE.json is what experiments.benchmark wrote (--output).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from experiments.pages import keep_page, markdown_table
from experiments.results_table import update
from experiments.runtime import BAD_INPUT, one_line_errors
from experiments.runtime import run as run_binary

ROOT = Path(__file__).parents[1]
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
COLUMNS = 'what', 'metakit', 'beside it: metakit is so many times as fast', 'device'
NONE = '-'


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
  return '\n'.join(['# Benchmarks\n', *(suite(name, each) for name, each in records.items())])


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


if __name__ == '__main__':
  flags.DEFINE_bool('check', False, 'Fail if a table is stale; write nothing.')
  run_binary(main, __doc__)
