"""experiments/results/sweeps.md: tables over numbers of tasks and widths of the network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.output.records import RESULTS, device, read_folder
from experiments.output.text import format_duration, format_estimate
from experiments.tables.pages import markdown_table

PAGE = RESULTS / 'sweeps.md'
HEAD = """# Sweeps

Written by `python -m experiments.tables` from the files in [sweeps](sweeps), which
`experiments.sweep` wrote.
"""


def texts(root: Path) -> dict[Path, str]:
  """Returns what the page should say; nothing where there are no sweeps.

  Raises:
    OSError: if a file cannot be read.
    ValueError: if a file does not say what it shows ('row').
  """
  sweeps = read_folder(root / RESULTS / 'sweeps')
  return {PAGE: '\n'.join([HEAD, *map(section, sweeps.values())])} if sweeps else {}


def section(sweep: Mapping[str, Any]) -> str:
  """Returns a sweep as Markdown: a row for each width and number of tasks."""
  if 'row' not in sweep:
    raise ValueError(f'the sweep {sweep.get("command")} has no row; add what it shows')
  cells, metric = sweep['cells'], sweep['metric']
  names = [name for name, value in cells[0].items() if isinstance(value, dict)]
  lines = []
  for cell in cells:
    scores = [format_estimate(metric, cell[n]['mean'], cell[n]['ci95']) for n in names]
    lines.append([str(cell['width']), f'{cell["parameters"]:,}', f'{cell["tasks"]:,}', *scores])
  table = markdown_table(['width', 'parameters', 'tasks', *names], lines)
  episodes = cells[0][names[0]]['episodes']
  trained = f'trained in {format_duration(seconds(sweep))} on {device(sweep)}'
  how = f'Shown: {metric}, over {episodes:,} test episodes each; {trained}.'
  return f'## {sweep["row"]}\n\n{how}\n\n{table}\n\n`{sweep["command"]}`\n'


def seconds(sweep: Mapping[str, Any]) -> float:
  """Returns how long a sweep trained: each width once, for all its numbers of tasks."""
  return sum({cell['width']: cell['seconds'] for cell in sweep['cells']}.values())
