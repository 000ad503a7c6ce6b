r"""Writes the README's results table, the scores in presets, and the tables of sweeps.

  python -m experiments.results_table           # writes them
  python -m experiments.results_table --check   # fails if they are not what the files say

A file experiments/results/*.json is a record as experiments.output.results.result_record makes it,
with 'row' (what was measured), 'published' (the paper's value in the unit of 'mean', or null) and
'status' ('measured', or 'unmeasured' for a row that waits for its device). Rows are in the order of
the file names.
A file experiments/results/sweeps/*.json is what experiments.sweep wrote, with 'row'; the tables of
all are experiments/results/sweeps.md.
"""

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from experiments.output.results import (
  format_closeness,
  format_duration,
  format_estimate,
  format_onset,
  read_results,
  write_text,
)
from experiments.tables.pages import markdown_table

ROOT = Path(__file__).parents[2]
SCORE = '#= '  # how a preset's lines begin that are written here
COLUMNS = (
  'what',
  'protocol',
  'mean ± 95% interval',
  'episodes',
  'published',
  'training time',
  'device',
  'command',
)
NONE = '-'


def render_table(records: Sequence[Mapping[str, Any]]) -> str:
  """Returns the Markdown table of some records, one row each."""
  return markdown_table(COLUMNS, map(_row, records))


def update(text: str, table: str, name: str = 'results') -> str:
  """Returns a page's text with the table between its markers, <!-- name --> and <!-- /name -->.

  Raises:
    ValueError: if the markers are not there once, in order.
  """
  begin, end = f'<!-- {name} -->', f'<!-- /{name} -->'
  if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
    raise ValueError(f'README.md needs one line {begin} and, after it, one line {end}')
  before, _, rest = text.partition(begin)
  return f'{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}'


def update_preset(text: str, records: Sequence[Mapping[str, Any]]) -> str:
  """Returns a preset's text with one line for each result measured with it, after its comments."""
  lines = [line for line in text.splitlines() if not line.startswith(SCORE)]
  comments = list(itertools.takewhile(lambda line: line.startswith('#'), lines))
  return '\n'.join([*comments, *map(_score, records), *lines[len(comments) :], ''])


def read_all(folder: Path) -> list[dict[str, Any]]:
  """Reads the records of a folder in the order of their file names.

  Raises:
    ValueError: if a file is no record, naming it.
  """
  return [read_results(path) for path in sorted(folder.glob('*.json'))]


def run(root: Path, check: bool) -> str:
  """Writes the table and the scores of the repository at `root`, or only checks them.

  Returns:
    What it did.

  Raises:
    OSError: if a file cannot be read or written.
    ValueError: if something is stale and `check`, or a record or the markers are wrong.
  """
  records = read_all(root / 'experiments' / 'results')
  texts = _updated(root, records)
  stale = [path for path, text in texts.items() if _text(path) != text]
  if check and stale:
    names = ', '.join(path.name for path in stale)
    raise ValueError(f'results are stale in {names}; run python -m experiments.results_table')
  for path in stale:
    write_text(path, texts[path])
  return f'README.md shows experiments/results, rows: {len(records)}'


def render_sweep(sweep: Mapping[str, Any]) -> str:
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
  seconds = sum({cell['width']: cell['seconds'] for cell in cells}.values())
  made = f'{episodes:,} episodes each; trained {format_duration(seconds)} on {sweep["device"]}'
  return f'## {sweep["row"]}\n\n{metric}; {made}:\n`{sweep["command"]}`\n\n{table}\n'


def render_sweeps(folder: Path) -> str:
  """Returns the page of all sweeps of a folder."""
  read = [json.loads(path.read_text(encoding='utf-8')) for path in sorted(folder.glob('*.json'))]
  return '\n'.join(['# Sweeps\n', *map(render_sweep, read)])


def _text(path: Path) -> str:
  return path.read_text(encoding='utf-8') if path.exists() else ''


def _updated(root: Path, records: Sequence[Mapping[str, Any]]) -> dict[Path, str]:
  """Returns the texts, as they should be, of README.md and the presets."""
  readme = root / 'README.md'
  texts = {readme: update(readme.read_text(encoding='utf-8'), render_table(records))}
  results = root / 'experiments' / 'results'
  if (results / 'sweeps').exists():
    texts[results / 'sweeps.md'] = render_sweeps(results / 'sweeps')
  for preset in sorted((root / 'experiments' / 'presets').glob('*.flags')):
    measured = [record for record in records if _is_trained_by(preset, record)]
    texts[preset] = update_preset(preset.read_text(encoding='utf-8'), measured)
  return texts


def _is_trained_by(preset: Path, record: Mapping[str, Any]) -> bool:
  command = record.get('training_command') or record['command']
  return _is_measured(record) and f'/{preset.name}' in command


def _is_measured(record: Mapping[str, Any]) -> bool:
  return record.get('status', 'measured') == 'measured'


def _score(record: Mapping[str, Any]) -> str:
  score = _measured(record)
  trained = f'trained {format_duration(record["train_seconds"])} on {record["device"]}'
  return f'{SCORE}{_what(record)}, {record["protocol"]}: {score} ({trained})'


def _measured(record: Mapping[str, Any]) -> str:
  score = format_estimate(record['metric'], record['mean'], record['ci95'])
  if 'beside_bayes' in record:
    score += f'; {format_closeness(record["beside_bayes"])}'
  if 'onset_step' in record:
    score += f'; {format_onset(record)}'
  return score


def _what(record: Mapping[str, Any]) -> str:
  return record.get('row') or record.get('title') or f'{record["learner"]}, {record["task"]}'


def _row(record: Mapping[str, Any]) -> list[str]:
  metric, published = record['metric'], record.get('published')
  measured, what = _is_measured(record), _what(record)
  return [
    what if metric in ('accuracy', 'loss') else f'{what} ({metric})',
    record['protocol'],
    _measured(record) if measured else 'unmeasured',
    f'{record["episodes"]:,}' if measured else NONE,
    NONE if published is None else _published(metric, published),
    format_duration(record['train_seconds']) if measured else NONE,
    record['device'] if measured else NONE,
    f'`{record["command"]}`',
  ]


def _published(metric: str, value: float) -> str:
  """Returns a published value with the digits it was given with: 0.988 is 98.8%."""
  return f'{100 * value:.6g}%' if 'accuracy' in metric else f'{value:g}'


def main(arguments: Sequence[str]) -> int:
  if len(arguments) > 1:
    raise app.UsageError(f'unknown argument {arguments[1]!r}; accepted: --check')
  try:
    print(run(ROOT, flags.FLAGS.check))
  except (OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  return 0


def command() -> None:
  """Defines the flag and runs the command."""
  flags.DEFINE_bool('check', False, 'Fail if something is stale; write nothing.')
  app.run(main)
