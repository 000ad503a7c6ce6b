"""The Meta-Dataset rule against a NumPy implementation of the paper's formulas, written apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.data.table import class_table
from metakit.episodes.variable_shot import (
  _imbalance,
  _proportional,
  variable_shot,
)
from tests.episodes.test_chance import (
  SMALLEST_P,
  equally_likely,
  follows,
  standard_errors_apart,
)
from tests.episodes.test_few_shot import many

# 30 classes of 5 to 120 rows: every minimum of the rule is active in some episodes.
COUNTS = np.rint(np.geomspace(5, 120, 30)).astype(int)[np.random.default_rng(0).permutation(30)]
LABELS = np.repeat(np.arange(30), COUNTS)
TABLE = class_table(np.arange(len(LABELS)), LABELS)
LIMITS = {
  'max_ways': 12,
  'min_ways': 5,
  'max_support': 150,
  'max_support_per_class': 40,
  'max_queries_per_class': 10,
}

LOG_HALF_TO_LOG_2 = (np.log(0.5), np.log(2))


def paper_episodes(rng, number, counts, limits, alpha=LOG_HALF_TO_LOG_2, ceil=np.ceil):
  """Returns shots by class and queries by the text of Triantafillou et al., in float64.

  Each row is an episode, each column a class; those that were not chosen have 0 shots.
  """
  some = (number, 1)
  ways = rng.integers(limits['min_ways'], min(limits['max_ways'], len(counts)) + 1, some)
  chosen = rng.random((number, len(counts))).argsort(1).argsort(1) < ways
  smallest = np.where(chosen, counts, np.inf).min(1, keepdims=True)
  queries = np.minimum(limits['max_queries_per_class'], np.floor(0.5 * smallest))
  beta = 1 - rng.random(some)  # (0, 1]
  each = ceil(beta * np.minimum(limits['max_support_per_class'], counts - queries))
  support = np.minimum(limits['max_support'], (chosen * each).sum(1, keepdims=True))
  likelihood = chosen * np.exp(rng.uniform(*alpha, chosen.shape)) * counts
  share = likelihood / likelihood.sum(1, keepdims=True)
  shots = np.minimum(np.floor(share * (support - ways)) + 1, counts - queries)
  return chosen * shots, queries[:, 0]


def paper_summaries(num_episodes, seed=1, **changes):
  rng = np.random.default_rng(seed)
  return summary(*paper_episodes(rng, num_episodes, COUNTS, LIMITS, **changes))


def summary(by_class, queries):
  """Ways, support size, queries, two measures of imbalance; their squares; shots by class.

  Args:
    by_class: [episodes, classes] the shots of each class, 0 for those that do not take part.
    queries: [episodes] the queries of each class.
  """
  real = by_class > 0
  ways, support = real.sum(1), by_class.sum(1)
  mean = support / ways
  deviation = np.sqrt((real * (by_class - mean[:, None]) ** 2).sum(1) / ways)
  numbers = [ways, support, queries, deviation / mean, by_class.max(1) / support]
  numbers = np.stack(numbers, axis=1).astype(np.float64)
  return np.concatenate([numbers, numbers**2, by_class, real], axis=1)


@pytest.fixture(scope='module')
def episodes():
  return many(variable_shot(TABLE, **LIMITS).plan, 20000)


@pytest.fixture(scope='module')
def summaries(episodes):
  info = episodes.info
  by_class = np.zeros((len(info['ways']), len(COUNTS)))
  taken = np.arange(LIMITS['max_ways']) < info['ways'][:, None]
  by_class[np.nonzero(taken)[0], info['classes'][taken]] = info['shots'][taken]
  return summary(by_class, info['queries'])


def test_the_moments_are_those_of_the_paper(summaries):
  """Means and second moments of ways, support size, queries, imbalance; mean shots by class."""
  apart = standard_errors_apart(summaries, paper_summaries(10000))
  assert apart.max() < 4.5, f'column {apart.argmax()} is {apart.max()} standard errors off'


def test_another_rule_has_other_moments(summaries):
  narrower = paper_summaries(5000, alpha=(np.log(0.7), np.log(2)))
  rounded_down = paper_summaries(5000, ceil=lambda x: np.maximum(1.0, np.floor(x)))
  for wrong in (narrower, rounded_down):
    assert standard_errors_apart(summaries, wrong).max() > 6


def test_ways_are_uniform(episodes):
  assert equally_likely(episodes.info['ways'] - 5, 8) > SMALLEST_P


def test_every_class_is_equally_likely_in_every_place(episodes):
  for place in episodes.info['classes'].T:
    assert equally_likely(place[place >= 0], 30) > SMALLEST_P


def test_every_row_of_a_class_is_equally_likely_as_support_and_as_query(episodes):
  """Each alone, and both together for the classes small enough to count every ordered pair."""
  probabilities = np.repeat(1 / COUNTS, COUNTS) / 30
  assert follows(episodes.support.x[:, 0], probabilities) > SMALLEST_P
  first_query = episodes.query.x[:, 0]
  assert follows(first_query, probabilities) > SMALLEST_P
  pairs = np.stack([episodes.support.x[:, 0], first_query], axis=1)
  for c in np.argsort(COUNTS)[:3]:
    drawn = pairs[(LABELS[pairs] == c).all(axis=1)] - TABLE.starts[c]
    number = drawn[:, 0] * (COUNTS[c] - 1) + drawn[:, 1] - (drawn[:, 1] > drawn[:, 0])
    assert equally_likely(number, COUNTS[c] * (COUNTS[c] - 1)) > SMALLEST_P


@pytest.mark.slow  # the first draws are asked above
def test_late_draws_are_uniform_too():
  """The last support example and the last queries of two classes of 20, both drawn every time."""
  table = class_table(np.arange(40), np.arange(40) // 20)
  drawn = many(variable_shot(table, max_ways=2, min_ways=2, max_support=20).plan, 20000)
  last = drawn.support.weight.sum(axis=1).astype(int) - 1
  for rows in (drawn.support.x[np.arange(20000), last], drawn.query.x[:, 9], drawn.query.x[:, 19]):
    assert equally_likely(rows, 40) > SMALLEST_P


def test_no_real_row_twice_and_labels_name_the_class(episodes):
  rows = np.concatenate([episodes.support.x, episodes.query.x], axis=1)
  labels = np.concatenate([episodes.support.y, episodes.query.y], axis=1)
  real = np.concatenate([episodes.support.weight, episodes.query.weight], axis=1) > 0
  unique = np.where(real, rows, -1 - np.arange(rows.shape[1]))
  assert (np.diff(np.sort(unique, axis=1), axis=1) > 0).all()
  assert (LABELS[rows] == np.take_along_axis(episodes.info['classes'], labels, axis=1)).all()


def test_weights_count_what_info_says(episodes):
  info, (support, query) = episodes.info, (episodes.support, episodes.query)
  places = np.arange(LIMITS['max_ways'])
  for part, counts in (
    (support, info['shots']),
    (query, np.where(places < info['ways'][:, None], info['queries'][:, None], 0)),
  ):
    real = part.weight[:, :, None] * (part.y[:, :, None] == places)
    np.testing.assert_array_equal(real.sum(axis=1), counts)
    assert set(np.unique(part.weight)) <= {0.0, 1.0}
  assert (info['shots'].sum(axis=1) <= LIMITS['max_support']).all()
  assert ((info['shots'] > 0) == (places < info['ways'][:, None])).all()


def test_padding_is_last_and_repeats_the_first_support_example(episodes):
  assert (np.diff(episodes.support.weight, axis=1) <= 0).all()
  by_label = episodes.query.weight.reshape(len(episodes.query.x), LIMITS['max_ways'], -1)
  assert (np.diff(by_label, axis=2) <= 0).all()
  for part in (episodes.support, episodes.query):
    padding = part.weight == 0
    assert padding.any()
    first = np.broadcast_to(episodes.support.x[:, :1], part.x.shape)
    assert (part.x[padding] == first[padding]).all() and (part.y[padding] == 0).all()
  outside = np.arange(LIMITS['max_ways']) >= episodes.info['ways'][:, None]
  assert (episodes.info['classes'][outside] == -1).all()


@pytest.mark.slow
def test_a_table_of_few_classes_keeps_the_shapes():
  table = class_table(np.arange(14), np.arange(14) // 2)  # 7 classes of 2 rows
  episodes = many(variable_shot(table).plan, 300)
  assert episodes.support.x.shape == (300, 500) and episodes.query.x.shape == (300, 500)
  assert set(episodes.info['ways'].tolist()) == {5, 6, 7}
  assert (episodes.info['shots'] == (np.arange(50) < episodes.info['ways'][:, None])).all()
  assert (episodes.info['queries'] == 1).all()


@pytest.mark.slow
def test_one_example_a_class_fits_exactly():
  episodes = many(variable_shot(TABLE, max_ways=6, min_ways=6, max_support=6).plan, 100)
  assert (episodes.info['shots'] == 1).all() and (episodes.support.weight == 1).all()


def test_plan_table_and_host_reading_give_the_same_episode():
  key = jax.random.key(5)
  table = TABLE._replace(x=TABLE.x * 10)
  source = variable_shot(table, **LIMITS)
  plan, whole = source.plan(key), source(key)
  assert table.x[plan.support.x].tolist() == whole.support.x.tolist()
  assert table.x[plan.query.x].tolist() == whole.query.x.tolist()


@pytest.mark.parametrize('seed', [0, *(pytest.param(i, marks=pytest.mark.slow) for i in (1, 2))])
def test_proportional_parts_are_exact(seed):
  rng = np.random.default_rng(seed)
  for limit in (7, 10**4, (2**30 - 1) // 20):
    weights = rng.integers(0, limit, 20) + 1
    total = int(rng.integers(0, 501))
    exact = [int(w) * total // int(weights.sum()) for w in weights]
    ours = _proportional(jnp.asarray(weights, jnp.uint32), jnp.asarray(total), 500)
    assert ours.tolist() == exact


@pytest.mark.parametrize(
  'largest',
  [
    *(2, 50_000_000),
    *(pytest.param(number, marks=pytest.mark.slow) for number in (20, 1300, 300_000)),
  ],
)
def test_imbalance_weights_are_right_and_never_overflow(largest):
  counts = jnp.asarray(np.linspace(max(2, largest // 3), largest, 50), jnp.int32)
  keys = jax.random.split(jax.random.key(0), 4000)
  weights = np.asarray(jax.vmap(_imbalance(50, largest), (0, None))(keys, counts), np.float64)
  assert weights.sum(axis=1).max() < 2**30 and weights.min() > 0
  ratio = weights / np.asarray(counts)
  alpha = np.log(ratio / ratio.max() * 2)  # the largest exp(alpha) is 2
  assert abs(alpha.mean()) < 0.02
  assert abs(alpha.min() - np.log(0.5)) < 0.02
  assert abs(alpha.var() - np.log(4) ** 2 / 12) < 0.005


GOLDEN = {
  'info': {'classes': [15, 26, 5, 3, 12, -1], 'queries': 2, 'shots': [1, 5, 1, 1, 1, 0], 'ways': 5},
  'support': [647, 930, 937, 940, 943, 1006, 181, 151, 510, 647, 647, 647],
  'query': [646, 645, 917, 955, 179, 178, 142, 129, 506, 504, 647, 647],
}


def test_plans_are_the_same_integers_for_ever():
  episode = variable_shot(
    TABLE, 6, 2, max_support=12, max_support_per_class=10, max_queries_per_class=2
  ).plan(jax.random.key(7, impl='threefry2x32'))
  assert {name: value.tolist() for name, value in episode.info.items()} == GOLDEN['info']
  assert episode.support.x.tolist() == GOLDEN['support']
  assert episode.query.x.tolist() == GOLDEN['query']


@pytest.mark.parametrize(
  ('sizes', 'message'),
  [
    ({'min_ways': 13}, 'min_ways=13 exceeds max_ways=12; use min_ways<=12'),
    ({'max_ways': 50, 'min_ways': 31}, 'min_ways=31 exceeds the 30 classes; use min_ways<=30'),
    ({'max_support': 11}, 'max_support=11 .* use max_support>=12 or max_ways<=11'),
    ({'max_queries_per_class': 0}, 'max_queries_per_class=0 is not positive'),
  ],
)
def test_impossible_sizes_are_named_with_the_remedy(sizes, message):
  with pytest.raises(ValueError, match=message):
    variable_shot(TABLE, **LIMITS | sizes)


def test_a_class_of_one_row_is_named():
  table = class_table(np.arange(6), [0, 0, 1, 2, 2, 2], names=['a', 'lonely', 'c'])
  with pytest.raises(ValueError, match=r"class 'lonely' has 1 example, .* leave the class out"):
    variable_shot(table, min_ways=2)
