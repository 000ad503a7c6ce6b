"""Streams of sessions: what they hold, and what is measured of a learner after each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit import cross_entropy, evaluate, roots
from metakit.data.table import class_table
from metakit.episodes import Sessions, class_incremental
from metakit.evaluation.sessions import _metrics, judge_sessions
from metakit.heads import class_mean_stream, prototypes, recursive_ridge, ridge, soft_kmeans
from metakit.keys import task_key
from metakit.types import Episode
from tests.episodes.test_few_shot import many

SIZES = Sessions(base_ways=4, base_shots=6, ways=2, shots=3, number=2, queries=4)
COUNTS = np.full(12, 11)
LABELS = np.repeat(np.arange(12), COUNTS)
TABLE = class_table(np.arange(132), LABELS)


def test_sizes_say_where_sessions_start():
  assert SIZES.total_ways == 8
  assert SIZES.starts == [0, 24, 30, 36]
  assert SIZES.session_of.tolist() == [0, 0, 0, 0, 1, 1, 2, 2]


def test_a_stream_holds_its_sessions_in_order_and_no_row_twice():
  episodes = many(class_incremental(TABLE, SIZES).plan, 300)
  for episode in zip(*episodes.support[:2], *episodes.query[:2], strict=True):
    rows, labels, asked, right = episode
    session = SIZES.session_of[labels]
    assert (np.diff(session) >= 0).all()
    assert np.bincount(labels).tolist() == [6] * 4 + [3] * 4
    assert np.bincount(right).tolist() == [4] * 8
    assert len({*rows, *asked}) == len(rows) + len(asked)
  classes = episodes.info['classes']
  for rows, labels in (episodes.support[:2], episodes.query[:2]):
    assert (LABELS[rows] == np.take_along_axis(classes, labels, axis=1)).all()


def test_more_classes_than_there_are_is_said():
  with pytest.raises(ValueError, match='ways=14 exceeds the 12 classes'):
    class_incremental(TABLE, SIZES._replace(number=5))


@functools.cache
def source():
  rng = np.random.default_rng(0)
  x = 0.5 * rng.normal(size=(12, 6))[LABELS] + 0.4 * rng.normal(size=(132, 6))
  return class_incremental(TABLE._replace(x=x.astype(np.float32)), SIZES)


MEANS = class_mean_stream(8)


@functools.cache
def judged(head):
  params = head.init(jax.random.key(0), None) if head.extend is None else {}
  return evaluate(
    head,
    cross_entropy,
    params,
    source=source(),
    root=roots(0).test,
    episodes=40,
    judge=judge_sessions(SIZES),
  )


@pytest.mark.parametrize(
  ('stream', 'joint'),
  [
    (MEANS, prototypes(8)),
    pytest.param(recursive_ridge(8, 0.3), ridge(8, 0.3, learned=False), marks=pytest.mark.slow),
  ],
)
def test_a_stream_is_known_as_well_as_by_who_sees_everything_again(stream, joint):
  ours, theirs = judged(stream), judged(joint)
  for name, values in ours.items():
    np.testing.assert_allclose(values, theirs[name], atol=0.03, err_msg=name)
    np.testing.assert_allclose(values.mean(0), theirs[name].mean(0), atol=2e-3, err_msg=name)


def test_the_nearest_class_mean_after_each_session_by_hand():
  """Accuracies of one stream, recomputed with NumPy."""
  values = judged(MEANS)
  data = source()
  episode = jax.tree.map(np.asarray, data.plan(task_key(roots(0).test, 0, 0)))
  z, asked = data.data[episode.support.x], data.data[episode.query.x]
  for after in range(3):
    seen = [k for k in range(8) if SIZES.session_of[k] <= after]
    points = np.stack([z[episode.support.y == k].mean(0) for k in seen])
    answers = np.square(asked[:, None] - points).sum(-1).argmin(1)
    right = answers == episode.query.y
    chosen = lambda low, high: (
      (SIZES.session_of[episode.query.y] >= low) & (SIZES.session_of[episode.query.y] <= high)
    )
    assert values['accuracy'][0, after] == pytest.approx(right[chosen(0, after)].mean())
    assert values['base'][0, after] == pytest.approx(right[chosen(0, 0)].mean())
    if after:
      assert values['novel'][0, after] == pytest.approx(right[chosen(1, after)].mean())
      base, novel = values['base'][0, after], values['novel'][0, after]
      assert values['harmonic'][0, after] == pytest.approx(2 * base * novel / (base + novel))
  assert np.isnan(values['novel'][:, 0]).all()


def test_predictions_that_are_not_finite_are_of_no_class():
  blind = ridge(8, 0.3, learned=False)._replace(predict=lambda _, x: jnp.full((len(x), 8), jnp.nan))
  with pytest.warns(UserWarning, match='episodes have a loss that is not finite'):
    assert not judged(blind)['accuracy'].any()


def test_forgetting_is_the_fall_from_the_best():
  """Three sessions of one class each: 0.9 -> 0.5 and 0.8 -> 0.7, the last cannot be forgotten."""
  per_class = np.array([[0.6, 0.0, 0.0], [0.9, 0.8, 0.0], [0.5, 0.7, 1.0]])
  found = jax.jit(_metrics)(per_class, np.arange(3))
  assert float(found['forgetting']) == pytest.approx((0.4 + 0.1) / 2)
  np.testing.assert_allclose(found['accuracy'], [0.6, 0.85, 2.2 / 3], rtol=1e-6)
  np.testing.assert_allclose(found['base'], [0.6, 0.9, 0.5], rtol=1e-6)
  np.testing.assert_allclose(found['novel'][1:], [0.8, 0.85], rtol=1e-6)


def test_who_knows_more_at_the_end_has_forgotten_less_than_nothing():
  per_class = np.array([[0.6, 0.0], [0.9, 1.0]])
  found = jax.jit(_metrics)(per_class, np.arange(2))
  assert float(found['forgetting']) == pytest.approx(-0.3)


def test_queries_of_later_classes_are_not_asked_before():
  """A transductive head, which they would influence, has the same accuracy as without them."""
  learner, data, few = soft_kmeans(8), source(), SIZES._replace(number=1)
  judged_all = judged(learner)

  def first_sessions(key, episode):
    support = jax.tree.map(lambda leaf: leaf[: few.starts[-1]], episode.support)
    query = jax.tree.map(lambda leaf: leaf[: few.total_ways * few.queries], episode.query)
    return judge_sessions(few)(learner, cross_entropy, {}, key, Episode(support, query))

  shorter = evaluate(
    learner,
    cross_entropy,
    {},
    source=data,
    root=roots(0).test,
    episodes=40,
    judge=lambda learner, objective, params, key, episode: first_sessions(key, episode),
  )
  for name in ('accuracy', 'base', 'harmonic'):
    np.testing.assert_allclose(judged_all[name][:, :2], shorter[name], atol=1e-6)
