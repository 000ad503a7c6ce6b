"""How hard a task is, in bits: what must be known beyond the examples, to generalise from them.

Two measures. The closed form counts functions of limited frequency on a sphere that stands for the
data (Boopathy et al., Model-agnostic Measure of Generalization Difficulty, ICML 2023,
arXiv:2305.01034; the constants of its released code). The exact one draws functions that fit the
examples, and asks how rare those are that generalise (Boopathy et al., Towards Exact Computation of
Inductive Bias, IJCAI 2024, arXiv:2406.15941).

Deviations: bits are never negative, since examples that settle everything leave nothing to know. In
the far tail the probability of the normal approximation is taken whole, where the released code
keeps its exponent alone.
"""

import math
from typing import NamedTuple

import numpy as np

from metakit.sizes import check_positive

NEIGHBOURS = 5
PAIRS, TAIL = 400_000, 2000  # pairs of examples that are compared, and the closest of them
BATCH = 1000  # rows, or pairs, whose distances are held at once


class Manifold(NamedTuple):
  """The sphere that stands for where the inputs of a task lie.

  Attributes:
    dimension: intrinsic dimension of the inputs.
    radius: largest norm of an input.
    resolution: least distance of two inputs whose answers may be unlike.
  """

  dimension: float
  radius: float
  resolution: float


def task_bits(
  manifold: Manifold,
  examples: float,
  *,
  outputs: int,
  error: float,
  bound: float = 1.0,
  combinations: int = 1,
) -> float:
  """Returns the difficulty of a task in bits (Boopathy et al. 2023, its main theorem).

  It grows exponentially with the dimension, and polynomially with radius / resolution.

  Args:
    manifold: where the inputs lie.
    examples: how many are known. Usually a whole number, and at times larger than integers go.
    outputs: numbers that the function has to give.
    error: that is asked for, over the Lipschitz constant of the loss.
    bound: on the absolute value of an output.
    combinations: of the values of discrete inputs, times the classes.

  Raises:
    ValueError: if a number is not positive.

  >>> imagenet = Manifold(dimension=48, radius=943.5923, resolution=65)
  >>> bits = task_bits(imagenet, 1_280_901, outputs=999, error=0.1, combinations=1000)
  >>> f'{bits:.3e}'  # as computed from the paper's formula
  '3.583e+41'
  """
  check_positive(examples=float(examples), error=error, bound=bound, outputs=outputs)
  check_positive(combinations=combinations, **manifold._asdict())
  return _bits(manifold, examples, outputs, error, bound, combinations)


def classification_bits(
  manifold: Manifold, examples: float, *, classes: int, error: float
) -> float:
  """Returns the difficulty in bits of telling classes apart.

  Args:
    manifold: where the inputs lie.
    examples: how many are known.
    classes: how many there are.
    error: the share of mistakes that is asked for.

  Raises:
    ValueError: if a number is not positive, or there are fewer than two classes.

  >>> digits = Manifold(dimension=14, radius=17.179, resolution=2.3987)
  >>> f'{classification_bits(digits, 60_000, classes=10, error=0.001):.2e}'
  '1.48e+16'
  """
  if classes < 2:
    raise ValueError(f'classes={classes}: there must be two to tell apart')
  return task_bits(manifold, examples, outputs=classes - 1, error=error, combinations=classes)


