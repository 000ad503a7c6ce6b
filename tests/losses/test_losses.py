"""Losses of features against loops over points, in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.heads import prototypes
from metakit.losses import (
  angle_distillation,
  answer_distillation,
  distance_distillation,
  icnn,
  proto_triplet,
  supervised_contrastive,
  with_losses,
)
from metakit.losses.icnn import icnn_score
from metakit.types import Episode, Examples
from tests.heads.made import KEY, blobs, class_means, in_float64

EPISODE = blobs(spread=1.2)
RNG = np.random.default_rng(0)


@in_float64
def test_proto_triplet_is_the_mean_hinge():
  means, expected = class_means(EPISODE.support), []
  for z, y in zip(*EPISODE.query[:2], strict=True):
    away = np.sqrt(np.square(z - means).sum(1) + 1e-6)
    expected.append(max(0, away[y] - np.delete(away, y).min() + 0.5))
  assert min(np.count_nonzero(expected), np.count_nonzero(np.equal(expected, 0))) > 0
  np.testing.assert_allclose(jax.jit(proto_triplet(3))(EPISODE), np.mean(expected), rtol=1e-9)


@in_float64
def test_the_contrastive_loss_is_eq_2_by_loops():
  """The last class has one example, which is no anchor; absent and unlabelled ones do not count."""
  random = np.random.default_rng(0)
  x, y = random.normal(size=(9, 4)), np.array([0, 1, 2, 0, 1, 1, 0, -1, 1])
  weight = np.array([1, 1, 1, 0.5, 1, 1, 1, 1, 0])
  parts = (Examples(x[part], y[part], weight[part]) for part in (slice(0, 4), slice(4, 9)))
  z = x[:7] / np.linalg.norm(x[:7], axis=1, keepdims=True)
  expected = []
  for i in range(7):
    others = [a for a in range(7) if a != i]
    positives = [p for p in others if y[p] == y[i]]
    below = sum(np.exp(z[i] @ z[a] / 0.3) for a in others)
    terms = [np.log(np.exp(z[i] @ z[p] / 0.3) / below) for p in positives]
    expected += [-np.mean(terms)] if terms else []
  assert len(expected) == 6
  loss = jax.jit(supervised_contrastive(0.3))(Episode(*parts))
  np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-9)


def score_by_loops(x, y, k):
  """The score of B6: neighbours of each point, its own class against the nearest other."""
  n = len(x)
  away = np.array([[np.sqrt(np.square(a - b).sum() + 1e-6) for b in x] for a in x])
  inside, strangers, friends = [], [], 0
  for p in range(n):
    others = [q for q in range(n) if q != p]
    near = sorted(others, key=lambda q: away[p, q])[:k]
    r = min(away[p, q] for q in others if y[q] != y[p])
    ratios = [away[p, q] / r for q in near if y[q] == y[p]]
    inside.append(np.mean(np.divide(ratios, max(1, max(ratios)))) if ratios else 1)
    strangers += [away[p, q] for q in near if y[q] != y[p]]
    friends += len(ratios)
  largest = max(away[p, q] for p in range(n) for q in range(n) if p != q)
  apart = np.mean(strangers) / largest if strangers else 1
  return ((1 - np.mean(inside) + apart) / 2 + friends / (n * k)) / 2


@pytest.mark.parametrize('spread', [0.01, 1.2, 5.0])
@pytest.mark.parametrize('k', [1, 4])
@in_float64
def test_icnn_is_the_score_by_loops(spread, k):
  episode = blobs(spread=spread)
  x = np.concatenate([episode.support.x, episode.query.x])
  y = np.concatenate([episode.support.y, episode.query.y])
  expected = score_by_loops(x, y, k)
  score, loss = jax.jit(lambda e: (icnn_score(e, k), icnn(k)(e)))(episode)
  np.testing.assert_allclose(score, expected, rtol=1e-9)
  np.testing.assert_allclose(loss, -np.log(expected), rtol=1e-9)


@in_float64
def test_icnn_is_one_where_classes_are_points_far_apart():
  """And falls as they spread."""
  score = jax.jit(icnn_score)
  scores = [float(score(blobs(spread=s, shots=3, queries=(3, 3, 3)))) for s in (0, 0.3, 1, 5)]
  assert scores[0] == pytest.approx(1, abs=2e-3)
  assert (np.diff(scores) < 0).all()


@pytest.mark.parametrize('loss', [proto_triplet(3), icnn(3)])
@in_float64
def test_an_example_of_weight_0_is_none(loss):
  support, query, _ = EPISODE
  more = lambda part: Examples(
    np.concatenate([part.x, 0.1 * np.ones((2, 5))]),
    np.append(part.y, [1, 2]).astype(np.int32),
    np.append(np.ones(len(part.x)), [0.0, 0.0]),
  )
  loss = jax.jit(loss)
  np.testing.assert_allclose(loss(Episode(more(support), more(query))), loss(EPISODE), rtol=1e-9)


@in_float64
def test_a_head_with_losses_is_trained_by_their_mean_and_predicts_as_before():
  head, losses = prototypes(3), [proto_triplet(3), icnn(2)]

  @jax.jit
  def every(episode):
    parts = [each(episode) for each in losses]
    both = [with_losses(head, losses), head]
    answers = [each.predict(each.adapt(KEY, {}, episode.support), episode.query.x) for each in both]
    return *(each.loss(KEY, {}, episode) for each in both), parts, answers

  (value, metrics), (own, plain), parts, answers = every(EPISODE)
  np.testing.assert_allclose(value, (own + sum(parts)) / 3, rtol=1e-12)
  assert float(metrics['loss']) == float(value)
  assert float(metrics['accuracy']) == float(plain['accuracy'])
  np.testing.assert_array_equal(*answers)
  with pytest.raises(ValueError, match='losses are none; give some'):
    with_losses(head, [])


def huber(a):
  return np.where(np.abs(a) < 1, a**2 / 2, np.abs(a) - 0.5)


@in_float64
def test_distances_are_distilled_relative_to_their_mean():
  student, teacher = RNG.normal(size=(6, 4)), 9 * RNG.normal(size=(6, 7))

  def distances(z):
    away = np.linalg.norm(z[:, None] - z, axis=-1)
    return away / (away.sum() / 30)

  expected = huber(distances(student) - distances(teacher)).mean()
  np.testing.assert_allclose(jax.jit(distance_distillation)(student, teacher), expected, rtol=1e-9)
  turned = 3 * teacher @ np.linalg.qr(RNG.normal(size=(7, 7)))[0]
  assert jax.jit(distance_distillation)(turned, teacher) < 1e-20


@in_float64
def test_angles_are_distilled_for_every_triplet():
  student, teacher = RNG.normal(size=(5, 4)), RNG.normal(size=(5, 7))

  def cosine(z, i, j, k):
    a, b = z[i] - z[j], z[k] - z[j]
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return a @ b / size if size else 0.0

  triplets = itertools.product(range(5), repeat=3)
  expected = np.mean([huber(cosine(student, *t) - cosine(teacher, *t)) for t in triplets])
  np.testing.assert_allclose(jax.jit(angle_distillation)(student, teacher), expected, rtol=1e-6)


@in_float64
def test_answers_are_softened_and_compared_from_the_teacher_to_the_student():
  student, teacher = 5 * RNG.normal(size=(6, 4)), 5 * RNG.normal(size=(6, 4))
  weight = np.array([1.0, 2.0, 0.0, 0.5, 1.0, 1.0])
  total = 0.0
  for ours, theirs, each in zip(student, teacher, weight, strict=True):
    q, p = (np.exp(z / 3) / np.exp(z / 3).sum() for z in (ours, theirs))
    total += each * 9 * sum(p[c] * np.log(p[c] / q[c]) for c in range(4))
  loss = jax.jit(answer_distillation)
  np.testing.assert_allclose(
    loss(student, teacher, 3.0, weight=weight), total / weight.sum(), rtol=1e-12
  )
  student[2], teacher[2] = np.nan, np.inf  # of no weight
  np.testing.assert_allclose(
    loss(student, teacher, 3.0, weight=weight), total / weight.sum(), rtol=1e-12
  )
  assert loss(student, student, 3.0, weight=weight) == 0
  with pytest.raises(ValueError, match=r'\(6, 4\) and the teacher \(6, 3\); use a teacher of the'):
    answer_distillation(student, teacher[:, :3])


@pytest.mark.parametrize('loss', [distance_distillation, angle_distillation, answer_distillation])
@in_float64
def test_distillation_moves_the_student_alone(loss):
  student, teacher = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 4))
  loss = jax.jit(loss)
  ours, theirs = jax.jit(jax.grad(loss, (0, 1)))(student, teacher)
  assert np.isfinite(ours).all() and np.abs(ours).max() > 1e-4
  assert not np.asarray(theirs).any()
  step, direction = 1e-6, RNG.normal(size=student.shape)
  rise = loss(student + step * direction, teacher) - loss(student - step * direction, teacher)
  np.testing.assert_allclose(rise / (2 * step), (ours * direction).sum(), rtol=1e-6)


@pytest.mark.parametrize('loss', [distance_distillation, angle_distillation])
def test_equal_examples_have_finite_derivatives(loss):
  same = jnp.ones((4, 3)).at[0].set(0.0)
  assert np.isfinite(
    jax.jit(jax.grad(loss))(same, RNG.normal(size=(4, 3)).astype(np.float32))
  ).all()


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: proto_triplet(3, 0.0), 'margin=0.0 is not positive'),
    (lambda: proto_triplet(1), 'ways=1 leaves nothing to classify'),
    (lambda: icnn(0), 'neighbours=0 is not positive'),
  ],
)
def test_numbers_that_make_no_sense(make, message):
  with pytest.raises(ValueError, match=message):
    make()
