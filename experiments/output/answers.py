"""What a learner answered in test episodes: accuracy of classes, confusions, calibration."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NONE = -1  # in place of a class, where there is none
BINS = 10  # of the confidence


class Answers(NamedTuple):
  """Predicted classes of the queries of some test episodes.

  Attributes:
    episode: [queries], the number of each query's episode.
    true: [queries], its class, a number in `names`.
    predicted: [queries], the predicted class; NONE if the prediction is not finite.
    confidence: [queries], the probability of the predicted class.
    ways: [episodes, ways], the classes of each episode; NONE for a way without a class.
    names: the names of all classes of the test; None if classes are new in each episode. Then
      `true` and `predicted` are labels.
  """

  episode: np.ndarray
  true: np.ndarray
  predicted: np.ndarray
  confidence: np.ndarray
  ways: np.ndarray
  names: Sequence[str] | None

  @property
  def right(self) -> np.ndarray:
    """[queries] bool."""
    return self.true == self.predicted


class OfClass(NamedTuple):
  """How a class was recognised: its number, right and all queries, what it was most taken for."""

  number: int
  right: int
  queries: int
  taken_for: int


def by_class(answers: Answers) -> list[OfClass]:
  """Returns the classes that were asked for, the hardest first."""
  found = []
  for number in np.unique(answers.true):
    mine = answers.true == number
    wrong = answers.predicted[mine & ~answers.right]
    kinds, counts = np.unique(wrong[wrong != NONE], return_counts=True)
    most = int(kinds[counts.argmax()]) if len(kinds) else NONE
    found.append(OfClass(int(number), int(answers.right[mine].sum()), int(mine.sum()), most))
  return sorted(found, key=lambda each: (each.right / each.queries, -each.queries, each.number))


class Confused(NamedTuple):
  """How often one class was taken for another: in `times` of `queries` where both were ways."""

  true: int
  predicted: int
  times: int
  queries: int


def most_confused(answers: Answers, most: int) -> list[Confused]:
  """Returns the pairs of classes that were confused most often, at most `most` of them."""
  wrong = ~answers.right & (answers.predicted != NONE)
  pairs = np.stack([answers.true[wrong], answers.predicted[wrong]], axis=1)
  kinds, counts = np.unique(pairs, axis=0, return_counts=True)
  order = np.argsort(-counts, kind='stable')[:most]
  return [
    Confused(int(true), int(taken), int(times), _asked(answers, true, taken))
    for (true, taken), times in zip(kinds[order], counts[order], strict=True)
  ]


def _asked(answers: Answers, true: int, other: int) -> int:
  """Returns the number of queries of a class in episodes where another is a way too."""
  both = (answers.ways == other).any(1)
  return int((both[answers.episode] & (answers.true == true)).sum())


def confusion(answers: Answers) -> np.ndarray:
  """Returns which share of the queries of a class (row) was taken for each class (column).

  Only queries count in whose episodes both classes are ways. nan stands where there are none.
  """
  size = len(answers.names or ())
  there = np.zeros((len(answers.ways), size + 1))  # the last column takes ways without a class
  np.put_along_axis(there, answers.ways, 1.0, axis=1)
  queries = np.zeros((len(answers.ways), size))
  np.add.at(queries, (answers.episode, answers.true), 1.0)
  taken = np.zeros((size, size + 1))
  np.add.at(taken, (answers.true, answers.predicted), 1.0)
  with np.errstate(invalid='ignore'):
    return taken[:, :size] / (queries.T @ there[:, :size])


class Calibration(NamedTuple):
  """How often answers of a confidence are right.

  Attributes:
    confidence: [bins], the mean confidence in each of the bins that hold answers.
    accuracy: [bins], which share of them is right.
    queries: [bins], how many they are.
    error: the expected calibration error (Naeini, Cooper, Hauskrecht, AAAI 2015): the mean
      difference of the two, weighted by the number of answers.
  """

  confidence: np.ndarray
  accuracy: np.ndarray
  queries: np.ndarray
  error: float


def calibration(confidence: np.ndarray, right: np.ndarray) -> Calibration:
  """Returns the calibration of answers, in BINS equal bins of confidence.

  Args:
    confidence: [queries], from 0 to 1; those that are not finite are left out.
    right: [queries] bool.

  >>> calibration(np.array([0.9, 0.9, 0.9, 0.9]), np.array([True, True, True, False])).error
  0.15
  """
  kept = np.isfinite(confidence)
  confidence, right = confidence[kept], right[kept]
  place = np.minimum((confidence * BINS).astype(int), BINS - 1)
  bins = [place == number for number in np.unique(place)]
  means = lambda values: np.array([values[each].mean() for each in bins])
  confident, accurate = means(confidence), means(right)
  queries = np.array([each.sum() for each in bins], int)
  error = float((queries * np.abs(confident - accurate)).sum() / max(queries.sum(), 1))
  return Calibration(confident, accurate, queries, round(error, 6))