def few_shot_bits(
  within: Manifold, across: float, tasks: float, *, ways: int, error: float
) -> float:
  """Returns the difficulty in bits of learning to tell `ways` new classes apart.

  What is sought is a function from one example of each class to a classifier.

  Args:
    within: where the inputs of one family of classes lie, an alphabet for instance.
    across: intrinsic dimension of the inputs of all families.
    tasks: how many different ones the training classes make.
    ways: classes of a task.
    error: the share of mistakes that is asked for.

  Raises:
    ValueError: if a number is not positive, or there are fewer than two ways.

  >>> alphabet = Manifold(dimension=22, radius=49.40648, resolution=30**0.5)
  >>> f'{few_shot_bits(alphabet, 29, 6.979e40, ways=20, error=0.01):.3e}'
  '1.789e+145'
  """
  if ways < 2:
    raise ValueError(f'ways={ways}: there must be two classes to tell apart')
  check_positive(across=across, tasks=float(tasks), error=error, **within._asdict())
  pairs = ways * (ways - 1)
  frequency = 2 * math.pi * within.radius / within.resolution
  classifier = 2 * pairs * math.exp(_eigenfunctions(within.dimension, frequency)[1])
  whole = Manifold(
    across + (ways - 1) * within.dimension, within.radius * ways**0.5, within.resolution
  )
  return _bits(whole, tasks, classifier, error, pairs**0.5, 1)


def _bits(
  manifold: Manifold,
  examples: float,
  outputs: float,
  error: float,
  bound: float,
  combinations: int,
) -> float:
  """By logarithms, since the numbers of functions are larger than floats go."""
  m, radius, _ = manifold
  most, functions = _eigenfunctions(m, 2 * math.pi * radius / manifold.resolution)
  # The Wasserstein distance between the examples and all inputs.
  sphere = math.log(2) + (m + 1) / 2 * math.log(math.pi) - math.lgamma((m + 1) / 2)
  distance = 0.5 * math.log(m / 6) + math.log(radius)
  distance += (sphere + math.log(combinations) - math.log(examples)) / m
  lipschitz = most * outputs**0.5 / radius
  each = math.log(bound * (outputs * combinations) ** 0.5 * lipschitz / error) + distance
  free = math.log(2 * outputs * combinations) + functions
  settled = math.log(examples) + math.log(outputs)
  if each <= 0 or settled >= free:
    return 0.0
  return _power(free + math.log1p(-math.exp(settled - free)) + math.log(each / math.log(2)))


def _power(logarithm: float) -> float:
  return math.exp(logarithm) if logarithm < 709 else math.inf


def _eigenfunctions(dimension: float, frequency: float) -> tuple[float, float]:
  """Returns the highest degree of spherical harmonics, and the logarithm of their number."""
  m = dimension
  most = (math.sqrt((m - 1) ** 2 + 4 * frequency**2) - (m - 1)) / 2
  choose = lambda n: math.lgamma(n + 1) - math.lgamma(m + 1) - math.lgamma(n - m + 1)
  upper, lower = choose(m + most), choose(m + most - 1) if most > 0 else -math.inf
  return most, upper + math.log1p(math.exp(lower - upper))


def manifold_of(x: np.ndarray, y: np.ndarray, *, seed: int = 0) -> Manifold:
  """Estimates where the inputs of a classification lie.

  Args:
    x: [examples, ...] numbers.
    y: [examples] classes.
    seed: of the examples that are compared.

  Raises:
    ValueError: for fewer than 10 examples, one class, or equal inputs of two classes.

  >>> x = np.random.default_rng(0).normal(size=(2000, 3)) @ np.eye(3, 20)
  >>> found = manifold_of(x, (x[:, 0] > 0).astype(int))
  >>> bool(2.5 < found.dimension < 3.5)
  True
  """
  flat = np.reshape(np.asarray(x, np.float64), (len(x), -1))
  if len(flat) < 2 * NEIGHBOURS:
    raise ValueError(f'{len(flat)} examples are too few to estimate a dimension; give 10 or more')
  radius = float(np.linalg.norm(flat, axis=1).max())
  return Manifold(intrinsic_dimension(flat, seed=seed), radius, resolution(flat, y, seed=seed))


