"""experiments/results/tricks.md: what each trick changes when new classes come in sessions.

A file experiments/results/tricks/NAME.json is what experiments.tricks wrote, with what was
measured, in a few words, as 'row'.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.output.records import RESULTS as STORED
from experiments.output.records import device
from experiments.output.tricks import BASELINE, after, over_seeds, paired
from experiments.tables.pages import markdown_table, page_of_records
from metakit.episodes.class_incremental import Sessions

RESULTS = STORED / 'tricks'
PAGE = STORED / 'tricks.md'
HEAD = """# Tricks for new classes in sessions

Written by `python -m experiments.tables` from the files in [tricks](tricks), which
`experiments.tricks` wrote. The baseline is a network that is trained on the base classes and then
frozen; later classes are known by their means. Each set of tricks is added to it and compared on
the same streams, seed by seed. Numbers are points of percent; after ± is half of the 95% interval
over seeds, by Student's t. The sign of an effect is 0 if its interval holds 0.
"""
MEASURES = 'base', 'novel', 'harmonic', 'forgetting'


def texts(root: Path) -> dict[Path, str]:
  """Returns what the page should say; nothing where there are no records.

  Raises:
    OSError: if a file cannot be read.
    ValueError: if a file does not say what was measured ('row').
  """
  return page_of_records(root, RESULTS, PAGE, head=HEAD, section=section)


def section(name: str, record: Mapping[str, Any]) -> str:
  """Returns a record as Markdown."""
  del name
  sizes = Sessions(**record['sizes'])
  cells = {cell['tricks']: cell for cell in record['cells']}
  baseline = cells[BASELINE]
  seeds = len(baseline['seeds'])
  text = (
    f'## {record["row"]}\n\n`{record["task"]}`, network `{record["network"]}`, '
    f'{record["steps"]} steps, {seeds} seeds of {record["streams"]} streams each, on '
    f'{device(record)}. A stream has {sizes.base_ways} base classes of {sizes.base_shots} '
    f'examples, then {sizes.number} sessions of {sizes.ways} classes of {sizes.shots} examples.\n\n'
    'After the last session:\n\n'
  )
  effects = markdown_table(
    ['tricks', *MEASURES, 'processor seconds'],
    [
      row(baseline, [mean_of(baseline, measure) for measure in MEASURES]),
      *(
        row(cell, [paired(cell, baseline, measure).text for measure in MEASURES])
        for each, cell in cells.items()
        if each != BASELINE
      ),
    ],
  )
  sessions = '\n\n'.join(
    f'{measure.capitalize()} accuracy after each session:\n\n{by_session(cells, measure, sizes)}'
    for measure in ('base', 'novel', 'harmonic')
  )
  return f'{text}{effects}\n\n{sessions}\n\n`{record["command"]}`\n'


def row(cell: Mapping[str, Any], shown: Sequence[str]) -> list[str]:
  """Returns a row of the first table."""
  seconds = sum(values['processor_seconds'] for values in cell['seeds'].values())
  return [cell['tricks'], *shown, f'{seconds:.0f}']


def mean_of(cell: Mapping[str, Any], measure: str, session: int = -1) -> str:
  """Returns a mean over seeds with its interval."""
  found = over_seeds([after(values, measure, session) for values in cell['seeds'].values()])
  return f'{100 * found.mean:.1f} ± {100 * found.ci95:.1f}'


def by_session(cells: Mapping[str, Mapping[str, Any]], measure: str, sizes: Sessions) -> str:
  """Returns a row for each set of tricks, and a column for each session."""
  which = range(1 if measure == 'novel' else 0, sizes.number + 1)  # before there is no new class
  rows = [
    [name, *(mean_of(cell, measure, session) for session in which)] for name, cell in cells.items()
  ]
  return markdown_table(['tricks', *map(str, which)], rows)
