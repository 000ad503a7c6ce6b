r"""Writes metakit/heads/README.md: each head, and what all reach on the same features and episodes.

  python -m experiments.heads_table           # writes it
  python -m experiments.heads_table --check   # fails if it is not what the sources say

Papers are those of the files' own docstrings; numbers are those of experiments/results/heads, which
the binaries wrote that TABLES names.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.command_line.runtime import run as run_binary
from experiments.tables.comparisons import heads_table, regimes_table, sessions_table
from experiments.tables.learners_table import paper
from experiments.tables.pages import keep_page, markdown_table
from metakit import heads
from metakit.types import MetaLearner

ROOT = Path(__file__).parents[2]
PAGE = Path('metakit') / 'heads' / 'README.md'
RESULTS = Path('experiments') / 'results' / 'heads'
HEAD = """# Heads

Written by `python -m experiments.heads_table`. A head is a learner of features: one file each (some
share one), whose docstring says what of the paper is implemented, by equation, and what is not.
`metakit.learners.embedded` puts a head on a network; `--learner=NAME` trains it so, and
`experiments.compare_heads --head=NAME` compares heads on one trained network. *Transductive* heads
classify all queries of an episode together.

An episode of n examples (support and queries), N classes and d features costs n N d in the heads
that compare or descend (times their steps), n² d and n² numbers where neighbours are sought (`slk`,
`laplacian_shot`), the cube of the smaller of support and d in `ridge`, d² numbers in
`recursive_ridge` however long the stream, d³ where covariances are inverted (`discriminant`;
`mahalanobis`: for each class), and the cube of support times N in `svm`. So of a thousand times as
many classes the first and `recursive_ridge` are left, of a thousand times as many queries all but
the neighbours (32 GB at 90,000), of a thousand times as many features those without d² or d³.

"""
NONE = '-'
TABLES = {
  'experiments.compare_heads': heads_table,
  'experiments.compare_sessions': sessions_table,
  'experiments.two_regimes': regimes_table,
}


def listing() -> str:
  """Returns the table of all heads."""
  lines = []
  for name in heads.__all__:
    make = getattr(heads, name)
    lines.append([f'[{name}]({file_of(make)})', protocol_of(name), paper_of(make), what(make)])
  return markdown_table(['head', 'protocol', 'paper', 'what'], lines) + '\n'


def file_of(make: Callable[..., MetaLearner]) -> str:
  """Returns the name of the file of a head."""
  return Path(inspect.getsourcefile(make) or '').name


def paper_of(make: Callable[..., MetaLearner]) -> str:
  """Returns the first reference of a head, of its own docstring or else its file's."""
  own = paper(make.__doc__ or '')
  return paper(inspect.getmodule(make).__doc__ or '') if own == NONE else own


def what(make: Callable[..., MetaLearner]) -> str:
  """Returns the first sentence of a head's docstring."""
  return (make.__doc__ or '').partition('\n')[0].partition('. ')[0].rstrip('.')


def protocol_of(name: str) -> str:
  """Returns the protocol of a head with default arguments."""
  return "the head's" if name == 'normalised' else getattr(heads, name)(5).protocol


def results(record: Mapping[str, Any]) -> str:
  """Returns a record as Markdown, written by the binary that made it."""
  return TABLES[record['command'].split()[2]](record)


def page(root: Path) -> str:
  """Returns the text of the page.

  Raises:
    OSError: if a file cannot be read.
    ValueError: if a record is none.
  """
  paths = sorted((root / RESULTS).glob('*.json'))
  records = {path.name: json.loads(path.read_text('utf-8')) for path in paths}
  for name, record in records.items():
    if not {'row', 'cells'} <= set(record):
      raise ValueError(f'{name} lacks row or cells; add what was measured as "row"')
  return '\n'.join([HEAD + listing(), *map(results, records.values())])


def run(root: Path, check: bool) -> str:
  """Writes the page of the repository at `root`, or only checks it; returns what it did.

  Raises:
    OSError: if a file cannot be read or written.
    ValueError: if the page is stale and `check`, or a record is none.
  """
  keep_page(root, PAGE, page(root), check, 'heads_table')
  return f'{PAGE} has a row for each of {len(heads.__all__)} heads'


def main() -> None:
  with one_line_errors(*BAD_INPUT):
    print(run(ROOT, flags.FLAGS.check))


def command() -> None:
  """Defines the flag and runs the command."""
  flags.DEFINE_bool('check', False, 'Fail if the page is stale; write nothing.')
  run_binary(main, __doc__)