def intrinsic_dimension(
  x: np.ndarray, *, neighbours: int = NEIGHBOURS, most: int = 10_000, seed: int = 0
) -> float:
  """Returns the dimension of the inputs by maximum likelihood of distances to nearest neighbours.

  Levina and Bickel 2004, with the mean of the inverse dimensions (MacKay and Ghahramani 2005).

  Args:
    x: [examples, features].
    neighbours: how many are looked at.
    most: examples whose neighbours are sought, among all.
    seed: of these examples.

  Returns:
    A positive number. Copies of an example are not neighbours of it.

  Raises:
    ValueError: if there are not more different examples than neighbours, or fewer than two
      neighbours.

  >>> 0.9 < intrinsic_dimension(np.linspace(0, 1, 500)[:, None] * np.ones(7)) < 1.8
  True
  """
  if neighbours < 2:
    raise ValueError(f'neighbours={neighbours} say nothing of a dimension; use 2 or more')
  x = np.unique(np.asarray(x, np.float64), axis=0)
  if len(x) <= neighbours:
    raise ValueError(f'{len(x)} different examples are too few for {neighbours} neighbours')
  chosen = np.random.default_rng(seed).permutation(len(x))[:most]
  total = 0.0
  for at in range(0, len(chosen), BATCH):
    nearest = np.partition(_squares(x[chosen[at : at + BATCH]], x), range(neighbours + 1), axis=1)
    logs = 0.5 * np.log(nearest[:, 1 : neighbours + 1])
    total += float((logs[:, -1:] - logs[:, :-1]).sum())
  return len(chosen) * (neighbours - 1) / total


