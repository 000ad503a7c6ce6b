"""predictions.csv: what was predicted of each query, with a column for each class."""

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Predictions(NamedTuple):
  """Predictions of queries.

  Attributes:
    names: a name for each query.
    columns: names of the classes, or of the numbers of a target.
    outputs: probabilities [queries, classes], or numbers [queries, columns].
    classifies: whether outputs are probabilities of classes.
    truth: the class of each query, '' where it is not known; in a regression targets [queries,
      columns], NaN where they are not; None if none is known.
  """

  names: Sequence[str]
  columns: Sequence[str]
  outputs: np.ndarray
  classifies: bool = True
  truth: Any = None

  @property
  def classes(self) -> list[str]:
    """The predicted class of each query."""
    return [self.columns[each] for each in self.outputs.argmax(1)]

  @property
  def right(self) -> list[bool | None]:
    """Whether each query is of the class that was predicted; None where that is not known."""
    truth = self.truth or [''] * len(self.names)
    return [real == said if real else None for real, said in zip(truth, self.classes, strict=True)]


def as_csv(predictions: Predictions) -> str:
  """Returns the text of the file.

  >>> print(as_csv(Predictions(['a.jpg'], ['cat', 'dog'], np.array([[0.25, 0.75]]))), end='')
  query,class,probability,cat,dog
  a.jpg,dog,0.75,0.25,0.75
  """
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  if predictions.classifies:
    writer.writerow(['query', 'class', 'probability', *predictions.columns])
    for name, said, row in zip(
      predictions.names, predictions.classes, predictions.outputs, strict=True
    ):
      writer.writerow([name, said, _digits(row.max()), *map(_digits, row)])
  else:
    several = len(predictions.columns) > 1
    writer.writerow(['query', *(predictions.columns if several else ['prediction'])])
    for name, row in zip(predictions.names, predictions.outputs, strict=True):
      writer.writerow([name, *map(_digits, row)])
  return text.getvalue()


def _digits(number: float) -> str:
  return f'{number:.7g}'


def judged(predictions: Predictions) -> str:
  """Says how good predictions are, as far as the truth is known; '' if none is."""
  if predictions.truth is None:
    return ''
  if not predictions.classifies:
    error = np.square(predictions.outputs - predictions.truth)
    with_target = int((~np.isnan(error)).all(1).sum())
    return f'mean squared error {np.nanmean(error):.4g}: of {with_target:,} queries with a target'
  known = [each for each in predictions.right if each is not None]
  right = sum(known)
  return f'accuracy {100 * right / len(known):.1f}%: {right:,} of {len(known):,} queries are right'
