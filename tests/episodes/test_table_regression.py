"""Rows of one task in an episode: all equally likely, none twice, each with its own target."""

import numpy as np
import pytest

from metakit.data.targets import regression_table
from metakit.episodes.table_regression import table_regression
from tests.episodes.test_chance import SMALLEST_P, equally_likely
from tests.episodes.test_few_shot import many

COUNTS = np.array([4, 9, 6])
TASKS = np.repeat(np.arange(3), COUNTS)
X = np.arange(19.0)
TABLE = regression_table(X, np.stack([X / 8, -X], 1), TASKS)


@pytest.fixture(scope='module')
def episodes():
  return many(table_regression(TABLE, shots=1, queries=2), 6000)


def test_all_rows_are_of_one_task_and_none_is_there_twice(episodes):
  rows = np.concatenate([episodes.support.x, episodes.query.x], 1).astype(int)
  assert rows.shape == (6000, 3)
  assert (TASKS[rows] == episodes.info['task'][:, None]).all()
  assert (np.diff(np.sort(rows)) > 0).all()


def test_tasks_are_equally_likely_and_so_are_the_rows_of_each(episodes):
  """However many rows they have."""
  task, row = episodes.info['task'], episodes.support.x[:, 0].astype(int)
  assert equally_likely(task, 3) > SMALLEST_P
  for number, count in enumerate(COUNTS):
    for part in (row, episodes.query.x[:, 1].astype(int)):
      assert equally_likely(part[task == number] - COUNTS[:number].sum(), count) > SMALLEST_P


def test_each_row_has_its_own_target(episodes):
  for part in (episodes.support, episodes.query):
    np.testing.assert_array_equal(part.y, np.stack([part.x / 8, -part.x], -1))