def resolution(
  x: np.ndarray, y: np.ndarray, *, pairs: int = PAIRS, tail: int = TAIL, seed: int = 0
) -> float:
  """Estimates the least distance of two inputs of different classes, among all pairs.

  The inverse distances of random pairs have an extreme value distribution, whose shape is that of
  the moment estimator (Dekkers, Einmahl and de Haan 1989).

  Args:
    x: [examples, features].
    y: [examples] classes.
    pairs: that are drawn.
    tail: the closest ones, from which the distribution is estimated; at most a tenth of the pairs.
    seed: of the pairs.

  Raises:
    ValueError: for one class, or equal inputs of two classes.

  >>> x = np.random.default_rng(0).uniform(size=(500, 2))
  >>> found = resolution(x, np.arange(500) % 2, pairs=20_000)
  >>> bool(0 < found < 0.02)
  True
  """
  x, y = np.asarray(x, np.float64), np.asarray(y)
  shares = np.unique(y, return_counts=True)[1] / len(y)
  if len(shares) < 2:
    raise ValueError('all examples are of one class; give two classes or more')
  generator = np.random.default_rng(seed)
  one, other = generator.integers(len(y), size=(2, pairs))
  unlike = y[one] != y[other]
  one, other = one[unlike], other[unlike]
  parts = [slice(at, at + BATCH) for at in range(0, len(one), BATCH)]
  away = np.concatenate([np.linalg.norm(x[one[p]] - x[other[p]], axis=1) for p in parts])
  if not away.min() > 0:
    raise ValueError('two equal inputs are of different classes, so no function tells them apart')
  close, tail = np.sort(1 / away), min(tail, len(away) // 10)
  edge, logs = close[-tail - 1], np.log(close[-tail:] / close[-tail - 1])
  first, second = logs.mean(), np.square(logs).mean()
  shape = first + 1 - 0.5 / (1 - first**2 / second)
  all_pairs = len(y) ** 2 * (1 - np.square(shares).sum())
  ratio = tail / len(away) * all_pairs
  grown = math.log(ratio) if abs(shape) < 1e-6 else (ratio**shape - 1) / shape
  return float(min(1 / (edge * (1 + first * grown)), away.min()))


def _squares(one: np.ndarray, other: np.ndarray) -> np.ndarray:
  """Returns squared distances [rows of one, rows of other]."""
  found = np.square(one).sum(1)[:, None] + np.square(other).sum(1) - 2 * one @ other.T
  return np.maximum(found, 1e-12 * found.max())


def bits_of_errors(errors: np.ndarray, target: float) -> float:
  """Returns how rare an error is among those of sampled hypotheses, in bits: -log2 P(error <= it).

  The errors are taken to be those of a scaled non-central chi-square distribution (Boopathy et al.
  2024, section 3), so hypotheses that are too rare to be drawn have a probability too.

  Args:
    errors: [hypotheses] mean squared errors on new examples.
    target: the error that is asked for.

  Raises:
    ValueError: for fewer than 100 errors, or numbers that are not positive.

  >>> errors = np.random.default_rng(0).chisquare(5, size=1000)
  >>> bits = bits_of_errors(errors, 5.0)
  >>> bool(0.6 < bits < 0.9)  # a little more than half are smaller
  True
  """
  from scipy import stats

  errors = np.asarray(errors, np.float64)
  if len(errors) < 100 or not (np.isfinite(errors) & (errors > 0)).all() or not target > 0:
    raise ValueError(
      f'{len(errors)} errors and target={target}: give 100 positive errors and a positive target'
    )
  unit = errors.mean()  # so that the search begins at numbers of order one
  freedom, centre, _, scale = stats.ncx2.fit(errors / unit, floc=0)
  logarithm = stats.ncx2.logcdf(target / unit, freedom, centre, scale=scale)
  if not np.isfinite(logarithm):
    logarithm = _far_tail(target / unit / scale, freedom, centre)
  return float(-logarithm / math.log(2))


def _far_tail(value: float, freedom: float, centre: float) -> float:
  """Returns the logarithm of the distribution function by Sankaran's normal approximation, 1963."""
  from scipy.stats import norm

  total, twice = freedom + centre, freedom + 2 * centre
  h = 1 - 2 / 3 * total * (freedom + 3 * centre) / twice**2
  p = twice / total**2
  m = (h - 1) * (1 - 3 * h)
  mean = 1 + h * p * (h - 1 - 0.5 * (2 - h) * m * p)
  return norm.logcdf(((value / total) ** h - mean) / (h * math.sqrt(2 * p) * (1 + 0.5 * m * p)))


def errors_of_kernel(
  train: tuple[np.ndarray, np.ndarray],
  test: tuple[np.ndarray, np.ndarray],
  *,
  length_scale: float = 1.0,
  hypotheses: int = 10_000,
  seed: int = 0,
) -> np.ndarray:
  """Draws functions of a Gaussian process that go through the training examples, and errs by them.

  Args:
    train: inputs [examples, features] and targets [examples, outputs].
    test: as train.
    length_scale: of the EQ kernel exp(-distance^2 / (2 length_scale^2)).
    hypotheses: how many functions.
    seed: of the functions.

  Returns:
    [hypotheses] mean squared errors on the test examples.

  Raises:
    ValueError: if a number is not positive.

  >>> x = np.linspace(0, 1, 5)[:, None]
  >>> found = errors_of_kernel((x, x), (x + 0.1, x + 0.1), hypotheses=200)
  >>> found.shape, bool(found.max() < 0.1)
  ((200,), True)
  """
  check_positive(length_scale=length_scale, hypotheses=hypotheses)
  (x, y), (new, wanted) = (tuple(np.asarray(a, np.float64) for a in pair) for pair in (train, test))
  kernel = lambda a, b: np.exp(-_squares(a, b) / (2 * length_scale**2))
  inner = kernel(x, x) + 1e-10 * np.eye(len(x))  # for examples that are next to one another
  weights = np.linalg.solve(inner, kernel(x, new)).T
  spread = kernel(new, new) - weights @ kernel(x, new)
  values, vectors = np.linalg.eigh((spread + spread.T) / 2)
  root = vectors * np.sqrt(np.maximum(values, 0))
  generator, away = np.random.default_rng(seed), weights @ y - wanted
  draws = generator.normal(size=(hypotheses, *away.shape))
  return np.square(away + np.einsum('ij,hjo->hio', root, draws)).mean((1, 2))
