r"""Writes what was measured into launch/README.md: steps compiled for pods, runs that were killed.

  python -m experiments.launch_table           # writes it
  python -m experiments.launch_table --check   # fails if it is not what the files say

A file experiments/results/launch/preflight_*.json is what launch.preflight wrote (--json), a file
chaos*.json what experiments.chaos wrote.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.command_line.runtime import run as run_binary
from experiments.tables.pages import keep_page, markdown_table
from experiments.tables.results_table import update

ROOT = Path(__file__).parents[2]
PAGE = Path('launch') / 'README.md'
RESULTS = Path('experiments') / 'results' / 'launch'
SHOWN = ('MiB of arguments', 'MiB of temporaries', 'GFLOP asked for, a chip and step')
COLUMNS = ('preset', 'pod', 'tasks per step', *SHOWN, 'collectives of a step')


def preflights(records: Iterable[Mapping[str, Any]]) -> str:
  """Returns the table of the steps that were compiled for a pod."""
  return markdown_table(COLUMNS, map(_preflight, records))


def _preflight(record: Mapping[str, Any]) -> list[str]:
  preset = re.findall(r'presets/(\w+)\.flags', record['command'])
  tasks = record['tasks per chip and step'] * record['chips']
  collectives = ', '.join(f'{number} {name}' for name, number in record['collectives'].items())
  sizes = [f'{record[name]:g}' for name in SHOWN]
  return [' '.join(preset), record['topology'], f'{tasks:,}', *sizes, collectives]


def chaos(record: Mapping[str, Any]) -> str:
  """Says how often runs were killed, and how often they ended differently."""
  seen = dict(record['seen'])
  different = seen.pop('runs that ended differently')
  hits = sum(number for what, number in seen.items() if what.startswith('SIG'))
  each = ', '.join(f'{number} {what}' for what, number in seen.items())
  return (
    f'`{record["command"]}` on {record["device"]}: {record["runs"]} runs of '
    f'{record["processes"]} process{"es" if record["processes"] > 1 else ""} each, '
    f'hit {hits} times ({each}); {different} ended otherwise than the undisturbed run, '
    'compared bit by bit.'
  )


def measured(folder: Path) -> str:
  """Returns what is between the markers of the page.

  Raises:
    OSError: if a file cannot be read.
    ValueError: if one is no record.
  """
  read = lambda name: [json.loads(p.read_text('utf-8')) for p in sorted(folder.glob(name))]
  return '\n\n'.join([preflights(read('preflight_*.json')), *map(chaos, read('chaos*.json'))])


def run(root: Path, check: bool) -> str:
  """Writes the page of the repository at `root`, or only checks it; returns what it did.

  Raises:
    OSError: if a file cannot be read or written.
    ValueError: if the page is stale and `check`, or has no place for what was measured.
  """
  text = update((root / PAGE).read_text('utf-8'), measured(root / RESULTS))
  keep_page(root, PAGE, text, check, 'launch_table')
  return f'{PAGE} shows {RESULTS}'


def main() -> None:
  with one_line_errors(*BAD_INPUT):
    print(run(ROOT, flags.FLAGS.check))


def command() -> None:
  """Defines the flag and runs the command."""
  flags.DEFINE_bool('check', False, 'Fail if the page is stale; write nothing.')
  run_binary(main, __doc__)
