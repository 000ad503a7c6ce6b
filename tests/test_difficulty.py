"""Bits of difficulty against the formula in plain numbers, known manifolds, and exact tails."""

import math
import re
from zipfile import ZipFile

import numpy as np
import pytest
from scipy import special, stats

from metakit.difficulty import (
  Manifold,
  _far_tail,
  bits_of_errors,
  classification_bits,
  errors_of_kernel,
  few_shot_bits,
  intrinsic_dimension,
  manifold_of,
  resolution,
  task_bits,
)
from tests.data.real import real_data

SMALL = Manifold(dimension=3, radius=2.0, resolution=1.5)


def plainly(manifold, n, outputs, error, bound, combinations):
  """The formula of arXiv:2305.01034 as it is written, for numbers that floats hold."""
  m, radius, delta = manifold
  frequency = 2 * np.pi * radius / delta
  degree = (np.sqrt((m - 1) ** 2 + 4 * frequency**2) - (m - 1)) / 2
  functions = special.binom(m + degree, m) + special.binom(m + degree - 1, m)
  distance = np.sqrt(m / 6) * radius * n ** (-1 / m)
  distance *= (2 * np.pi ** ((m + 1) / 2) * combinations / special.gamma((m + 1) / 2)) ** (1 / m)
  each = bound * np.sqrt(outputs * combinations) / error * degree * np.sqrt(outputs) / radius
  return outputs * (2 * combinations * functions - n) * np.log2(each * distance)


def test_the_formula_and_where_it_ends():
  given = {'outputs': 4, 'error': 0.1, 'bound': 2.0, 'combinations': 5}
  found = task_bits(SMALL, 500, **given)
  np.testing.assert_allclose(found, plainly(SMALL, 500, 4, 0.1, 2.0, 5), rtol=1e-10)
  same = task_bits(SMALL, 50, outputs=4, error=0.1, combinations=5)
  assert classification_bits(SMALL, 50, classes=5, error=0.1) == same
  assert task_bits(SMALL, 1e9, **given) == 0  # the examples settle everything
  assert task_bits(SMALL, 500, **(given | {'error': 1e9})) == 0
  assert task_bits(Manifold(3000, 1e3, 1.0), 500, **given) == math.inf


def test_the_tasks_of_omniglot_are_as_many_as_in_the_paper():
  """Its formula with the sizes of the alphabets gives the difficulty of 20-way episodes."""
  names = ZipFile(real_data('omniglot', 'images_background.zip')).namelist()
  found = {
    m.groups() for m in map(re.compile('.*/([^/]+)/(character[0-9]+)/.*png').match, names) if m
  }
  sizes = np.unique([alphabet for alphabet, _ in found], return_counts=True)[1]
  tasks = sum(math.comb(max(size, 20), 20) * 20**20 for size in sizes.tolist())
  alphabet = Manifold(22, 49.4064773081425, 5.477225575051661)
  assert f'{few_shot_bits(alphabet, 29, tasks, ways=20, error=0.01):.3e}' == '1.789e+145'


@pytest.mark.parametrize('dimension', [1, 2, 5])
def test_the_dimension_of_known_manifolds(dimension):
  generator = np.random.default_rng(dimension)
  x = generator.uniform(size=(2000, dimension))
  turned = x @ np.linalg.qr(generator.normal(size=(20, 20)))[0][:dimension] + 3.0
  found = intrinsic_dimension(turned)
  np.testing.assert_allclose(
    found, dimension, rtol=0.08
  )  # borders count for less in few dimensions
  twice = np.concatenate([turned, turned[:500]])
  np.testing.assert_allclose(intrinsic_dimension(twice), found, rtol=1e-9)


def test_resolution_is_the_least_distance_of_all_pairs_not_of_those_drawn():
  generator = np.random.default_rng(0)
  x, y = generator.uniform(size=(2000, 3)), generator.integers(3, size=2000)
  away = np.linalg.norm(x[:, None] - x, axis=-1)
  least = away[y[:, None] != y].min()
  found = [resolution(x, y, pairs=40_000, tail=400, seed=seed) for seed in range(9)]
  drawn = [np.quantile(away[y[:, None] != y], 1 / 26_000)]  # two thirds of pairs are unlike
  assert least / 2.5 < np.median(found) < 2.5 * least < drawn[0]
  np.testing.assert_allclose(resolution(7 * x, y, seed=1), 7 * resolution(x, y, seed=1), rtol=1e-9)
  whole = manifold_of(x, y)
  np.testing.assert_allclose(whole.radius, np.sqrt(np.square(x).sum(1)).max(), rtol=1e-12)
  assert whole.resolution == resolution(x, y)


