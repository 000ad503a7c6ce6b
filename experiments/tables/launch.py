"""launch/README.md: steps that were compiled for pods, and runs that were killed.

A file experiments/results/launch/preflight_*.json is what launch.preflight wrote (--json). A file
chaos*.json is what experiments.chaos wrote.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.output.records import RESULTS as STORED
from experiments.tables.pages import markdown_table, replace_between

PAGE = Path('launch') / 'README.md'
RESULTS = STORED / 'launch'
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


def texts(root: Path) -> dict[Path, str]:
  """Returns what the page should say.

  Raises:
    OSError: if a file cannot be read.
    ValueError: if the page has no place for what was measured.
  """
  text = (root / PAGE).read_text('utf-8')
  return {PAGE: replace_between(text, measured(root / RESULTS), 'results')}
