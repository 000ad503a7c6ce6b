"""Queries in Dirichlet proportions: the urn against the distribution that it stands for."""

import itertools
import math

import jax
import numpy as np
import pytest
from scipy.stats import dirichlet_multinomial

from metakit.data.table import class_table
from metakit.episodes.imbalanced import imbalanced
from tests.episodes.test_chance import SMALLEST_P, equally_likely, follows
from tests.episodes.test_few_shot import many, orders

COUNTS = np.array([30, 40, 35, 31])
LABELS = np.repeat(np.arange(4), COUNTS)
TABLE = class_table(np.arange(136), LABELS)


@pytest.fixture(scope='module')
def episodes():
  return many(imbalanced(TABLE, ways=3, shots=2, queries=2).plan, 20000)


def test_counts_are_dirichlet_multinomial(episodes):
  """Of 6 queries of 3 classes, every possible outcome with its probability."""
  outcomes = [c for c in itertools.product(range(7), repeat=3) if sum(c) == 6]
  chances = [dirichlet_multinomial.pmf(c, [2, 2, 2], 6) for c in outcomes]
  number = {outcome: i for i, outcome in enumerate(outcomes)}
  found = np.array([number[tuple(c)] for c in episodes.info['counts'].tolist()])
  assert math.isclose(sum(chances), 1)
  assert follows(found, chances) > SMALLEST_P
  balanced = [math.factorial(6) / math.prod(map(math.factorial, c)) / 3**6 for c in outcomes]
  assert follows(found, balanced) < SMALLEST_P


def test_counts_are_those_of_the_labels(episodes):
  found = [np.bincount(y, minlength=3) for y in episodes.query.y]
  np.testing.assert_array_equal(found, episodes.info['counts'])


def test_no_row_twice_and_labels_name_the_class(episodes):
  rows = np.concatenate([episodes.support.x, episodes.query.x], axis=1)
  labels = np.concatenate([episodes.support.y, episodes.query.y], axis=1)
  assert (np.diff(np.sort(rows, axis=1), axis=1) > 0).all()
  assert (LABELS[rows] == np.take_along_axis(episodes.info['classes'], labels, axis=1)).all()


def test_classes_and_rows_are_equally_likely(episodes):
  numbers, outcomes = orders(episodes.info['classes'], 4)
  assert equally_likely(numbers, outcomes) > SMALLEST_P
  for rows in (*episodes.support.x.T, *episodes.query.x.T):
    assert follows(rows, (1 / 4 / COUNTS)[LABELS]) > SMALLEST_P


def test_a_class_of_which_all_rows_are_in_use_is_drawn_no_more():
  """Five rows a class, one of them for support: at most four queries of 12."""
  table = class_table(np.arange(20), np.repeat(np.arange(4), 5))
  with pytest.raises(ValueError, match=r"shots\+queries=5 uses all rows of '0', '1', '2'"):
    imbalanced(table, ways=3, shots=1, queries=4)
  episodes = many(imbalanced(table, ways=3, shots=1, queries=3).plan, 2000)
  assert episodes.info['counts'].max() == 4
  assert episodes.info['counts'].min() == 1
  rows = np.concatenate([episodes.support.x, episodes.query.x], axis=1)
  assert (np.diff(np.sort(rows, axis=1), axis=1) > 0).all()


def test_many_balls_are_nearly_balanced():
  counts = many(imbalanced(TABLE, 3, 1, queries=10, concentration=10_000).plan, 2000).info['counts']
  assert counts.var(0).max() == pytest.approx(30 * 2 / 9, rel=0.15)  # of the multinomial


GOLDEN = {'classes': [3, 0], 'support': [107, 28], 'query': [11, 22, 126, 7, 122, 105]}


def test_plans_are_the_same_integers_for_ever():
  plan = imbalanced(TABLE, ways=2, shots=1, queries=3)
  episode = plan(jax.random.key(7, impl='threefry2x32'))
  assert episode.info['classes'].tolist() == GOLDEN['classes']
  assert episode.support.x.tolist() == GOLDEN['support']
  assert episode.query.x.tolist() == GOLDEN['query']
