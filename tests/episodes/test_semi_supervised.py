"""Support examples without labels, of the classes of the episode and of others."""

import jax
import numpy as np
import pytest

from metakit.data.table import class_table
from metakit.episodes.semi_supervised import semi_supervised
from metakit.heads import prototypes, soft_kmeans
from tests.episodes.test_chance import SMALLEST_P, equally_likely, follows
from tests.episodes.test_few_shot import many, orders

COUNTS = np.array([9, 12, 10, 8])
LABELS = np.repeat(np.arange(4), COUNTS)
TABLE = class_table(np.arange(39), LABELS)


@pytest.fixture(scope='module')
def episodes():
  return many(semi_supervised(TABLE, 2, 1, queries=2, unlabelled=3, distractors=1).plan, 20000)


def test_labels_are_of_the_first_classes_and_the_rest_have_none(episodes):
  assert (episodes.support.y == [0, 1] + [-1] * 9).all()
  assert (episodes.query.y == [0, 0, 1, 1]).all()
  classes = episodes.info['classes']
  for part, order in (
    (episodes.support, [0, 1, 0, 0, 0, 1, 1, 1, 2, 2, 2]),
    (episodes.query, None),
  ):
    place = episodes.query.y if order is None else np.broadcast_to(order, part.x.shape)
    assert (LABELS[part.x] == np.take_along_axis(classes, place, axis=1)).all()


def test_no_row_twice(episodes):
  rows = np.concatenate([episodes.support.x, episodes.query.x], axis=1)
  assert (np.diff(np.sort(rows, axis=1), axis=1) > 0).all()


def test_classes_and_rows_are_equally_likely(episodes):
  numbers, outcomes = orders(episodes.info['classes'], 4)
  assert equally_likely(numbers, outcomes) > SMALLEST_P
  for rows in (*episodes.support.x.T, *episodes.query.x.T):
    assert follows(rows, (1 / 4 / COUNTS)[LABELS]) > SMALLEST_P


def test_examples_without_labels_help_soft_k_means_and_distractors_less():
  """Ren et al. 2018: more than class means alone, also among distractors with their cluster."""
  rng = np.random.default_rng(0)
  labels = np.repeat(np.arange(20), 30)
  x = 0.9 * rng.normal(size=(20, 8))[labels] + 0.9 * rng.normal(size=(600, 8))
  x, table = x.astype(np.float32), class_table(np.arange(600), labels)

  def accuracy(head, distractors):
    episodes = many(
      semi_supervised(table, 5, 1, queries=10, unlabelled=10, distractors=distractors).plan, 400
    )
    support, query = (part._replace(x=x[part.x]) for part in episodes[:2])
    params = {'log_scale': np.float32(0)}
    run = jax.vmap(lambda s, q: head.predict(head.adapt(None, params, s), q).argmax(-1))
    return np.mean(np.asarray(jax.jit(run)(support, query.x)) == query.y)

  plain = accuracy(prototypes(5), 0)
  gain = accuracy(soft_kmeans(5, queries=False), 0) - plain
  among = accuracy(soft_kmeans(5, queries=False), 5) - plain
  assert gain > 0.02
  assert among < gain


GOLDEN = {'classes': [3, 1, 0], 'support': [31, 9, 34, 37, 19, 16, 4, 7], 'query': [36, 20]}


def test_plans_are_the_same_integers_for_ever():
  plan = semi_supervised(TABLE, 2, 1, queries=1, unlabelled=2, distractors=1)
  episode = plan(jax.random.key(7, impl='threefry2x32'))
  assert episode.info['classes'].tolist() == GOLDEN['classes']
  assert episode.support.x.tolist() == GOLDEN['support']
  assert episode.query.x.tolist() == GOLDEN['query']
