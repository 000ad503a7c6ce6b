"""Which source of training helps which target: measured pair by pair, and foretold for new targets.

Joongwon Kim, Akari Asai, Gabriel Ilharco, Hannaneh Hajishirzi, TaskWeb: Selecting Better Source
Tasks for Multi-task NLP, EMNLP 2023, arXiv:2305.13256. A source is tried on a new target through
pivots, tasks between which all transfer is known: what helps those that help the target is taken to
help it too (TaskShop, section 4).

Deviation: the first guess of how a source fits a target is a straight line in how alike their data
is, fitted to the known pairs, in place of the score of a language model.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import stats
from scipy.spatial import distance

from metakit.sizes import check_positive

WEIGHT = 0.7  # of the pivots, in the paper and its code


class Ranking(NamedTuple):
  """How well sources were ranked for a target.

  Attributes:
    rank_correlation: Spearman's; NaN if all are predicted, or measured, to be equal.
    precision: the share of the k sources measured to be best among the k predicted to be.
    regret: by how much the mean of the k predicted to be best falls short of the mean of the k
      best, as a share of the latter.
  """

  rank_correlation: float
  precision: float
  regret: float


def transfer_matrix(
  train: Callable[[Any], Any],
  score: Callable[[Any, Any], jax.Array],
  sources: Any,
  *,
  targets: Any,
  at_once: int | None = None,
) -> jax.Array:
  """Trains on each source and scores on each target, as one program if it is compiled.

  Time grows with sources * targets, and with the training of each source. Memory is that of
  `at_once` trainings.

  Args:
    train: source -> what was learned.
    score: (what was learned, target) -> a number, the larger the better.
    sources: a pytree with a leading axis [sources].
    targets: a pytree with a leading axis [targets].
    at_once: how many sources are trained side by side; all by default.

  Returns:
    [sources, targets].

  >>> import jax.numpy as jnp
  >>> points = jnp.array([0.0, 1.0, 3.0])
  >>> score = lambda mean, x: -abs(mean - x)
  >>> transfer_matrix(lambda x: x + 0.5, score, points, targets=points).tolist()
  [[-0.5, -0.5, -2.5], [-1.5, -0.5, -1.5], [-3.5, -2.5, -0.5]]
  """

  def row(source: Any) -> jax.Array:
    learned = train(source)
    return jax.lax.map(lambda target: score(learned, target), targets)

  return jax.vmap(row)(sources) if at_once is None else _in_groups(row, sources, at_once)


def _in_groups(row: Callable[[Any], jax.Array], sources: Any, at_once: int) -> jax.Array:
  check_positive(at_once=at_once)
  # A batch of one would still make batched products, which are slower.
  return jax.lax.map(row, sources, batch_size=None if at_once == 1 else at_once)


def through_pivots(transfer: Any, guess: Any, weight: float = WEIGHT) -> np.ndarray:
  """Predicts how each known task would do as the source of a new target (TaskShop).

  weight * mean over pivots p of (transfer[s, p] + guess[p]) / 2 + (1 - weight) * guess[s], where a
  source is no pivot of its own.

  Args:
    transfer: [tasks, tasks] measured between known tasks; the diagonal is not read.
    guess: [tasks] a first guess of the score of each as the source of the target, on the scale of
      `transfer`.
    weight: of the pivots; with 0 the guess remains.

  Returns:
    [tasks].

  Raises:
    ValueError: for other shapes, fewer than two tasks, or a weight outside 0 to 1.

  >>> through_pivots([[0.9, 0.5], [0.7, 0.9]], [0.3, 0.5], weight=0.5).tolist()
  [0.4, 0.5]
  """
  transfer, guess = _square(transfer), np.asarray(guess, np.float64)
  if guess.shape != transfer.shape[:1]:
    raise ValueError(f'guess has shape {guess.shape}; give one for each of {len(transfer)} tasks')
  if not 0 <= weight <= 1:
    raise ValueError(f'weight={weight} must be between 0 and 1')
  halves = np.where(np.eye(len(guess), dtype=bool), 0, (transfer + guess) / 2)
  return weight * halves.sum(1) / (len(guess) - 1) + (1 - weight) * guess


def predict_transfer(transfer: Any, likeness: Any, weight: float = WEIGHT) -> np.ndarray:
  """Predicts the transfer to each task from what is known without it.

  Each task is the new target once. Neither the line of the first guess nor the pivots see its row
  or its column.

  Args:
    transfer: [tasks, tasks] measured: source, target.
    likeness: [tasks, tasks] of the data of source and target, on any scale, without any training.
    weight: see `through_pivots`.

  Returns:
    [tasks, tasks] predictions: source, target. The diagonal is NaN.

  Raises:
    ValueError: for other shapes, fewer than four tasks, or a weight outside 0 to 1.

  >>> alike = -abs(np.subtract.outer(np.arange(5.0), np.arange(5.0)))
  >>> predict_transfer(1 + alike, alike, weight=0).round(6)[:, 0].tolist()
  [nan, 0.0, -1.0, -2.0, -3.0]
  """
  transfer, likeness = _square(transfer), _square(likeness)
  if transfer.shape != likeness.shape or len(transfer) < 4:
    raise ValueError(
      f'transfer {transfer.shape} and likeness {likeness.shape}; give both for the same tasks, at '
      'least four: a target, and a line through the pairs of three others'
    )
  predicted = np.full(transfer.shape, np.nan)
  for target in range(len(transfer)):
    rest = np.delete(np.arange(len(transfer)), target)
    known = transfer[np.ix_(rest, rest)]
    guess = _on_scale(known, likeness[np.ix_(rest, rest)], likeness[rest, target])
    predicted[rest, target] = through_pivots(known, guess, weight)
  return predicted


def judge_ranking(predicted: Any, measured: Any, k: int = 5) -> Ranking:
  """Judges a ranking of sources for one target.

  Args:
    predicted: [sources] the larger the better.
    measured: [sources] the same, as it turned out.
    k: how many sources would be chosen.

  Raises:
    ValueError: if the shapes differ, or there are not at least k sources, and two.

  >>> judge_ranking([0.9, 0.5, 0.1], [0.8, 0.4, 0.6], k=1)
  Ranking(rank_correlation=0.5, precision=1.0, regret=0.0)
  """
  predicted, measured = (np.asarray(each, np.float64) for each in (predicted, measured))
  if predicted.shape != measured.shape or predicted.ndim != 1 or not 1 <= k <= len(measured) > 1:
    raise ValueError(
      f'{predicted.shape} predicted and {measured.shape} measured, k={k}; give one number for each '
      'source, and k of them at most'
    )
  chosen, best = (np.argsort(-each, kind='stable')[:k] for each in (predicted, measured))
  most = measured[best].mean()
  return Ranking(
    float(rank_correlation(predicted, measured)),
    len(set(chosen.tolist()) & set(best.tolist())) / k,
    float((most - measured[chosen].mean()) / most),
  )


def rank_correlation(one: Any, other: Any) -> float:
  """Returns Spearman's rank correlation; NaN where all numbers of one are equal.

  >>> rank_correlation([1, 2, 3], [10, 30, 20])
  0.5
  """
  if np.ptp(one) == 0 or np.ptp(other) == 0:
    return float('nan')
  return float(stats.spearmanr(one, other).statistic)


def energy_distances(sets: Any) -> np.ndarray:
  """Returns how unlike sets of examples are (Szekely and Rizzo 2013, the energy distance).

  2 E|x - y| - E|x - x'| - E|y - y'| over all pairs: zero for equal sets, and never negative.

  Args:
    sets: [sets, examples, numbers].

  Returns:
    [sets, sets]. Time grows with the square of sets * examples, memory with that of examples.

  Raises:
    ValueError: for another shape.

  >>> energy_distances([[[0.0], [2.0]], [[1.0], [5.0]]]).tolist()
  [[0.0, 2.0], [2.0, 0.0]]
  """
  sets = np.asarray(sets, np.float64)
  if sets.ndim != 3:
    raise ValueError(f'sets have the shape {sets.shape}; give [sets, examples, numbers]')
  between = np.array([[distance.cdist(one, other).mean() for other in sets] for one in sets])
  within = np.diag(between)
  return 2 * between - within[:, None] - within


def _square(matrix: Any) -> np.ndarray:
  matrix = np.asarray(matrix, np.float64)
  if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
    raise ValueError(f'a matrix {matrix.shape}; give [tasks, tasks], of two tasks or more')
  return matrix


def _on_scale(known: np.ndarray, likeness: np.ndarray, new: np.ndarray) -> np.ndarray:
  """Returns likenesses as scores, by the least-squares line through the pairs of known tasks."""
  pairs = ~np.eye(len(known), dtype=bool)
  x, y = likeness[pairs], known[pairs]
  slope = np.cov(x, y)[0, 1] / x.var(ddof=1) if np.ptp(x) > 0 else 0.0
  return y.mean() + slope * (new - x.mean())
