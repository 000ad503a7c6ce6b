"""Episodes within one group: the group uniform, its classes uniform, their rows uniform."""

import jax
import numpy as np
import pytest

from metakit.data.table import class_table, select_classes
from metakit.episodes.within_group import of_group, within_group
from tests.episodes.test_chance import SMALLEST_P, equally_likely, follows
from tests.episodes.test_few_shot import many, orders

GROUPS = np.array([1, 0, 1, 2, 1, 0, 2, 1, 2])  # interleaved, of 2, 4 and 3 classes
COUNTS = np.array([3, 4, 5, 3, 3, 6, 4, 3, 5])
LABELS = np.repeat(np.arange(9), COUNTS)
NAMES = ('Latin', 'Korean', 'Greek')
TABLE = class_table(np.arange(36), LABELS, groups=GROUPS, group_names=NAMES)


@pytest.fixture(scope='module')
def episodes():
  return many(within_group(TABLE, ways=2, shots=1, queries=2).plan, 20000)


def test_all_classes_come_from_the_named_group(episodes):
  assert (GROUPS[episodes.info['classes']] == episodes.info['group'][:, None]).all()


def test_groups_are_equally_likely_whatever_their_size(episodes):
  assert equally_likely(episodes.info['group'], 3) > SMALLEST_P


def test_drawing_groups_by_their_size_is_caught(episodes):
  assert follows(episodes.info['group'], [2 / 9, 4 / 9, 3 / 9]) < SMALLEST_P


def test_every_ordered_choice_within_a_group_is_equally_likely(episodes):
  members = np.flatnonzero(GROUPS == 1)
  chosen = episodes.info['classes'][episodes.info['group'] == 1]
  numbers, outcomes = orders(np.searchsorted(members, chosen), 4)
  assert equally_likely(numbers, outcomes) > SMALLEST_P


def test_every_row_is_equally_likely_in_every_slot(episodes):
  of_class = 1 / 3 / np.bincount(GROUPS)[GROUPS]
  for slots in (episodes.support.x, episodes.query.x):
    for rows in slots.T:
      assert follows(rows, (of_class / COUNTS)[LABELS]) > SMALLEST_P


def test_no_row_twice_and_labels_name_the_class(episodes):
  rows = np.concatenate([episodes.support.x, episodes.query.x], axis=1)
  labels = np.concatenate([episodes.support.y, episodes.query.y], axis=1)
  assert (np.diff(np.sort(rows, axis=1), axis=1) > 0).all()
  assert (LABELS[rows] == np.take_along_axis(episodes.info['classes'], labels, axis=1)).all()


def test_a_group_without_classes_is_never_drawn():
  table = select_classes(TABLE, np.flatnonzero(GROUPS != 1))
  episodes = many(within_group(table, ways=2, shots=1, queries=2).plan, 500)
  assert set(episodes.info['group'].tolist()) == {0, 2}


def test_too_many_ways_name_the_group_its_count_and_the_remedy():
  with pytest.raises(ValueError, match=r"^ways=3 exceeds the 2 classes of group 'Latin'; use "):
    within_group(TABLE, ways=3, shots=1, queries=1)


GOLDEN = {'classes': [5, 1], 'support': [20, 6], 'query': [22, 18, 4, 5]}


def test_plans_are_the_same_integers_for_ever():
  plan = within_group(TABLE, ways=2, shots=1, queries=2)
  episode = plan(jax.random.key(7, impl='threefry2x32'))
  assert episode.info['classes'].tolist() == GOLDEN['classes']
  assert episode.support.x.tolist() == GOLDEN['support']
  assert episode.query.x.tolist() == GOLDEN['query']


def test_episodes_of_a_given_group_are_those_of_the_drawn_one():
  sizes = {'ways': 2, 'shots': 1, 'queries': 2}
  drawn, given = within_group(TABLE, **sizes).plan, of_group(TABLE, **sizes)
  for number in range(5):
    episode = drawn(jax.random.key(number))
    again = given(jax.random.key(number), episode.info['group'])
    jax.tree.map(np.testing.assert_array_equal, episode, again)
