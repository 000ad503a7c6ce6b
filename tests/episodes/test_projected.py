"""Projected tasks: a pure function of their number, on rows that are all equally likely."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.data.table import class_table
from metakit.episodes.projected import projected
from metakit.sources import complete
from tests.episodes.test_chance import SMALLEST_P, equally_likely
from tests.episodes.test_few_shot import one

RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(4), [10, 5, 15, 10])
IMAGES = RNG.integers(0, 256, (40, 6, 6, 1)).astype(np.uint8)
TABLE = class_table(IMAGES, LABELS)
SIZES = {'size': 8, 'shots': 5, 'queries': 2}


@functools.cache
def planner(**options):
  """A compiled (keys, size of the pool) -> plans; one program for all sizes."""
  plan = lambda key, tasks: projected(TABLE, **{**SIZES, **options}, tasks=tasks).plan(key)
  return jax.jit(jax.vmap(plan, in_axes=(0, None)))


@functools.cache
def maker(**options):
  """A compiled (keys, size of the pool) -> plans and whole episodes."""

  def make(key, tasks):
    source = projected(TABLE, **SIZES, **options, tasks=tasks)
    plan = source.plan(key)
    return plan, complete(source, plan, jnp.asarray(source.data))

  return jax.jit(jax.vmap(make, in_axes=(0, None)))


def keys(count):
  return jax.random.split(jax.random.key(0, impl='threefry2x32'), count)


def planned(tasks=2**30, **options):
  return jax.device_get(planner(**options)(keys(4000), tasks))


def whole(tasks=2**30, **options):
  return jax.device_get(maker(**options)(keys(600), tasks))


def rows_of(episodes):
  return np.concatenate([episodes.support.x, episodes.query.x], axis=1)


def labels_of(episodes):
  return np.concatenate([episodes.support.y, episodes.query.y], axis=1)


def test_every_row_is_equally_likely_and_none_occurs_twice():
  rows = rows_of(planned())
  assert all(len(set(row)) == 7 for row in rows.tolist())
  assert equally_likely(rows, 40) > SMALLEST_P
  assert equally_likely(rows[:, -1], 40) > SMALLEST_P


def permutations(episodes):
  """{number: the label that each class has there}; every row of a task must agree with it."""
  seen = {}
  for number, rows, labels in zip(
    episodes.info['labels'], rows_of(episodes), labels_of(episodes), strict=True
  ):
    for c, y in zip(LABELS[rows], labels, strict=True):
      assert seen.setdefault(int(number), {}).setdefault(int(c), int(y)) == y
  return seen


def test_labels_are_permuted_by_the_task():
  seen = permutations(planned(tasks=24))
  assert len(seen) == 24
  assert all(sorted(each.values()) == [0, 1, 2, 3] for each in seen.values())
  assert len({tuple(each[c] for c in range(4)) for each in seen.values()}) > 8


def test_all_permutations_are_equally_likely():
  seen = permutations(planned(tasks=100))
  first = [each[0] for each in seen.values()]
  assert equally_likely(first, 4) > SMALLEST_P


def matrices(**options):
  """{number of a task: its matrix [36, 8]}, by least squares of its projected rows."""
  plans, episodes = whole(**options)
  standard = IMAGES.reshape(40, 36) - IMAGES.reshape(40, 36).mean(0)
  standard /= standard.std()
  rows = rows_of(plans)
  x = np.concatenate([episodes.support.x, episodes.query.x], axis=1)
  found = {}
  for number in np.unique(episodes.info['projection']):
    mine = episodes.info['projection'] == number
    inputs, outputs = standard[rows[mine].ravel()], x[mine].reshape(-1, 8)
    solution, _, rank, _ = np.linalg.lstsq(inputs, outputs, rcond=None)
    assert rank == 36
    np.testing.assert_allclose(inputs @ solution, outputs, atol=1e-4)
    found[int(number)] = solution
  return found


def test_a_task_is_one_gaussian_matrix():
  """A_ij ~ N(0, 1 / inputs), the same whenever its number is drawn, another for another."""
  found = matrices(tasks=10)
  entries = np.stack(list(found.values())) * 6
  assert entries.shape == (10, 36, 8)
  assert abs(entries.mean()) < 4 / np.sqrt(entries.size)
  assert abs(entries.var() - 1) < 4 * np.sqrt(2 / entries.size)
  correlations = np.corrcoef(entries.reshape(10, -1)) - np.eye(10)
  assert np.abs(correlations).max() < 0.3


def test_held_out_tasks_are_others():
  seen, unseen = (matrices(tasks=3, held_out=h) for h in (False, True))
  distances = [np.abs(a - b).max() for a in seen.values() for b in unseen.values()]
  assert min(distances) > 0.1


def test_a_larger_pool_holds_the_smaller():
  small, large = (matrices(tasks=n) for n in (2, 8))
  for number, matrix in small.items():
    np.testing.assert_allclose(large[number], matrix, atol=1e-4)


def test_a_share_of_the_episodes_has_the_labels_of_task_0():
  seen = permutations(planned(tasks=50, fixed_labels=0.75))
  assert seen[-1] == permutations(planned(tasks=1))[0]
  share = (planned(tasks=50, fixed_labels=0.75).info['labels'] == -1).mean()
  assert abs(share - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 4000)
  assert (planned(tasks=50, fixed_labels=0.75).info['projection'] >= 0).all()


@pytest.mark.slow  # three quarters of them have, above
def test_all_episodes_may_have_them():
  assert (planned(tasks=50, fixed_labels=1.0, fixed_projection=1.0).info['labels'] == -1).all()


@pytest.mark.slow  # as it is in every test of a pool here
def test_a_pool_size_may_be_traced():
  key = jax.random.key(3)
  episode = jax.jit(lambda tasks: projected(TABLE, **SIZES, tasks=tasks).plan(key))(7)
  expected = projected(TABLE, **SIZES, tasks=7).plan(key)
  jax.tree.map(np.testing.assert_array_equal, episode, expected)


def test_without_a_pool_every_episode_is_a_task_of_its_own():
  """As many numbers of 31 bits would meet by chance; their second parts tell them apart."""
  episodes = planned(tasks=None)
  numbers = np.stack([episodes.info['task'], episodes.info['more']], axis=1)
  assert len(np.unique(numbers, axis=0)) == 4000
  assert (numbers >= 0).all() and (numbers.max(0) > 0.99 * 2**31).all()
  first = [
    dict(zip(LABELS[r], y, strict=True)).get(0)
    for r, y in zip(rows_of(episodes), labels_of(episodes), strict=True)
  ]
  assert equally_likely([y for y in first if y is not None], 4) > SMALLEST_P


@pytest.mark.slow
def test_both_parts_of_a_number_make_the_task():
  source = projected(TABLE, **SIZES, tasks=None)
  plan = one(source.plan)
  x = lambda **other: np.asarray(
    source.finish(images(plan)._replace(info={**plan.info, **other})).support.x
  )
  images = lambda plan: plan._replace(
    support=plan.support._replace(x=IMAGES[plan.support.x]),
    query=plan.query._replace(x=IMAGES[plan.query.x]),
  )
  np.testing.assert_array_equal(x(), x())
  assert np.abs(x() - x(more=plan.info['more'] + 1)).max() > 0.1
  assert np.abs(x() - x(projection=plan.info['projection'] + 1)).max() > 0.1
  np.testing.assert_array_equal(
    x(projection=np.int32(-1)), x(projection=np.int32(-1), more=np.int32(5))
  )


@pytest.mark.slow  # as the labels of task 0
def test_a_share_of_the_episodes_has_the_projection_of_task_0():
  fixed = {'tasks': 2, 'fixed_projection': 0.5}
  np.testing.assert_allclose(matrices(**fixed)[-1], matrices(tasks=1)[0], atol=1e-4)
  held_out = {**fixed, 'held_out': True}
  np.testing.assert_allclose(matrices(**held_out)[-1], matrices(tasks=1)[0], atol=1e-4)


def test_a_share_of_the_episodes_repeats_a_few_rows():
  many_examples = {'shots': 28, 'distinct': 3}
  rows = rows_of(planned(repeated=0.75, **many_examples))
  assert rows.shape == (4000, 30)
  different = np.array([len(set(row)) for row in rows.tolist()])
  assert set(different) == {3, 30}  # of 30 draws none is missed but once in 60,000
  share = (different == 3).mean()
  assert abs(share - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 4000)
  again = rows[different == 3]
  assert equally_likely(again[:, 0], 40) > SMALLEST_P
  # Any two examples are the same row with a chance of one in three, neighbours or not.
  for other in (1, 29):
    same = (again[:, 0] == again[:, other]).mean()
    assert abs(same - 1 / 3) < 4 * np.sqrt(2 / 9 / len(again))
  permutations(planned(repeated=1.0, distinct=2, tasks=24))  # labels are those of the repeated rows
  alone = planned(**many_examples)
  untouched = different == 30
  np.testing.assert_array_equal(rows[untouched], rows_of(alone)[untouched])


def test_outputs_are_of_order_1():
  x = whole()[1].support.x
  assert abs(x.std() - 1) < 0.1
  assert x.dtype == np.float32


@pytest.mark.parametrize(
  ('options', 'named'),
  [
    ({'tasks': 2**31}, 'exceeds the index of the pool'),
    ({'tasks': np.int64(2**32)}, 'exceeds the index of the pool'),
    ({'tasks': np.int64(-3)}, 'tasks=-3'),
    ({'tasks': 0}, 'tasks=0'),
    ({'size': 0}, 'size=0'),
    ({'shots': 40}, r'shots\+queries=41 exceeds the 40 rows'),
    ({'fixed_labels': 1.5}, 'fixed_labels=1.5'),
    ({'fixed_projection': -0.1}, 'fixed_projection=-0.1'),
    ({'repeated': 2}, 'repeated=2 is no share'),
    ({'repeated': 0.5, 'distinct': 7}, r'distinct=7 exceeds shots\+queries=6'),
    ({'distinct': 0}, 'distinct=0'),
  ],
)
def test_what_makes_no_sense_is_refused(options, named):
  with pytest.raises(ValueError, match=named):
    projected(TABLE, **{'shots': 5, **options})


def test_plans_stay_as_they_are():
  """Test episodes are named by their key for ever."""
  key = jax.random.key(1, impl='threefry2x32')
  support, query, info = projected(TABLE, **SIZES, tasks=100, fixed_labels=0.5).plan(key)
  assert support.x.tolist() == [32, 1, 10, 5, 37] and query.x.tolist() == [15, 19]
  assert support.y.tolist() == [3, 1, 0, 1, 3] and query.y.tolist() == [2, 2]
  assert {n: int(i) for n, i in info.items()} == {'labels': -1, 'projection': 82, 'task': 82}


def test_the_plan_is_integers():
  leaves = jax.tree.leaves(planned())
  assert all(np.issubdtype(leaf.dtype, np.integer) for leaf in leaves)
