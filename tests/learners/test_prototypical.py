"""Prototypical networks against NumPy loops and their form as a linear classifier."""

import functools

import jax
import numpy as np
import pytest

from metakit.heads.common import class_means, squared_distances
from metakit.heads.prototypes import prototypes as prototypical_head
from metakit.learners.prototypical import prototypical
from metakit.models import identity
from metakit.types import Episode, Examples

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
WAYS = 4
LABELS = np.array([0, 0, 0, 1, 3, 3, 1], np.int32)  # ragged, and none of class 2
SUPPORT = Examples(RNG.normal(size=(7, 5)).astype(np.float32), LABELS)
QUERIES = RNG.normal(size=(6, 5)).astype(np.float32)
SEEN = [0, 1, 3]


@functools.cache
def outputs(distance):
  head = prototypical_head(WAYS, distance)
  return np.asarray(jax.jit(lambda: head.predict(head.adapt(KEY, {}, SUPPORT), QUERIES))())


def prototypes():
  return {c: SUPPORT.x[c == LABELS].mean(0) for c in SEEN}


def test_outputs_are_negative_squared_distances_to_class_means():
  ours = outputs('euclidean')
  for c, prototype in prototypes().items():
    for i, z in enumerate(QUERIES):
      np.testing.assert_allclose(ours[i, c], -np.sum((z - prototype) ** 2), rtol=1e-5)


def test_outputs_are_cosines():
  ours = outputs('cosine')
  for c, prototype in prototypes().items():
    for i, z in enumerate(QUERIES):
      cosine = z @ prototype / np.linalg.norm(z) / np.linalg.norm(prototype)
      np.testing.assert_allclose(ours[i, c], cosine, atol=1e-6)


def test_they_are_a_linear_classifier():
  """Snell et al., section 2.4: w = 2 c, b = -|c|^2, up to a constant of each query."""
  ours = outputs('euclidean')[:, SEEN]
  c = np.stack(list(prototypes().values()))
  linear = 2 * QUERIES @ c.T - np.square(c).sum(1)
  constant = ours - linear
  np.testing.assert_allclose(constant, np.repeat(constant[:, :1], 3, 1), atol=1e-4)
  np.testing.assert_allclose(constant[:, 0], -np.square(QUERIES).sum(1), atol=1e-4)


@pytest.mark.parametrize('distance', ['euclidean', 'cosine'])
def test_a_class_without_support_is_never_predicted(distance):
  """Not even where its prototype, a zero, would be the nearest; and gradients stay finite."""
  head = prototypical_head(WAYS, distance)

  def loss(z):
    return head.loss(KEY, {}, Episode(SUPPORT._replace(x=z), Examples(QUERIES, LABELS[:6])))[0]

  queries = np.concatenate([QUERIES, 1e-3 * QUERIES, 0 * QUERIES])
  predict = jax.jit(lambda: head.predict(head.adapt(KEY, {}, SUPPORT), queries))
  assert 2 not in np.asarray(predict()).argmax(1)
  value, grads = jax.jit(jax.value_and_grad(loss))(SUPPORT.x)
  assert np.isfinite(value) and np.isfinite(grads).all()


def test_a_class_of_absent_examples_is_without_support():
  weight = np.where(LABELS == 1, 0, 1).astype(np.float32)
  means, present = class_means(SUPPORT._replace(weight=weight), WAYS)
  assert present.tolist() == [True, False, False, True]
  assert not np.asarray(means)[~np.asarray(present)].any()


def test_weights_weigh_the_mean():
  weight = RNG.uniform(0.1, 1, 7).astype(np.float32)
  means, _ = class_means(SUPPORT._replace(weight=weight), WAYS)
  for c in SEEN:
    rows = c == LABELS
    expected = np.average(SUPPORT.x[rows], axis=0, weights=weight[rows])
    np.testing.assert_allclose(means[c], expected, rtol=1e-5)


def test_the_loss_is_the_negative_log_likelihood_of_the_softmax():
  labels = np.array([0, 1, 3, 3, 0, 1], np.int32)
  learner = prototypical(identity, WAYS)
  loss, metrics = jax.jit(learner.loss)(
    KEY, {'body': {}, 'head': {}}, Episode(SUPPORT, Examples(QUERIES, labels))
  )
  logits = outputs('euclidean')[:, SEEN].astype(np.float64)
  likelihood = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  expected = -np.log(likelihood[range(6), np.searchsorted(SEEN, labels)]).mean()
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  hits = np.asarray(SEEN)[logits.argmax(1)] == labels
  np.testing.assert_allclose(metrics['accuracy'], hits.mean(), rtol=1e-6)


def test_the_nearest_class_wins_far_from_the_origin():
  """|z|^2 is 1e4 times the differences that decide."""
  c = np.array([[100.0, 0], [101, 0]], np.float32)
  z = np.array([[100.4, 0], [100.6, 0]], np.float32)
  found = jax.jit(squared_distances)(z, c)
  assert np.asarray(found).argmin(1).tolist() == [0, 1]


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    ({'distance': 'manhattan'}, "distance='manhattan' is unknown; use one of euclidean, cosine"),
    ({'ways': 1}, 'ways=1 leaves nothing to classify'),
    ({'statistics': 'magic'}, "statistics='magic' are unknown; use one of training, episode"),
    ({'statistics': 'episode'}, "needs a network with batch statistics.*statistics='training'"),
  ],
)
def test_what_cannot_work_is_refused_by_name(arguments, said):
  with pytest.raises(ValueError, match=said):
    prototypical(identity, **{'ways': 3, **arguments})
