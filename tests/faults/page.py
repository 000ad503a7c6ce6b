"""What was found: caught.json, and the page that is made of it."""

import json
from collections.abc import Mapping
from pathlib import Path

from tests.faults import AREAS
from tests.faults.planting import Outcome

KEPT = Path(__file__).with_name('caught.json')
PAGE = Path(__file__).with_name('caught.md')
HEAD = """# Faults, and the tests that catch them

Made by `python -m tests.faults --write=COLUMN` (`tests/faults/page.py`). *Before* is the code and
the tests before the house was rebuilt, *after* those since. "Found here" marks faults that no test
had caught: the test was added with them. The seconds are of all that ran until the test failed.
"""


def keep(column: str, found: Mapping[str, Outcome]) -> None:
  """Writes what was found into a column, beside what was found of other faults, and the page."""
  kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
  for name, outcome in found.items():
    test = outcome.test.removeprefix('tests/')
    kept.setdefault(name, {})[column] = {'test': test, 'seconds': round(outcome.seconds, 1)}
  names = [fault.name for faults in AREAS.values() for fault in faults]
  kept = {name: kept[name] for name in names if name in kept}
  KEPT.write_text(json.dumps(kept, indent=1) + '\n')
  PAGE.write_text(page(kept))


def page(kept: Mapping[str, Mapping[str, Mapping[str, object]]]) -> str:
  """Returns the page of what is kept."""
  lines = [HEAD, '| fault | area | tier | before | after |', '| --- | --- | --- | --- | --- |']
  for area, faults in AREAS.items():
    for fault in faults:
      columns = [cell(kept.get(fault.name, {}).get(column)) for column in ('before', 'after')]
      if fault.added:
        columns[0] = f'found here: {columns[0]}'
      lines.append(f'| {" | ".join([fault.name, area, fault.tier, *columns])} |')
  return '\n'.join(lines) + '\n'


def cell(found: Mapping[str, object] | None) -> str:
  """Returns what is said of a fault: the test that caught it, and the seconds."""
  if not found:
    return ''
  if not found['test']:
    return '**not caught**'
  test = str(found['test']).replace('|', '\\|')
  return f'`{test}` {found["seconds"]} s'
