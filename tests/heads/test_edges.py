"""Examples without a label, a single example, large scales, and what is measured, not learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit import heads
from metakit.heads.common import ABSENT
from metakit.types import Episode, Examples
from tests.heads.made import KEY, blobs

EVERY = [name for name in heads.__all__ if name != 'normalised']
IN_MINIBATCHES = {'baseline': {'batch': 0}}
COUNTED = {'baseline', 'feat', 'relation', 'svm'}  # parameters or sums over all classes
TASKWIDE = {'soft_kmeans'}  # what examples without a label are for


def made(name, ways=3):
  return getattr(heads, name)(ways, **IN_MINIBATCHES.get(name, {}))


def single(part):
  return part._replace(x=part.x.astype(np.float32))


def judged(head, support, query):
  params = head.init(KEY, Episode(support, query))
  outputs = head.predict(head.adapt(KEY, params, support), query.x)
  return np.asarray(outputs), float(head.loss(KEY, params, Episode(support, query))[0])


@pytest.mark.parametrize('name', sorted(set(EVERY) - TASKWIDE))
def test_an_example_without_a_label_is_as_none(name):
  """In predictions and in the training loss."""
  support, query = map(single, blobs()[:2])
  rng = np.random.default_rng(1)
  more = Examples(
    np.concatenate([support.x, 3 * rng.normal(size=(4, 5)).astype(np.float32)]),
    np.append(support.y, np.full(4, -1, np.int32)),
  )
  (found, loss), (expected, plain) = (judged(made(name), each, query) for each in (more, support))
  np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())
  assert loss == pytest.approx(plain, rel=2e-3)


@pytest.mark.parametrize('name', sorted(set(EVERY) - {'baseline'}))
def test_one_example_of_one_class_is_enough(name):
  """And its class is predicted however far the query is: the others have no support."""
  support = Examples(np.full((1, 4), 3, np.float32), np.zeros(1, np.int32))
  query = Examples(np.array([[-1.0] * 4, [3.0] * 4], np.float32), np.zeros(2, np.int32))
  outputs, loss = judged(made(name), support, query)
  assert np.isfinite(outputs).all() and np.isfinite(loss)
  assert (outputs.argmax(1) == 0).all()


@pytest.mark.parametrize('name', EVERY)
def test_a_class_without_support_leaves_the_gradients_of_the_others(name):
  """With respect to features of support and queries; learned heads may differ, and are finite."""
  support, query = map(single, blobs()[:2])

  def slopes(ways):
    head = made(name, ways)
    params = head.init(KEY, Episode(support, query))
    loss = lambda x, z: head.loss(KEY, params, Episode(support._replace(x=x), query._replace(x=z)))[
      0
    ]
    return jax.jit(jax.grad(loss, (0, 1)))(support.x, query.x)

  found, expected = slopes(4), slopes(3)
  assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in found)
  if name not in COUNTED:
    for a, b in zip(found, expected, strict=True):
      np.testing.assert_allclose(a, b, rtol=0, atol=2e-3 * np.abs(b).max())


@pytest.mark.parametrize('name', ['prototypes', 'slk', 'soft_kmeans', 'mahalanobis'])
def test_features_may_be_far_from_zero(name):
  """A mean of a thousand, beside which classes are close: float32 has seven digits."""
  support, query = map(single, blobs()[:2])
  far = lambda part: part._replace(x=part.x + np.float32(1024))
  (found, _), (expected, _) = (
    judged(made(name), *map(move, (support, query))) for move in (far, lambda part: part)
  )
  np.testing.assert_allclose(found, expected, rtol=0, atol=2e-2 * np.abs(expected).max())


@pytest.mark.parametrize('name', ['prototypes', 'matching', 'ridge', 'logistic', 'tim', 'slk'])
def test_features_of_two_widths_are_named(name):
  support, query = map(single, blobs()[:2])
  short = query._replace(x=query.x[:, :-1])
  with pytest.raises(ValueError, match=r'features? of .*5.* need features of one width'):
    judged(made(name), support, short)


@pytest.mark.parametrize('name', ['discriminant', 'naive_bayes', 'mahalanobis'])
def test_one_shot_losses_are_of_a_sensible_size(name):
  support, query = map(single, blobs(shots=1, features=8)[:2])
  assert judged(made(name), support, query)[1] < 100


def test_similarities_of_any_scale_are_told_apart():
  """exp(-200) is 0 in float32."""
  support = Examples(-np.eye(3, dtype=np.float32), np.arange(3, dtype=np.int32))
  z = np.array([[1, 0.5, 0.2]], np.float32)
  head = heads.matching(3, 100.0)
  outputs = np.asarray(head.predict(head.adapt(KEY, {}, support), z))
  assert np.isfinite(outputs).all() and outputs.argmax() == 2


def test_no_support_at_all_is_finite():
  support, query = map(single, blobs()[:2])
  none = support._replace(weight=np.zeros(len(support.x), np.float32))
  for name in ('matching', 'prototypes', 'ridge', 'naive_bayes'):
    assert np.isfinite(judged(made(name), none, query)[0]).all()


def test_what_is_measured_or_random_is_not_learned():
  """The mean of features, and the random layer of G-ACIL."""
  episode = Episode(*map(single, blobs()[:2]))
  head = heads.normalised(heads.ridge(3), 'cl2n')
  grads = jax.grad(lambda p: head.loss(KEY, p, episode)[0])(head.init(KEY, episode))
  assert not np.asarray(grads['mean']).any() and np.asarray(grads['head']['scale']).any()
  head = heads.recursive_ridge(3, expansion=7)
  grads = jax.grad(lambda p: head.loss(KEY, p, episode)[0])(head.init(KEY, episode))
  assert not np.asarray(grads['expansion']).any()


def test_streams_add_up_in_half_precision():
  """300 times 1 in bfloat16 is 256."""
  head = heads.class_mean_stream(2)
  one = Examples(jnp.ones((1, 2), jnp.bfloat16), jnp.zeros(1, jnp.int32))
  fitted = head.adapt(KEY, {}, one)
  fitted = jax.lax.fori_loop(0, 299, lambda _, fitted: head.extend(fitted, one), fitted)
  assert fitted[1].tolist() == [300, 0]


def test_paddle_as_published_needs_features_of_some_hundred_numbers():
  """With as many as were used in the paper it beats class means."""

  def accuracy(head):
    right = []
    for seed in range(20):
      support, query = map(single, blobs(seed, 5, 1, [15] * 5, 640, 3.0)[:2])
      right.append(judged(head, support, query)[0].argmax(1) == query.y)
    return np.mean(right)

  assert accuracy(heads.paddle(5)) > accuracy(heads.prototypes(5))


def test_absent_is_below_every_logit_of_a_class_with_support():
  support, query = map(single, blobs()[:2])
  for name in EVERY:
    outputs = judged(made(name, 4), support, query)[0]
    assert (outputs[:, 3] < outputs[:, :3].min()).all(), name
    assert (outputs[:, 3] <= ABSENT / 2).all() or name in ('paddle', 'slk', 'laplacian_shot'), name
