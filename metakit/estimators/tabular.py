"""Learners of whole tables as estimators: no training, no tuning, one pass over the table.

from metakit.estimators import TabularClassifier
TabularClassifier().fit(frame, labels).predict_proba(others)

They are meta-trained on tables drawn at random (metakit/learners/tabular.py). Tables may hold
numbers, truth values, dates, categories and missing cells.
"""

import functools
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import assert_all_finite, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from metakit.estimators.cells import encode, fit_columns
from metakit.estimators.codes import decode, draw_codes
from metakit.estimators.learned import learned
from metakit.estimators.views import QUERIES, View, adapt, bags, informative, some_rows
from metakit.trained.trained import Trained
from metakit.types import Density

ROWS = 1024  # that a learner sees at once, also if it was trained on fewer
# On drawn tables that are wider than those of training, all columns at once were as good as parts
# (experiments/results/tuning.md, tabular_longer).
BEYOND = 2  # times the columns of training that are seen at once


class Vote(NamedTuple):
  """One opinion on the classes of rows.

  Attributes:
    codes: the number by which a view knows each class, [views, classes].
    views: one, or, if there are more classes than the learner tells apart, several.
  """

  codes: np.ndarray
  views: list[View]


class Settings(NamedTuple):
  """The arguments of an estimator, checked."""

  trained: Trained
  ensemble: int
  seed: int
  rows: int
  columns: int


class TabularClassifier(ClassifierMixin, BaseEstimator):
  """Classifies the rows of a table by a learner that was trained on tables.

  Args:
    learner: a place or a name that metakit.load knows, or a metakit.Trained.
    ensemble: predictions are the mean of those from so many views of the table, in which columns
      and classes have other orders, and every second has ranks in place of numbers. The first view
      is the table as it is.
    seed: of these views.
    max_rows: rows that are seen at once; a view of a larger table has a part, with the same shares
      of classes. None stands for 1,024, or more if the learner was trained on more.
    max_columns: columns that are seen at once; a larger table takes several views with a part of
      the columns each. None stands for twice as many as the learner was trained on.

  Attributes:
    classes_: the labels, [classes], in the order of `predict_proba`.
    n_features_in_: columns.
    feature_names_in_: their names, if X was a frame and these are texts.
    columns_: how the cells of each column are read.
    votes_: the views.

  >>> rows = [[0.1, 'red'], [0.3, 'red'], [0.2, None], [2.1, 'blue'], [2.4, 'red'], [1.9, 'blue']]
  >>> model = TabularClassifier().fit(rows, ['low', 'low', 'low', 'high', 'high', 'high'])
  >>> model.predict([[2.2, None], [0.2, 'red']]).tolist()
  ['high', 'low']
  """

  def __init__(
    self,
    learner: str | Path | Trained = 'tabular-classifier',
    *,
    ensemble: int = 1,
    seed: int = 0,
    max_rows: int | None = None,
    max_columns: int | None = None,
  ):
    self.learner = learner
    self.ensemble = ensemble
    self.seed = seed
    self.max_rows = max_rows
    self.max_columns = max_columns

  def __sklearn_tags__(self) -> Any:
    return _tags(super().__sklearn_tags__())

  def fit(self, X: Any, y: Any) -> 'TabularClassifier':
    """Learns from rows with labels.

    A table that has more rows, columns or classes than are seen at once is learned from
    in parts, and a warning says so. More classes are told apart by metakit.estimators.codes.

    Args:
      X: a frame, or an array or list [rows, columns]; see metakit.estimators.cells.fit_columns.
      y: a label for each row, strings or integers.

    Raises:
      ValueError: in one line, if the learner is unknown, or X or y are not as described.
      TypeError: for a cell that is no number, text, date or truth value.
    """
    settings = _settings(self, classifies=True)
    if y is None:
      raise ValueError('this estimator requires y to be passed, but the target y is None')
    self.columns_, x = fit_columns(self, X)
    y = column_or_1d(y, warn=True)
    assert_all_finite(y, input_name='y')
    check_classification_targets(y)
    check_consistent_length(x, y)
    self.classes_, numbers = np.unique(y, return_inverse=True)
    self.votes_ = _votes(settings, x, numbers) if len(self.classes_) > 1 else []
    return self

  def predict(self, X: Any) -> np.ndarray:
    """Returns the label of each row, [rows]."""
    likely = self.predict_proba(X)
    return self.classes_[likely.argmax(1)]

  def predict_proba(self, X: Any) -> np.ndarray:
    """Returns the probability of each of `classes_`, [rows, classes] float64.

    The rows are those of a table with the columns that `fit` saw, in any order if they have names.
    """
    check_is_fitted(self)
    x = encode(self, self.columns_, X)
    if not self.votes_:
      return np.ones((len(x), 1))
    return np.mean([_likely(vote, x) for vote in self.votes_], axis=0)


