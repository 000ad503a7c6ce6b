"""README.md: ten headline results and the short table of speed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.output.records import (
  RESULTS,
  Record,
  device,
  published,
  read_folder,
  read_records,
  score,
  training_time,
)
from experiments.output.text import format_closeness
from experiments.tables.benchmarks import RESULTS as BENCHMARKS
from experiments.tables.benchmarks import in_milliseconds, time_of, times_as_fast
from experiments.tables.pages import markdown_table, replace_between

PAGE = Path('README.md')
# What is measured, and the file in experiments/results that holds it.
HEADLINES = {
  'Omniglot 5-way 1-shot, prototypical networks': 'omniglot_5way_1shot_prototypical_inductive',
  'Omniglot 20-way 1-shot, prototypical networks': 'omniglot_20way_1shot_prototypical_inductive',
  'Omniglot 5-way 1-shot, MAML': 'omniglot_5way_1shot_maml_second_order',
  'Omniglot 5-way 1-shot, MAML++': 'omniglot_5way_1shot_maml_plus_plus',
  'Omniglot 5-way 1-shot, Reptile': 'omniglot_5way_1shot_reptile',
  'Omniglot 5-way 1-shot, trained on drawn glyphs alone': (
    'glyphs_to_omniglot_5way_1shot_prototypical'
  ),
  'CLINC150 5-way 1-shot, intents of unseen domains': 'clinc150_5way_1shot_prototypical',
  'MNIST in context, unseen tasks, 99 examples': 'in_context_gpicl_mnist',
  'Linear regression in context, 16 examples, squared error': 'in_context_dense_d8',
  'Sinusoids 10-shot, MAML after one step, squared error': 'sinusoid_10shot_maml_01_step',
}


class Speed(NamedTuple):
  """A row of the table of speed.

  Attributes:
    what: what the row shows.
    suite: suite of the benchmark.
    case: metakit's case of that suite.
    other: the case that ran in the same rounds.
    named: what the table calls the other case.
  """

  what: str
  suite: str
  case: str
  other: str
  named: str


SPEED = (
  Speed('draw a 5-way 1-shot task', 'plans', '5-way 1-shot', 'PyTorch, randperm', 'PyTorch'),
  Speed('the same with its images', 'episodes', '5-way 1-shot', 'PyTorch, randperm', 'PyTorch'),
  Speed(
    'meta-gradient of MAML, Conv4, 4 tasks',
    'meta_step',
    'second order',
    'PyTorch, learn2learn form',
    'PyTorch, as learn2learn',
  ),
  Speed('the same', 'meta_step', 'second order', 'learn2learn, MAML', 'learn2learn'),
  Speed('the same', 'meta_step', 'second order', 'TorchOpt, MetaSGD', 'TorchOpt'),
  Speed(
    'step of prototypical networks, Conv4, 4 tasks',
    'meta_step',
    'prototypical networks',
    'PyTorch, prototypical networks',
    'PyTorch',
  ),
  Speed(
    'step of a transformer in context',
    'in_context',
    'train, pairs',
    'PyTorch, pairs',
    'PyTorch',
  ),
  Speed(
    'nearest class means of 20 episodes',
    'peers',
    'prototypes',
    'EasyFSL, PrototypicalNetworks',
    'EasyFSL',
  ),
  Speed(
    'logistic regression of 20 episodes',
    'peers',
    'logistic',
    'scikit-learn, LogisticRegression',
    'scikit-learn',
  ),
  Speed(
    '2,000 steps of MAML on sinusoids, with logs',
    'train',
    'with logs, as the binary',
    'by hand: one scan',
    'JAX by hand, one scan',
  ),
  Speed(
    'test 20-way 5-shot on features',
    'evaluate',
    '20-way 5-shot',
    '20-way 5-shot, NumPy',
    'NumPy',
  ),
  Speed('import, JAX included', 'startup', 'import metakit', 'import jax', 'JAX alone'),
)


def texts(root: Path) -> dict[Path, str]:
  """Returns what the page should say.

  Raises:
    OSError: if a file cannot be read.
    ValueError: if a file is no record, or the page has no place for a table.
  """
  text = (root / PAGE).read_text('utf-8')
  text = replace_between(text, headlines(read_records(root)), 'results')
  return {PAGE: replace_between(text, speed(read_folder(root / BENCHMARKS)), 'performance')}


def headlines(records: Mapping[str, Record]) -> str:
  """Returns the table of headline results, of those that are there."""
  rows = [
    _headline(words, name, records[name]) for words, name in HEADLINES.items() if name in records
  ]
  return markdown_table(['what', 'score', 'published', 'trained in', 'protocol'], rows)


def _headline(words: str, name: str, record: Record) -> list[str]:
  link = f'[{score(record)}]({RESULTS}/{name}.json)'
  if 'beside_bayes' in record:
    link += f'; {format_closeness(record["beside_bayes"]).partition(" (")[0]}'
  return [words, link, published(record), training_time(record), record['protocol']]


def speed(suites: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns the table of speed, of the suites and cases that are there."""
  lines = []
  for row in SPEED:
    if row.suite not in suites:
      continue
    cases = {case['name']: case for case in suites[row.suite]['rows']}
    if not {row.case, row.other} <= cases.keys():
      continue
    ours, other = alike(cases[row.case], cases[row.other])
    ratio = f'{times_as_fast(cases, row.case, row.other):.3g}'
    lines.append([row.what, ours, f'{row.named}: {other}', ratio, device(suites[row.suite])])
  columns = ['what', 'metakit', 'beside it', 'metakit is so many times as fast', 'device']
  return markdown_table(columns, lines)


def alike(ours: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, str]:
  """Says how long two cases take, in the same unit."""
  shown = time_of(ours), time_of(other)
  if len({each.endswith('/s') for each in shown}) == 1:
    return shown
  return in_milliseconds(ours), in_milliseconds(other)
