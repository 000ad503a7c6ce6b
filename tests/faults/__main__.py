"""Plants each fault of tests/faults, one at a time, and says which test catches it.

  python -m tests.faults [--only=REGEX] [--area=heads,data] [--jobs=2] [--write=before]

The checkout is copied, and the copies are changed. First the tests run without any fault. The exit
status is 1 if a test fails then, or a fault is not caught. --write keeps what was found in a column
of tests/faults/caught.json, from which caught.md is made.
"""

import argparse
import os
import re
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from tests.faults import AREAS
from tests.faults.fault import Fault
from tests.faults.page import keep
from tests.faults.planting import Outcome, Run, copies, run_all

REPOSITORY = Path(__file__).parents[2]
# Read when JAX is imported. Most of the programs are those without a fault, and compiled once.
BEFORE_JAX = {
  'JAX_PLATFORMS': 'cpu',
  'JAX_COMPILATION_CACHE_DIR': str(REPOSITORY / '.pytest_cache' / 'faults' / 'programs'),
  'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
}


def chosen(only: str, areas: str) -> dict[str, list[Fault]]:
  """Returns the faults that are asked for, by area."""
  wanted = areas.split(',') if areas else list(AREAS)
  found = {area: [f for f in AREAS[area] if re.search(only, f.name)] for area in wanted}
  return {area: faults for area, faults in found.items() if faults}


def unplanted(faults: list[Fault]) -> list[Run]:
  """Returns the runs of all their tests without any fault, a run for each file and tier."""
  tests = defaultdict(dict)
  for fault in faults:
    for test in fault.tests.split():
      tests[fault.tier, test.partition('::')[0]][test] = None
  return [Run(None, tuple(each), tier) for (tier, _), each in tests.items()]


def planted(faults: list[Fault]) -> list[Run]:
  """Returns a run for each fault, those with the same tests one after the other."""
  runs = [Run(fault, tuple(fault.tests.split()), fault.tier) for fault in faults]
  return sorted(runs, key=lambda run: run.tests)


def say(run: Run, outcome: Outcome) -> None:
  """Prints a line, and what the tests said where it should be another."""
  name = run.fault.name if run.fault else f'no fault, {run.tests[0].partition("::")[0]}'
  what = outcome.test or ('passed' if outcome.passed else 'did not run to their end')
  print(f'{outcome.seconds:6.1f} s  {name}: {what}', flush=True)
  if not outcome.right(run):
    print(outcome.said[-3000:], flush=True)


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--only', default='', help='regular expression, of names of faults')
  parser.add_argument('--area', default='', help=f'of {", ".join(AREAS)}; several with commas')
  parser.add_argument('--jobs', type=int, default=1, help='copies of the checkout')
  parser.add_argument('--write', default='', help='column of caught.json, such as before')
  given = parser.parse_args()
  areas = chosen(given.only, given.area)
  faults = [fault for each in areas.values() for fault in each]
  wrong, found = 0, {}
  with tempfile.TemporaryDirectory(prefix='faults-') as folder:
    trees = copies(REPOSITORY, Path(folder), given.jobs)
    for runs in (unplanted(faults), planted(faults)):
      for run, outcome in run_all(runs, trees):
        say(run, outcome)
        wrong += not outcome.right(run)
        if run.fault:
          found[run.fault.name] = outcome
  print(f'{len(faults)} faults, {sum(map(bool, (o.test for o in found.values())))} caught')
  if given.write:
    keep(given.write, found)
  return int(wrong > 0)


if __name__ == '__main__':
  for name, value in BEFORE_JAX.items():
    os.environ.setdefault(name, value)
  sys.exit(main())