class TabularRegressor(RegressorMixin, BaseEstimator):
  """Predicts a number for the rows of a table by a learner that was trained on tables.

  Args:
    learner: see TabularClassifier.
    ensemble: see TabularClassifier.
    seed: see TabularClassifier.
    max_rows: see TabularClassifier.
    max_columns: see TabularClassifier.

  Attributes:
    n_features_in_: columns.
    feature_names_in_: their names, if X was a frame and these are texts.
    columns_: how the cells of each column are read.
    trained_: the learner.
    views_: the views.

  >>> x = np.linspace(-1, 1, 40)[:, None]
  >>> model = TabularRegressor().fit(x, 5 * x[:, 0])
  >>> lowest, highest = model.predict_quantiles([[0.5]], [0.05, 0.95])[0]
  >>> bool(abs(model.predict([[0.5]])[0] - 2.5) < 0.2), bool(lowest < 2.5 < highest)
  (True, True)
  """

  def __init__(
    self,
    learner: str | Path | Trained = 'tabular-regressor',
    *,
    ensemble: int = 1,
    seed: int = 0,
    max_rows: int | None = None,
    max_columns: int | None = None,
  ):
    self.learner = learner
    self.ensemble = ensemble
    self.seed = seed
    self.max_rows = max_rows
    self.max_columns = max_columns

  def __sklearn_tags__(self) -> Any:
    return _tags(super().__sklearn_tags__())

  def fit(self, X: Any, y: Any) -> 'TabularRegressor':
    """Learns from rows with targets.

    Args:
      X: see TabularClassifier.fit.
      y: a number for each row.

    Raises:
      ValueError: in one line, if the learner is unknown, or X or y are not as described.
      TypeError: for a cell that is no number, text, date or truth value.
    """
    settings = _settings(self, classifies=False)
    self.columns_, x = fit_columns(self, X)
    targets = _targets(y)
    check_consistent_length(x, targets)
    self.mean_, self.deviation_ = float(targets.mean()), float(targets.std())
    self.views_ = []
    if self.deviation_ > 0:
      self.views_ = _views(settings, x, (targets - self.mean_) / self.deviation_)
    self.trained_ = settings.trained
    return self

  def predict(self, X: Any) -> np.ndarray:
    """Returns the expected number of each row, [rows] float64."""
    density = self._density()
    if density is None:
      return self._mean_of(X, lambda outputs: outputs[:, 0])
    return self._mean_of(X, functools.partial(_in_parts, _mean(density)))

  def predict_quantiles(self, X: Any, levels: Any) -> np.ndarray:
    """Returns quantiles of the number of each row, [rows, levels] float64.

    Those of several views are averaged.

    Args:
      X: see `predict`.
      levels: probabilities in (0, 1), such as [0.05, 0.5, 0.95].

    Raises:
      ValueError: for other levels, and if the learner predicts numbers without a distribution.
    """
    levels = np.atleast_1d(np.asarray(levels, np.float64))
    if levels.ndim != 1 or not ((levels > 0) & (levels < 1)).all():
      raise ValueError(f'levels={levels.tolist()} are no probabilities between 0 and 1')
    density = self._density()
    if density is None:
      raise ValueError('the learner predicts numbers alone; give one that was trained on a density')
    quantile = _quantile(density)
    of = lambda outputs: np.stack(
      [_in_parts(lambda part, at=level: quantile(part, at), outputs) for level in levels], axis=-1
    )
    found = self._mean_of(X, of)
    return found if found.ndim == 2 else np.repeat(found[:, None], len(levels), axis=1)

  def _density(self) -> Density | None:
    check_is_fitted(self)
    return self.trained_.density

  def _mean_of(self, X: Any, read: Any) -> np.ndarray:
    """Returns the mean over views of what is read of their outputs, in units of y."""
    x = encode(self, self.columns_, X)
    if not self.views_:
      return np.full(len(x), self.mean_)
    found = np.mean([read(view.outputs(x)) for view in self.views_], axis=0)
    return found * self.deviation_ + self.mean_


def _tags(tags: Any) -> Any:
  tags.input_tags.allow_nan = True
  tags.input_tags.string = True
  tags.input_tags.categorical = True
  return tags


def _settings(estimator: Any, *, classifies: bool) -> Settings:
  sizes = {name: getattr(estimator, name) for name in ('ensemble', 'max_rows', 'max_columns')}
  for name, size in sizes.items():
    given = size is not None or name == 'ensemble'
    if given and not (isinstance(size, int | np.integer) and size > 0):
      raise ValueError(f'{name}={size!r} is no positive integer')
  trained = learned(estimator.learner)
  if trained.classifies != classifies:
    kind, other = ('predicts numbers', 'Regressor') if classifies else ('classifies', 'Classifier')
    raise ValueError(f'the learner {kind}; use Tabular{other}')
  if len(trained.inputs.shape) != 1:
    raise ValueError(
      f'the learner was trained on examples of shape {trained.inputs.shape}, and rows of a table '
      'have one axis; give one that was trained on tables, such as tabular-classifier'
    )
  rows = estimator.max_rows or max(ROWS, trained.inputs.support)
  columns = estimator.max_columns or BEYOND * trained.inputs.shape[0]
  return Settings(trained, int(estimator.ensemble), estimator.seed, rows, columns)


