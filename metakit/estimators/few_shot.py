"""Few-shot learners as estimators: what was meta-trained, and heads on features."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from metakit.components.head_learners import HEADS
from metakit.components.specs import name_in
from metakit.estimators.learned import LOADED, learned
from metakit.trained.inputs import Inputs
from metakit.trained.made_of import MadeOf
from metakit.trained.trained import Fitted, Trained
from metakit.types import Episode, Examples

UNSEEN = -np.inf  # the decision for a class that has no example yet
ANY = float(np.finfo(np.float32).max)  # the deviation of inputs of which none is too far off


class FewShotClassifier(ClassifierMixin, BaseEstimator):
  """Classifies by a trained learner, or by a head on features.

  Args:
    learner: a head (metakit/heads/README.md), such as 'prototypical:distance=cosine', which
      classifies numbers [examples, features]; a place or a name that metakit.load knows; or a
      metakit.Trained. The last two take examples as they were trained on: pictures, texts, or
      numbers. The usual head is linear discriminant analysis with a shrunken covariance.
    seed: for learners that draw at random.

  Attributes:
    classes_: the labels, [classes], in the order of `predict_proba`.
    n_features_in_: numbers of an example, for a head.
    fitted_: the metakit.Fitted.

  >>> import numpy as np
  >>> x = np.array([[0.0, 1.0], [0.1, 0.9], [1.0, 0.0], [0.8, 0.1]])
  >>> FewShotClassifier('prototypical').fit(x, ['up', 'up', 'right', 'right']).predict([[0, 2]])
  array(['up'], dtype='<U5')
  """

  def __init__(self, learner: str | Path | Trained = 'discriminant', *, seed: int = 0):
    self.learner = learner
    self.seed = seed

  def fit(self, X: Any, y: Any) -> 'FewShotClassifier':
    """Learns from examples.

    Args:
      X: numbers [examples, features], for a head; for a trained learner see metakit.Trained.adapt.
      y: a label for each, strings or integers.

    Raises:
      ValueError: in one line, if the learner is unknown, or X or y are not as described.
    """
    X, y = _checked(self, X, y, reset=True)
    self.fitted_ = _adapted(self, X, y)
    self.classes_ = self.fitted_.classes
    return self

  def partial_fit(self, X: Any, y: Any, classes: Any = None) -> 'FewShotClassifier':
    """Learns from further examples. Their classes may be new.

    It costs as much as the new examples alone if the learner can go on learning
    (MetaLearner.extend) and no class is new; otherwise as much as `fit` with all examples.

    Args:
      X: see `fit`.
      y: see `fit`.
      classes: labels that get a place in `classes_`, also without an example. They are then never
        predicted.

    Raises:
      ValueError: see `fit`.
    """
    before = getattr(self, 'fitted_', None)
    X, y = _checked(self, X, y, reset=before is None)
    known = [] if before is None else self.classes_.tolist()
    if classes is not None:
      known += np.asarray(classes).tolist()
      if more := set(y.tolist()) - set(known):
        raise ValueError(
          f'y holds {min(more)!r}, which is none of classes; name it there, or leave classes out'
        )
    self.fitted_ = _adapted(self, X, y) if before is None else before.extend(X, y)
    self.classes_ = np.unique([*known, *self.fitted_.classes.tolist()])
    return self

  def predict(self, X: Any) -> np.ndarray:
    """Returns the label of each example, [examples]."""
    return _fitted(self).predict(_queries(self, X))

  def predict_proba(self, X: Any) -> np.ndarray:
    """Returns the probability of each of `classes_`, [examples, classes] float64."""
    return self._spread(_fitted(self).predict_proba(_queries(self, X)), 0.0)

  def decision_function(self, X: Any) -> np.ndarray:
    """Returns logits [examples, classes]; of two classes the difference, [examples]."""
    logits = _fitted(self).outputs(_queries(self, X)).astype(np.float64)
    logits = self._spread(logits, UNSEEN)
    return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

  def _spread(self, values: np.ndarray, unseen: float) -> np.ndarray:
    """Returns columns of the classes that have examples as columns of `classes_`."""
    spread = np.full((len(values), len(self.classes_)), unseen)
    spread[:, np.searchsorted(self.classes_, self.fitted_.classes)] = values
    return spread


class FewShotRegressor(RegressorMixin, BaseEstimator):
  """Regresses by a learner that was trained on regressions.

  Args:
    learner: a place or a name that metakit.load knows, or a metakit.Trained.
    seed: for learners that draw at random.

  Attributes:
    fitted_: the metakit.Fitted.
  """

  def __init__(self, learner: str | Path | Trained, *, seed: int = 0):
    self.learner = learner
    self.seed = seed

  def fit(self, X: Any, y: Any) -> 'FewShotRegressor':
    """Learns from examples; X and y are those of metakit.Trained.adapt.

    Raises:
      ValueError: in one line, if the learner is unknown or classifies, or X or y are not as
        described there.
    """
    self.fitted_ = _adapted(self, X, y)
    return self

  def partial_fit(self, X: Any, y: Any) -> 'FewShotRegressor':
    """Learns from further examples, see metakit.Fitted.extend."""
    before = getattr(self, 'fitted_', None)
    self.fitted_ = _adapted(self, X, y) if before is None else before.extend(X, y)
    return self

  def predict(self, X: Any) -> np.ndarray:
    """Returns numbers for each example, in the form of y."""
    return _fitted(self).predict(X)


def _fitted(estimator: Any) -> Fitted:
  check_is_fitted(estimator)
  return estimator.fitted_


def _is_head(learner: Any) -> bool:
  return isinstance(learner, str) and name_in(learner.strip()) in HEADS


def _checked(estimator: Any, X: Any, y: Any, *, reset: bool) -> tuple[Any, np.ndarray]:
  """Checks examples with labels. Inputs of a trained learner are checked by itself."""
  if y is None:
    raise ValueError('this estimator requires y to be passed, but the target y is None')
  if _is_head(estimator.learner):
    X, y = validate_data(estimator, X, y, reset=reset, dtype=np.float32)
  check_classification_targets(y)
  return X, column_or_1d(y, warn=True)


def _queries(estimator: Any, X: Any) -> Any:
  if not _is_head(estimator.learner):
    return X
  return validate_data(estimator, X, reset=False, dtype=np.float32)


def _adapted(estimator: Any, X: Any, y: Any) -> Fitted:
  learner = estimator.learner
  if isinstance(estimator, ClassifierMixin) and _is_head(learner):
    trained = head_on_features(learner.strip(), X.shape[1], max(2, len(np.unique(y))))
  else:
    trained = learned(learner, heads=True)
  if trained.classifies != isinstance(estimator, ClassifierMixin):
    kind = 'classifies' if trained.classifies else 'predicts numbers'
    other = 'FewShotClassifier' if trained.classifies else 'FewShotRegressor'
    raise ValueError(f'the learner {kind}; use {other}')
  return trained.adapt(X, y, seed=estimator.seed)


@functools.lru_cache(maxsize=LOADED)
def head_on_features(spec: str, features: int, classes: int) -> Trained:
  """Returns a head as a trained learner of numbers [examples, features].

  Args:
    spec: of the head, such as 'ridge' or 'prototypical:distance=cosine'.
    features: numbers of an example.
    classes: of a task.

  Raises:
    ValueError: if the spec is no head's, or its parameters have to be trained.
  """
  parts = MadeOf(spec, 'identity', classes)
  learner = parts.make()
  y = np.arange(classes, dtype=np.int32)
  examples = Examples(np.zeros((classes, features), np.float32), y)
  params = jax.device_get(learner.init(jax.random.key(0), Episode(examples, examples)))
  if any(np.ndim(leaf) for leaf in jax.tree.leaves(params)):
    raise ValueError(f'head {spec!r} has to be trained first; give a trained one, or use ridge')
  inputs = Inputs((features,), 'float32', 0.0, ANY)
  return Trained(parts.make, params, inputs, classes, True, parts)
