r"""Writes the pages and tables that are made from stored results and from the sources.

  python -m experiments.tables           # writes them
  python -m experiments.tables --check   # fails if one is not what the files say

Each module of experiments/tables that PAGES names writes one page, or several alike.
"""

from pathlib import Path

from absl import flags

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.command_line.runtime import run as run_binary
from experiments.tables import (
  accelerators,
  balance,
  benchmarks,
  growth,
  heads,
  launch,
  learners,
  library,
  presets,
  readme,
  real_tables,
  results,
  streams,
  sweeps,
  transfer,
  tricks,
  zoo,
)
from experiments.tables.pages import keep

ROOT = Path(__file__).parents[2]
PAGES = (
  readme,
  results,
  presets,
  streams,
  transfer,
  tricks,
  balance,
  sweeps,
  benchmarks,
  growth,
  accelerators,
  real_tables,
  learners,
  heads,
  library,
  launch,
  zoo,
)


def run(root: Path, check: bool) -> str:
  """Writes all pages of the repository at `root`, or only checks them; returns what it did.

  Raises:
    OSError: if a file cannot be read or written.
    ValueError: if a page is stale and `check`, or a record or a page is wrong.
  """
  texts = {path: text for page in PAGES for path, text in page.texts(root).items()}
  written = keep(root, texts, check)
  names = f': {", ".join(map(str, written))}' if written else ''
  return f'{len(texts)} files show the stored results; {len(written)} were written{names}'


def main() -> None:
  with one_line_errors(*BAD_INPUT):
    print(run(ROOT, flags.FLAGS.check))


if __name__ == '__main__':
  flags.DEFINE_bool('check', False, 'Fail if a page is stale; write nothing.')
  run_binary(main, __doc__)
