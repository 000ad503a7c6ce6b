"""metakit/heads/README.md: each head, and what all reach on the same features and episodes.

Papers are those of the files' docstrings. Numbers are those of experiments/results/heads, which the
commands wrote that TABLES names.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.output.records import NONE, read_folder
from experiments.output.records import RESULTS as STORED
from experiments.tables import comparisons
from experiments.tables.learners import paper
from experiments.tables.pages import markdown_table
from metakit import heads
from metakit.types import MetaLearner

PAGE = Path('metakit') / 'heads' / 'README.md'
RESULTS = STORED / 'heads'
HEAD = """# Heads

Written by `python -m experiments.tables`. A head is a learner of features. Each is one file (some
share one), whose docstring says what of the paper is implemented, by equation, and what is not.

- `metakit.learners.embedded` puts a head on a network, and `--learner=NAME` trains both.
- `experiments.compare_heads --head=NAME` compares heads on one trained network.
- *Transductive* heads classify all queries of an episode together.

What an episode costs, with n examples (support and queries), N classes and d features:

| heads | time and memory grow with |
| --- | --- |
| those that compare with classes, or descend | n N d, times the steps |
| `slk`, `laplacian_shot`, which look for neighbours | n² d, and n² numbers |
| `ridge` | the cube of the smaller of support and d |
| `recursive_ridge` | d² numbers, however long the stream |
| `discriminant` | d³, to invert covariances |
| `mahalanobis` | d³ for each class |
| `svm` | the cube of support; where many examples overlap, that times N |

So these remain usable:

- with a thousand times as many classes: the first row and `recursive_ridge`;
- with a thousand times as many queries: all but those that look for neighbours (32 GB at 90,000
  queries);
- with a thousand times as many features: those without d² or d³.

"""
TABLES = {
  'experiments.compare_heads': comparisons.on_tasks,
  'experiments.compare_sessions': comparisons.on_sessions,
  'experiments.two_regimes': comparisons.on_regimes,
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
  cited = paper(make.__doc__ or '')
  return paper(inspect.getmodule(make).__doc__ or '') if cited == NONE else cited


def what(make: Callable[..., MetaLearner]) -> str:
  """Returns the first sentence of a head's docstring."""
  return (make.__doc__ or '').partition('\n')[0].partition('. ')[0].rstrip('.')


def protocol_of(name: str) -> str:
  """Returns the protocol of a head with default arguments."""
  return "the head's" if name == 'normalised' else getattr(heads, name)(5).protocol


def results(record: Mapping[str, Any]) -> str:
  """Returns a record as Markdown, written by the binary that made it."""
  return TABLES[record['command'].split()[2]](record)


def texts(root: Path) -> dict[Path, str]:
  """Returns what the page should say.

  Raises:
    OSError: if a file cannot be read.
    ValueError: if a file is no record.
  """
  records = read_folder(root / RESULTS)
  for name, record in records.items():
    if not {'row', 'cells'} <= set(record):
      raise ValueError(f'{name}.json lacks row or cells; add what was measured as "row"')
  return {PAGE: '\n'.join([HEAD + listing(), *map(results, records.values())])}