def _votes(settings: Settings, x: np.ndarray, y: np.ndarray) -> list[Vote]:
  """Fits the views of a classification to rows x [rows, columns] of classes y [rows]."""
  generator = np.random.default_rng(settings.seed)
  number, classes, symbols = settings.ensemble, int(y.max()) + 1, settings.trained.outputs
  places = informative(x)
  _warn_of_parts(settings, x, places, classes)
  parts = bags(generator, places, settings.columns)
  votes = []
  for vote in range(max(number, -(-len(places) // settings.columns))):
    if classes > symbols:
      codes = draw_codes(generator, classes, symbols)
    else:
      codes = (generator.permutation(classes) if vote else np.arange(classes))[None]
    rows = some_rows(generator, y, rows=len(x), most=max(settings.rows, classes))
    at: dict[str, Any] = {'targets': int(codes.max()) + 1, 'columns': next(parts), 'number': vote}
    views = [_view(settings, x[rows], code[y[rows]], **at) for code in codes]
    votes.append(Vote(codes, views))
  return votes


def _views(settings: Settings, x: np.ndarray, y: np.ndarray) -> list[View]:
  """Fits the views of a regression to rows x [rows, columns] of targets y [rows]."""
  generator = np.random.default_rng(settings.seed)
  places = informative(x)
  _warn_of_parts(settings, x, places, 0)
  parts = bags(generator, places, settings.columns)
  views = []
  for number in range(max(settings.ensemble, -(-len(places) // settings.columns))):
    rows = some_rows(generator, None, rows=len(x), most=settings.rows)
    view = _view(settings, x[rows], y[rows], targets=1, columns=next(parts), number=number)
    views.append(view)
  return views


def _view(
  settings: Settings,
  x: np.ndarray,
  y: np.ndarray,
  *,
  targets: int,
  columns: np.ndarray,
  number: int,
) -> View:
  ranks, seed = number % 2 == 1, settings.seed + number
  there = ~np.isnan(x[:, columns]).all(0)  # of these rows
  return adapt(
    settings.trained, x, y, targets=targets, columns=columns[there], ranks=ranks, seed=seed
  )


def _warn_of_parts(settings: Settings, x: np.ndarray, places: np.ndarray, classes: int) -> None:
  """Says by which means a table is learned from that is larger than those of training."""
  more = []
  if len(x) > settings.rows:
    more.append(f'{len(x):,} rows, of which each view has {settings.rows:,}')
  if len(places) > settings.columns:
    more.append(f'{len(places):,} columns, of which each view has {settings.columns:,}')
  if classes > settings.trained.outputs:
    more.append(f'{classes:,} classes, told apart by codes of {settings.trained.outputs}')
  if more:
    warnings.warn(f'the table is larger than the learner takes: {"; ".join(more)}', stacklevel=4)


def _likely(vote: Vote, x: np.ndarray) -> np.ndarray:
  """Returns probabilities of classes [rows, classes]."""
  symbols = int(vote.codes.max()) + 1
  each = np.stack([_softmax(view.outputs(x)[:, :symbols]) for view in vote.views])
  return each[0][:, vote.codes[0]] if len(vote.codes) == 1 else decode(vote.codes, each)


def _softmax(logits: np.ndarray) -> np.ndarray:
  likely = np.exp(logits - logits.max(1, keepdims=True))
  return likely / likely.sum(1, keepdims=True)


def _targets(y: Any) -> np.ndarray:
  """Returns targets [rows] float64."""
  if y is None:
    raise ValueError('this estimator requires y to be passed, but the target y is None')
  y = column_or_1d(y, warn=True)
  if y.dtype.kind not in 'biufO':
    raise ValueError(f'targets are {y.dtype}; give numbers, or use TabularClassifier')
  try:
    y = y.astype(np.float64)
  except (TypeError, ValueError) as error:
    raise ValueError(f'targets are no numbers ({error}); use TabularClassifier') from None
  assert_all_finite(y, input_name='y')
  return y


@functools.cache
def _mean(density: Density) -> Any:
  return jax.jit(density.mean)


@functools.cache
def _quantile(density: Density) -> Any:
  return jax.jit(density.quantile)


def _in_parts(read: Any, outputs: np.ndarray) -> np.ndarray:
  """Returns what is read of outputs [rows, outputs], always of as many rows at once."""
  filled = np.zeros((-(-len(outputs) // QUERIES) * QUERIES, outputs.shape[1]), np.float32)
  filled[: len(outputs)] = outputs
  parts = [np.asarray(read(jnp.asarray(part))) for part in np.split(filled, len(filled) // QUERIES)]
  return np.concatenate(parts)[: len(outputs)].astype(np.float64)
