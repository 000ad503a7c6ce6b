"""Predicts a user's own examples with a trained learner: experiments/predict.py."""

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import metakit
from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.output.predictions import Predictions, as_csv, judged
from experiments.output.predictions_page import (
  MOST_CLASSES,
  MOST_OF_A_CLASS,
  MOST_QUERIES,
  Example,
  Shown,
  render,
)
from experiments.output.text import format_estimate
from experiments.runs.given import (
  PICTURES,
  ROWS,
  TEXTS,
  Expected,
  Given,
  expected,
  read_queries,
  read_support,
)
from experiments.runs.wrap_up import command_line
from metakit.data.files import listed
from metakit.data.images import decode_image
from metakit.distributed import is_first
from metakit.files import check_writable, write_text
from metakit.trained import Trained


class Options(NamedTuple):
  """The flags of the command, by their names."""

  workdir: str
  support: str
  query: str
  output: str
  label: list[str]
  overwrite: bool
  seed: int


def predict(options: Options) -> None:
  """Learns from the support, predicts the queries, and writes a CSV file and a page beside it."""
  with one_line_errors(*BAD_INPUT):
    output = Path(options.output).expanduser()
    report = check_output(output, options.overwrite)
    trained = metakit.load(options.workdir)
    takes = expected(trained, options.label)
    support = read_support(options.support, takes)
    queries = read_queries(options.query, takes, support)
    if is_first():
      print('\n'.join(understood(trained, takes, support, queries)), file=sys.stderr, flush=True)
    predictions = predictions_of(trained, takes, support, queries, seed=options.seed)
    page = render(shown_of(trained, takes, support, queries, predictions))
    write_text(report, page)
    write_text(output, as_csv(predictions))
    for line in filter(None, (judged(predictions), f'predictions: {output}', f'report: {report}')):
      print(line)


def check_output(output: Path, overwrite: bool) -> Path:
  """Returns where the page goes, beside the predictions.

  Raises:
    ValueError: if the output is no .csv file.
    OSError: if one of the two exists and is not to be overwritten, or cannot be written.
  """
  if output.suffix.lower() != '.csv':
    raise ValueError(f'--output={output} does not end in .csv; name it so')
  report = output.with_suffix('.html')
  for path in (output, report):
    if path.is_file() and not overwrite:
      raise FileExistsError(f'{path} exists; use another --output, or --overwrite')
  check_writable([output, report])
  return report


def understood(trained: Trained, takes: Expected, support: Given, queries: Given) -> Iterator[str]:
  """Yields the line that says what was understood, and one on queries that were learned from."""
  number = f'{len(support.names):,} examples'
  if takes.classifies:
    classes = sorted(set(support.y))
    number += f' of {len(classes):,} classes ({listed(classes)})'
  known = 0
  if queries.y is not None:
    known = sum(map(bool, queries.y)) if takes.classifies else len(queries.y)
  told = f', {known:,} of them with a {"class" if takes.classifies else "target"}' if known else ''
  yield (
    f'{number} in {support.where}; {len(queries.names):,} queries in {queries.where}{told}; '
    f'{name_of(trained)} on {takes.kind}, {protocol(trained)}'
  )
  if again := same_examples(takes, support, queries):
    yield f'{again:,} of the queries are examples that are learned from'


def name_of(trained: Trained) -> str:
  """Returns the name of a learner."""
  return trained.made_of.learner.partition(':')[0] if trained.made_of else 'a learner'


def protocol(trained: Trained) -> str:
  """Says whether queries are predicted together."""
  if trained.learner.queries_seen:
    return 'transductive: the prediction of a query depends on the other queries'
  return 'inductive: each query is predicted by itself'


def same_examples(takes: Expected, support: Given, queries: Given) -> int:
  """Returns how many queries are examples of the support."""

  def keys(given: Given) -> list[Any]:
    if takes.kind == PICTURES:
      return [path.resolve() for path in given.x]
    return given.x if takes.kind in (ROWS, TEXTS) else [row.tobytes() for row in given.x]

  learned = set(keys(support))
  return sum(each in learned for each in keys(queries))


def predictions_of(
  trained: Trained, takes: Expected, support: Given, queries: Given, *, seed: int
) -> Predictions:
  """Learns from the support and predicts the queries.

  Raises:
    ValueError: if the learner cannot take the examples, or predicts what is not finite.
    OSError: if a picture cannot be read.
  """
  with warnings_in_one_line():
    fitted = trained.adapt(support.x, support.y, seed=seed)
    if takes.classifies:
      columns, outputs = list(map(str, fitted.classes)), fitted.predict_proba(queries.x)
    else:
      columns, outputs = list(takes.labels), fitted.predict(queries.x).astype(np.float64)
  finite = np.isfinite(outputs).all(1)
  if not finite.all():
    raise ValueError(
      f'the prediction of {queries.names[finite.argmin()]} is not finite; scale the inputs as in '
      'training, or use another learner'
    )
  return Predictions(queries.names, columns, outputs, takes.classifies, queries.y)


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
  """Prints warnings of the library that are for users, each once and without its place."""
  with warnings.catch_warnings(record=True) as caught:
    warnings.filterwarnings('always', category=UserWarning, append=False)
    yield
  for text in dict.fromkeys(str(each.message) for each in caught):
    print(f'warning: {text}', file=sys.stderr)


def shown_of(
  trained: Trained, takes: Expected, support: Given, queries: Given, predictions: Predictions
) -> Shown:
  """Returns what the page shows; of the pictures it shows the first are read again."""
  classes = predictions.columns if takes.classifies else []
  labels = np.array(support.y)
  places = {name: np.flatnonzero(labels == name).tolist() for name in classes[:MOST_CLASSES]}
  return Shown(
    name_of(trained),
    facts_of(trained, support, queries),
    {name: examples(takes, support, at[:MOST_OF_A_CLASS]) for name, at in places.items()},
    {name: int((labels == name).sum()) for name in classes},
    examples(takes, queries, range(min(len(queries.names), MOST_QUERIES))),
    predictions,
    command_line(),
  )


def facts_of(trained: Trained, support: Given, queries: Given) -> dict[str, Any]:
  """Returns what a reader of the page should know."""
  facts = {'support': support.where, 'queries': queries.where, 'protocol': protocol(trained)}
  if trained.made_of:
    facts |= {'learner': trained.made_of.learner, 'network': trained.made_of.network}
  card = trained.card
  if 'training_task' in card:
    facts['trained on'] = card['training_task']
  if {'metric', 'mean', 'ci95', 'task'} <= set(card):
    score = format_estimate(card['metric'], card['mean'], card['ci95'])
    facts['tested'] = f'{card["metric"]} {score} on {card["task"]}'
  return facts


def examples(takes: Expected, given: Given, places: Sequence[int]) -> list[Example]:
  """Returns examples as the page shows them."""

  def content(place: int) -> Any:
    if takes.kind == PICTURES:
      return decode_image(given.x[place].read_bytes(), str(given.x[place]))
    return given.x[place] if takes.kind == TEXTS else None

  return [Example(given.names[place], content(place)) for place in places]
