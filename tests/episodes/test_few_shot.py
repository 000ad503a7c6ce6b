"""Fixed ways and shots: every row reachable, equally likely, never twice; classes may be ragged."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.data.table import class_table
from metakit.episodes.few_shot import few_shot
from metakit.episodes.integer_draws import draw_without_replacement, integers_below
from metakit.episodes.semi_supervised import semi_supervised
from metakit.sources import gather_rows, on_host, place
from tests.episodes.test_chance import SMALLEST_P, equally_likely, follows

COUNTS = np.array([5, 3, 8, 4, 6])  # ragged
LABELS = np.repeat(np.arange(5), COUNTS)
TABLE = class_table(np.arange(26) * 10, LABELS)


def many(sampler, num_keys, seed=0):
  """Runs a sampler for many keys; returns NumPy arrays with a leading key axis."""
  keys = jax.random.split(jax.random.key(seed, impl='threefry2x32'), num_keys)
  return jax.tree.map(np.asarray, jax.jit(jax.vmap(sampler))(keys))


def one(sampler, seed=0):
  """Runs a sampler for one key, compiled as one program; returns NumPy arrays."""
  return jax.device_get(jax.jit(sampler)(jax.random.key(seed)))


@pytest.fixture(scope='module')
def episodes():
  return many(few_shot(TABLE, ways=3, shots=1, queries=2).plan, 20000)


def orders(draws, count):
  """Numbers the ordered draws [n, k] of k out of count, in lexicographic order."""
  number = {p: i for i, p in enumerate(itertools.permutations(range(count), draws.shape[1]))}
  return np.array([number[tuple(d)] for d in draws.tolist()]), len(number)


@pytest.mark.parametrize('limit', [1, 2, 7, 1000, 2**31 - 1])
def test_integers_below_a_limit_are_equally_likely(limit):
  draws = many(lambda key: integers_below(key, jnp.full(50, limit)), 1000)
  assert draws.min() >= 0 and draws.max() < limit
  bins = min(limit, 100)
  assert limit == 1 or equally_likely(draws.astype(np.int64) * bins // limit, bins) > SMALLEST_P


@pytest.mark.parametrize(('count', 'num_draws'), [(1, 1), (5, 1), (4, 2), (5, 3), (4, 4)])
def test_every_ordered_draw_is_equally_likely(count, num_draws):
  draws = many(lambda key: draw_without_replacement(key, count, num_draws), 20000)
  numbers, outcomes = orders(draws, count)
  assert equally_likely(numbers, outcomes) > SMALLEST_P or outcomes == 1


def test_a_shuffle_that_swaps_with_any_place_is_caught():
  """The classic planted bias: n**n equally likely swap sequences cannot make n! orders fair."""

  def biased(key):
    target = jax.random.randint(key, (3,), 0, 3)
    order = jnp.arange(3)
    for i in range(3):
      order = order.at[i].set(order[target[i]]).at[target[i]].set(order[i])
    return order

  numbers, outcomes = orders(many(biased, 20000), 3)
  assert equally_likely(numbers, outcomes) < SMALLEST_P


def test_draws_equal_a_shuffle_written_out():
  """The kept swaps, followed backwards, give what swapping a real array gives."""
  key, count, num_draws = jax.random.key(3), 40, 17
  step = np.arange(num_draws)
  target = step + np.asarray(integers_below(key, count - step))
  order = np.arange(count)
  for i, j in enumerate(target):
    order[i], order[j] = order[j], order[i]
  draws = draw_without_replacement(key, count, num_draws)
  assert draws.tolist() == order[:num_draws].tolist()


def test_the_count_may_be_traced_and_differ_within_a_batch():
  counts = jnp.array([3, 4, 900])
  keys = jax.random.split(jax.random.key(1), 3)
  together = jax.jit(jax.vmap(lambda k, n: draw_without_replacement(k, n, 3)))(keys, counts)
  alone = [
    draw_without_replacement(k, n, 3).tolist() for k, n in zip(keys, [3, 4, 900], strict=True)
  ]
  assert together.tolist() == alone


def test_every_row_is_equally_likely_in_every_slot(episodes):
  probabilities = np.repeat(1 / COUNTS, COUNTS) / len(COUNTS)
  for slots in (episodes.support.x, episodes.query.x):
    for rows in slots.T:
      assert follows(rows, probabilities) > SMALLEST_P


def test_support_and_query_row_of_a_class_are_a_fair_pair(episodes):
  pair = episodes.support.x[:, 1] * 26 + episodes.query.x[:, 3]  # both of label 1
  same = (LABELS[:, None] == LABELS[None]) & ~np.eye(26, dtype=bool)
  pairs = same / (COUNTS * (COUNTS - 1))[LABELS][:, None] / len(COUNTS)
  assert follows(pair, pairs.ravel()) > SMALLEST_P


def test_every_ordered_choice_of_classes_is_equally_likely(episodes):
  numbers, outcomes = orders(episodes.info['classes'], 5)
  assert equally_likely(numbers, outcomes) > SMALLEST_P


def test_no_row_twice_and_labels_name_the_class(episodes):
  rows = np.concatenate([episodes.support.x, episodes.query.x], axis=1)
  labels = np.concatenate([episodes.support.y, episodes.query.y], axis=1)
  assert (np.diff(np.sort(rows, axis=1), axis=1) > 0).all()
  drawn = np.take_along_axis(episodes.info['classes'], labels, axis=1)
  assert (LABELS[rows] == drawn).all()


def test_every_row_of_the_smallest_class_can_be_used_up():
  episode = few_shot(TABLE, ways=5, shots=1, queries=2).plan(jax.random.key(0))
  rows = np.concatenate([episode.support.x, episode.query.x])
  assert np.isin(np.flatnonzero(LABELS == 1), rows).all()


def test_plan_table_and_host_reading_give_the_same_episode():
  key = jax.random.key(5)
  source = few_shot(TABLE, ways=3, shots=1, queries=2)
  plan, placed = source.plan, place(source)
  assert on_host(source) and not on_host(placed)
  host = plan(key)
  for whole in (source(key), placed(key), jax.jit(source)(key), jax.jit(lambda: source(key))()):
    assert isinstance(whole.support.x, jax.Array)
    assert whole.support.x.tolist() == TABLE.x[host.support.x].tolist()
    assert whole.query.x.tolist() == TABLE.x[host.query.x].tolist()
  assert gather_rows(host, None) is host


GOLDEN = {'classes': [4, 3, 2], 'support': [22, 19, 14], 'query': [24, 20, 17, 18, 9, 12]}


def test_plans_are_the_same_integers_for_ever():
  """Also on other jax versions and devices: stored test episodes stay what they were."""
  episode = few_shot(TABLE, ways=3, shots=1, queries=2).plan(jax.random.key(7, impl='threefry2x32'))
  assert episode.info['classes'].tolist() == GOLDEN['classes']
  assert episode.support.x.tolist() == GOLDEN['support']
  assert episode.query.x.tolist() == GOLDEN['query']


def test_all_classes_that_are_too_small_are_named_at_once():
  table = class_table(np.arange(34), np.repeat(np.arange(15), [2] * 12 + [1] + [4, 5]))
  with pytest.raises(ValueError) as error:
    few_shot(table, 2, 1, queries=2)
  assert str(error.value) == (
    "shots+queries=3 exceeds the examples of 13 classes ('0' has 2, '1' has 2, '2' has 2, '3' has "
    "2, '4' has 2, '5' has 2, '6' has 2, '7' has 2, '8' has 2, '9' has 2 and 3 more); leave them "
    'out'  # one of them has 1 example, too few for any episode
  )


@pytest.mark.parametrize(
  ('rows', 'remedy'),
  [
    (2, r'2 examples of each class; use shots\+queries<=2$'),
    (1, r'1 examples of each class; use data with more examples of a class$'),
  ],
)
def test_no_remedy_that_is_impossible_is_given(rows, remedy):
  with pytest.raises(ValueError, match=remedy):
    few_shot(class_table(np.arange(6 * rows), np.arange(6 * rows) % 6), 2, 1, queries=2)


def test_a_sum_of_arguments_is_said_as_such():
  table = class_table(np.arange(48), np.arange(48) % 6)
  with pytest.raises(ValueError, match=r'^ways\+distractors=8 exceeds the 6 classes; use ways\+'):
    semi_supervised(table, 4, 1, queries=2, unlabelled=2, distractors=4)
  with pytest.raises(
    ValueError, match=r'^shots\+unlabelled\+queries=9 .* the 8 examples of each class; use'
  ):
    semi_supervised(table, 4, 1, queries=2, unlabelled=6)


@pytest.mark.parametrize(
  ('ways', 'queries', 'said'),
  [
    (6, 1, r'^ways=6 exceeds the 5 classes; use ways<=5$'),
    (
      2,
      3,
      r"^shots\+queries=4 exceeds the 3 examples of class '1'; use shots\+queries<=3",
    ),
  ],
)
def test_what_cannot_be_drawn_is_refused_naming_class_count_and_remedy(ways, queries, said):
  with pytest.raises(ValueError, match=said):
    few_shot(TABLE, ways, 1, queries=queries)