def test_bits_of_errors_are_those_of_the_distribution_in_the_tail_too():
  true = stats.ncx2(6, 4, scale=0.3)
  errors = true.rvs(size=10_000, random_state=0)
  for probability in (0.3, 1e-6):  # each fits the distribution anew
    found = bits_of_errors(errors, true.ppf(probability))
    np.testing.assert_allclose(found, -np.log2(probability), rtol=0.1)


def test_the_far_tail_continues_the_distribution():
  freedom, centre = 400.0, 300.0
  for value in (500.0, 350.0, 250.0):
    exact = stats.ncx2.logcdf(value, freedom, centre)
    np.testing.assert_allclose(_far_tail(value, freedom, centre), exact, rtol=0.02)
  errors = stats.ncx2.rvs(freedom, centre, size=500, random_state=0)
  rare = [bits_of_errors(errors, target) for target in (500.0, 20.0, 0.01)]  # at last exactly 0
  assert 10 < rare[0] < rare[1] - 100 < rare[2] - 200 < math.inf


def test_functions_of_a_kernel_fit_the_examples_and_err_as_the_posterior():
  generator = np.random.default_rng(0)
  x, new = generator.normal(size=(2, 12, 2))
  y, wanted = x[:, :1] * 2, new[:, :1] * 2
  assert errors_of_kernel((x, y), (x, y), hypotheses=50).max() < 1e-6
  kernel = lambda a, b: np.exp(-np.square(a[:, None] - b).sum(-1) / (2 * 0.7**2))
  weights = kernel(new, x) @ np.linalg.inv(kernel(x, x))
  variance = np.trace(kernel(new, new) - weights @ kernel(x, new)) / 12
  mean = np.square(weights @ y - wanted).mean() + variance
  errors = errors_of_kernel((x, y), (new, wanted), length_scale=0.7, hypotheses=20_000)
  np.testing.assert_allclose(errors.mean(), mean, rtol=0.02)


def test_more_must_be_known_in_more_dimensions():
  def bits(dimension):
    x = np.random.default_rng(0).uniform(-1, 1, size=(60, dimension))
    y = np.sin(2 * x[:, :1])
    errors = errors_of_kernel((x[:30], y[:30]), (x[30:], y[30:]), hypotheses=1000)
    return bits_of_errors(errors, 0.02)

  assert bits(2) + 5 < bits(4) < bits(8) - 5


@pytest.mark.parametrize(
  ('call', 'said'),
  [
    (lambda: task_bits(SMALL._replace(radius=0.0), 5, outputs=1, error=0.1), 'radius'),
    (lambda: task_bits(SMALL, 5, outputs=1, error=0.0), 'error'),
    (lambda: classification_bits(SMALL, 5, classes=1, error=0.1), 'classes=1'),
    (lambda: few_shot_bits(SMALL, 5, 5, ways=1, error=0.1), 'ways=1'),
    (lambda: manifold_of(np.ones((4, 2)), np.arange(4)), '4 examples are too few'),
    (lambda: intrinsic_dimension(np.ones((50, 2))), '1 different examples are too few'),
    (lambda: intrinsic_dimension(np.ones((50, 2)), neighbours=1), 'neighbours=1'),
    (lambda: resolution(np.ones((50, 2)), np.zeros(50)), 'of one class'),
    (lambda: resolution(np.ones((50, 2)), np.arange(50)), 'two equal inputs'),
    (lambda: bits_of_errors(np.ones(99), 1.0), '99 errors'),
    (lambda: bits_of_errors(np.zeros(100), 1.0), '100 positive errors'),
    (lambda: errors_of_kernel((SMALL, SMALL), (SMALL, SMALL), length_scale=0), 'length_scale'),
  ],
)
def test_bad_input_is_named(call, said):
  with pytest.raises(ValueError, match=said) as error:
    call()
  assert len(str(error.value).splitlines()) == 1
