"""What a learner sees of a table: some rows and columns, scaled, and filled up to few shapes.

A prediction is the mean of those from several views. So tables that are larger than what the
learner was trained on are seen in parts, and smaller ones from several sides.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from sklearn.preprocessing import QuantileTransformer

from metakit.keys import fixed_key, learner_key
from metakit.trained.trained import Trained
from metakit.types import Examples

FEWEST_ROWS, FEWEST_COLUMNS, FEWEST_CLASSES = 16, 5, 2
QUERIES = 128  # rows that are predicted at once, always as many, so that others change nothing
HALVES = 128  # from here on there is a size between two powers of two
FAR = 1e6  # deviations: a number farther off is put there
QUANTILES = 1000


class Scaling(NamedTuple):
  """How numbers of columns are scaled.

  Attributes:
    center: [columns].
    deviation: [columns].
    quantiles: makes normal numbers of the ranks first; None for none.
  """

  center: np.ndarray
  deviation: np.ndarray
  quantiles: QuantileTransformer | None = None


class View(NamedTuple):
  """A learner that has seen some of a table.

  Attributes:
    trained: the learner.
    classes: how many it tells apart here; in a regression its outputs.
    columns: places of the columns that it has seen, in the order in which it has.
    scaling: how their numbers were scaled.
    state: what `adapt` returned.
  """

  trained: Trained
  classes: int
  columns: np.ndarray
  scaling: Scaling
  state: Any

  def __reduce__(self) -> tuple[Any, ...]:  # for pickle: arrays of no device
    return View, (*self[:-1], jax.device_get(self.state))

  def outputs(self, x: np.ndarray) -> np.ndarray:
    """Returns the learner's outputs [rows, outputs] for rows [rows, columns] of the whole table."""
    scaled = scale(self.scaling, x[:, self.columns])
    width = column_bucket(scaled.shape[1])
    predict = self.trained.programs(self.classes).predict
    parts = [scaled[at : at + QUERIES] for at in range(0, len(scaled), QUERIES)]
    answers = [np.asarray(predict(self.state, _filled(part, QUERIES, width))) for part in parts]
    each = [answer[: len(part)] for answer, part in zip(answers, parts, strict=True)]
    return np.concatenate(each).astype(np.float64)


def adapt(
  trained: Trained,
  x: np.ndarray,
  y: np.ndarray,
  *,
  targets: int,
  columns: np.ndarray,
  ranks: bool,
  seed: int,
) -> View:
  """Shows examples to a learner.

  The rows are filled up with examples that do not count, and the columns with missing cells.

  Args:
    trained: the learner.
    x: [rows, all columns].
    y: class numbers [rows], or targets [rows].
    targets: classes, or 1 in a regression.
    columns: places of the columns to be seen.
    ranks: whether numbers are replaced by those of a normal distribution with the same rank.
    seed: for learners that draw at random.
  """
  x = x[:, columns]
  scaling = fit_scaling(x, ranks)
  rows = row_bucket(len(x))
  weight = (np.arange(rows) < len(x)).astype(np.float32)
  filled = np.zeros(rows, np.int32) if trained.classifies else np.zeros((rows, 1), np.float32)
  filled[: len(y)] = y if trained.classifies else y[:, None]
  seen = _filled(scale(scaling, x), rows, column_bucket(x.shape[1]))
  key = learner_key(fixed_key(seed), 0)
  classes = class_bucket(trained, targets)
  state = trained.programs(classes).adapt(key, trained.params, Examples(seen, filled, weight))
  return View(trained, classes, columns, scaling, state)


def row_bucket(rows: int) -> int:
  """Returns the number of rows of the program for a support set.

  >>> [row_bucket(rows) for rows in (1, 17, 100, 150, 200, 300)]
  [16, 32, 128, 192, 256, 384]
  """
  power = max(FEWEST_ROWS, 1 << (rows - 1).bit_length())
  between = power * 3 // 4
  return between if power > HALVES and rows <= between else power


