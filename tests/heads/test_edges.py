"""Features far from zero, of two widths, in half precision, and what is measured, not learned."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit import heads
from metakit.heads.common import squared_distances
from metakit.types import Episode, Examples
from tests.heads.judged import asked, in_float32
from tests.heads.made import KEY, blobs


def test_classes_without_support_cost_distances_no_digits():
  """Their points at zero would draw the centre away from the others, which are far from zero."""
  near = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
  far, asked = near + np.float32(1e4), near[::-1] + np.float32(1e4)
  points = np.concatenate([far, np.zeros((17, 5), np.float32)])
  found, expected = jax.jit(lambda: [squared_distances(asked, each) for each in (points, far)])()
  np.testing.assert_allclose(np.asarray(found)[:, :3], expected, atol=1e-5)


@pytest.mark.parametrize(
  'name',
  [
    *('prototypes', 'mahalanobis'),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ('slk', 'soft_kmeans')),
  ],
)
def test_features_may_be_far_from_zero(name):
  """A mean of a thousand, beside which classes are close: float32 has seven digits."""
  near = tuple(map(in_float32, blobs()[:2]))
  far = (part._replace(x=part.x + np.float32(1024)) for part in near)
  found, expected = (asked(name, *parts)[0] for parts in (far, near))
  np.testing.assert_allclose(found, expected, rtol=0, atol=2e-2 * np.abs(expected).max())


@pytest.mark.parametrize('name', ['prototypes', 'matching', 'ridge', 'logistic', 'tim', 'slk'])
def test_features_of_two_widths_are_named(name):
  support, query = map(in_float32, blobs()[:2])
  short = query._replace(x=query.x[:, :-1])
  with pytest.raises(ValueError, match=r'features? of .*5.* need features of one width'):
    asked(name, support, short)


@pytest.mark.parametrize(
  'name',
  [
    'discriminant',
    *(pytest.param(n, marks=pytest.mark.slow) for n in ('naive_bayes', 'mahalanobis')),
  ],
)
def test_one_shot_losses_are_of_a_sensible_size(name):
  support, query = map(in_float32, blobs(shots=1, features=8)[:2])
  assert asked(name, support, query)[1] < 100


def test_similarities_of_any_scale_are_told_apart():
  """exp(-200) is 0 in float32."""
  support = Examples(-np.eye(3, dtype=np.float32), np.arange(3, dtype=np.int32))
  z = np.array([[1, 0.5, 0.2]], np.float32)
  head = heads.matching(3, 100.0)
  outputs = np.asarray(jax.jit(lambda: head.predict(head.adapt(KEY, {}, support), z))())
  assert np.isfinite(outputs).all() and outputs.argmax() == 2


def test_what_is_measured_or_random_is_not_learned():
  """The mean of features, and the random layer of G-ACIL."""
  episode = Episode(*map(in_float32, blobs()[:2]))

  @functools.partial(jax.jit, static_argnums=0)
  def slopes(head):
    return jax.grad(lambda p: head.loss(KEY, p, episode)[0])(head.init(KEY, episode))

  grads = slopes(heads.normalised(heads.ridge(3), 'cl2n'))
  assert not np.asarray(grads['mean']).any() and np.asarray(grads['head']['scale']).any()
  assert not np.asarray(slopes(heads.recursive_ridge(3, expansion=7))['expansion']).any()


def test_streams_add_up_in_half_precision():
  """300 times 1 in bfloat16 is 256."""
  head = heads.class_mean_stream(2)
  one = Examples(np.ones((1, 2), jnp.bfloat16), np.zeros(1, np.int32))
  more = lambda _, fitted: head.extend(fitted, one)
  fitted = jax.jit(lambda: jax.lax.fori_loop(0, 299, more, head.adapt(KEY, {}, one)))()
  assert fitted[1].tolist() == [300, 0]


@pytest.mark.slow
def test_paddle_as_published_needs_features_of_some_hundred_numbers():
  """With as many as were used in the paper it beats class means."""

  made = [Episode(*map(in_float32, blobs(i, 5, 1, [15] * 5, 640, 3.0)[:2])) for i in range(20)]
  episodes = jax.tree.map(lambda *leaves: np.stack(leaves), *made)

  def accuracy(head):
    predict = lambda e: head.predict(head.adapt(KEY, {}, e.support), e.query.x)
    outputs = np.asarray(jax.jit(jax.vmap(predict))(episodes))
    return np.mean(outputs.argmax(-1) == episodes.query.y)

  assert accuracy(heads.paddle(5)) > accuracy(heads.prototypes(5))
