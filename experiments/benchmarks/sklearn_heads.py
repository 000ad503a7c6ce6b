"""Classifiers of scikit-learn as heads, fitted to the support of one episode after the other."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np


def sklearn_heads(*episodes: np.ndarray) -> Mapping[str, Callable[[], Any]]:
  """Returns the classifiers by their names, with their own settings where nothing is said.

  A call returns probabilities or outputs [episodes, queries, ways], or classes [episodes, queries].

  Args:
    episodes: support [episodes, examples, features], its labels [episodes, examples], and queries
      [episodes, queries, features].
  """
  from sklearn.linear_model import LogisticRegression
  from sklearn.neighbors import NearestCentroid
  from sklearn.svm import SVC, LinearSVC

  machine = partial(LinearSVC, C=0.1, multi_class='crammer_singer', fit_intercept=False)
  made: dict[str, tuple[Callable[[], Any], str]] = {
    'LogisticRegression': (LogisticRegression, 'predict_proba'),
    'NearestCentroid': (NearestCentroid, 'predict'),
    'LinearSVC, Crammer-Singer': (machine, 'decision_function'),
    'SVC, linear': (partial(SVC, kernel='linear', C=0.1), 'predict'),
  }
  return {
    f'scikit-learn, {name}': partial(_judge, make, answer, episodes)
    for name, (make, answer) in made.items()
  }


def _judge(make: Callable[[], Any], answer: str, episodes: tuple[np.ndarray, ...]) -> np.ndarray:
  return np.stack(
    [
      getattr(make().fit(support, labels), answer)(query)
      for support, labels, query in zip(*episodes, strict=True)
    ]
  )