def column_bucket(columns: int) -> int:
  """Returns the number of columns of the program for a table.

  >>> [column_bucket(columns) for columns in (1, 5, 6, 13, 30)]
  [5, 5, 10, 20, 40]
  """
  bucket = FEWEST_COLUMNS
  while bucket < columns:
    bucket *= 2
  return bucket


def class_bucket(trained: Trained, classes: int) -> int:
  """Returns the number of classes of the program; in a regression the learner's outputs."""
  bucket = FEWEST_CLASSES
  while bucket < classes:
    bucket *= 2
  return min(bucket, trained.outputs) if trained.classifies else trained.outputs


def _filled(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
  """Returns numbers with rows of zeros, and then columns of missing cells, at their ends."""
  filled = np.full((rows, columns), np.nan, np.float32)
  filled[len(x) :, : x.shape[1]] = 0
  filled[: len(x), : x.shape[1]] = x
  return filled


def fit_scaling(x: np.ndarray, ranks: bool) -> Scaling:
  """Returns the scaling of numbers [rows, columns], of which each column has one at least."""
  quantiles = None
  if ranks:
    number = min(QUANTILES, len(x))
    quantiles = QuantileTransformer(
      n_quantiles=number, output_distribution='normal', subsample=None
    )
    x = quantiles.fit_transform(x)
  center, deviation = np.nanmean(x, 0), np.nanstd(x, 0)
  return Scaling(center, np.where(deviation > 0, deviation, 1), quantiles)


def scale(scaling: Scaling, x: np.ndarray) -> np.ndarray:
  """Returns scaled numbers [rows, columns] float32."""
  if scaling.quantiles is not None:
    x = scaling.quantiles.transform(x)
  far = np.clip((x - scaling.center) / scaling.deviation, -FAR, FAR)
  return far.astype(np.float32)


def informative(x: np.ndarray) -> np.ndarray:
  """Returns the places of the columns that are not all the same in the rows [rows, columns].

  A column of which some cells are missing is not all the same. If none is left, the first column
  stands for all; if its cells are missing, there is no place at all.
  """
  missing = np.isnan(x)
  first = np.where(missing, np.inf, x).min(0, initial=np.inf)
  same = (missing | (x == first)).all(0)
  return np.flatnonzero((~same | missing.any(0)) & ~missing.all(0))


def bags(generator: np.random.Generator, columns: np.ndarray, most: int) -> Iterator[np.ndarray]:
  """Yields parts of columns without end, each column about as often as any other.

  Args:
    generator: draws their orders.
    columns: places of columns.
    most: how many a part has at most.

  >>> parts = bags(np.random.default_rng(0), np.arange(5), 2)
  >>> sorted(np.concatenate([next(parts) for _ in range(5)]).tolist())
  [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
  """
  if len(columns) <= most:
    yield columns  # as the user has them
    while True:
      yield generator.permutation(columns)
  left = columns[:0]
  while True:
    if len(left) < most:
      order = generator.permutation(columns)
      again = np.isin(order, left)  # none twice in a part: those that are left come later
      left = np.concatenate([left, order[~again], order[again]])
    part, left = left[:most], left[most:]
    yield part


def some_rows(
  generator: np.random.Generator, labels: np.ndarray | None, *, rows: int, most: int
) -> np.ndarray:
  """Returns rows of a table, in order: all, or as many as a learner takes.

  Args:
    generator: draws them.
    labels: class numbers [rows], of which each keeps its share and one row at least; None in a
      regression.
    rows: how many there are.
    most: how many are returned at most; at least as many as classes.

  >>> labels = np.array([0] * 8 + [1] * 4 + [2])
  >>> kept = some_rows(np.random.default_rng(0), labels, rows=13, most=6)
  >>> np.bincount(labels[kept]).tolist()
  [3, 2, 1]
  """
  if rows <= most:
    return np.arange(rows)
  order = generator.permutation(rows)
  if labels is None:
    return np.sort(order[:most])
  shuffled = labels[order]
  place = np.zeros(rows)
  for label in np.unique(labels):
    own = shuffled == label
    place[own] = np.arange(own.sum()) / own.sum()  # the first of each class comes before all
  return np.sort(order[np.argsort(place, kind='stable')[:most]])
