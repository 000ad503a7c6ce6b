"""Examples without a label, a single example, large scales, and what is measured, not learned."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit import heads
from metakit.heads.common import ABSENT, squared_distances
from metakit.types import Episode, Examples
from tests.heads.judged import COUNTED, EVERY, double, head_of, single
from tests.heads.made import KEY, blobs

TASKWIDE = {'soft_kmeans'}  # what examples without a label are for
# These decide by the last bit of a sum, or by the random weights that they start from.
TOSSES_A_COIN = {'baseline', 'transductive_tuning'}
every_head = pytest.mark.parametrize('name', EVERY)


def in_float32(part):
  return part._replace(x=part.x.astype(np.float32))


def asked(head, support, query):
  """Outputs and loss, by one program."""

  @jax.jit
  def both(support, query):
    params = head.init(KEY, Episode(support, query))
    outputs = head.predict(head.adapt(KEY, params, support), query.x)
    return outputs, head.loss(KEY, params, Episode(support, query))[0]

  outputs, loss = both(support, query)
  return np.asarray(outputs), float(loss)


def assert_same(found, expected):
  """Of outputs and losses."""
  size = np.abs(expected[0]).max()
  np.testing.assert_allclose(found[0], expected[0], rtol=2e-3, atol=2e-3 * size)
  assert found[1] == pytest.approx(expected[1], rel=2e-3)


def assert_undecided(outputs, name):
  assert np.isfinite(outputs).all()
  if name not in TOSSES_A_COIN:
    tolerance = 1e-6 + 1e-2 * np.abs(outputs).max()
    np.testing.assert_allclose(outputs, outputs[:, :1] * np.ones(3), atol=tolerance)


@pytest.mark.parametrize('name', sorted(set(EVERY) - TASKWIDE))
def test_an_example_without_a_label_is_as_none(name):
  """In predictions and in the training loss."""
  given, plain = (single(name)[variant] for variant in ('unlabelled', 'plain'))
  assert_same(*((r['outputs'][:, :3], float(r['loss'])) for r in (given, plain)))


@pytest.mark.parametrize('name', sorted(set(EVERY) - {'baseline'}))
def test_one_example_of_one_class_is_enough(name):
  """And its class is predicted however far the query is: the others have no support."""
  outputs, loss = (single(name)['one example'][part] for part in ('outputs', 'loss'))
  assert np.isfinite(outputs).all() and np.isfinite(loss)
  assert (outputs.argmax(1) == 0).all()


@every_head
def test_identical_examples_give_numbers(name):
  """Singular systems, no variance, distances of zero: the answer is finite, and undecided."""
  if name in ('alpha_tim', 'slk'):  # ties are broken by the rows that are absent too
    same = (in_float32(part._replace(x=np.ones_like(part.x))) for part in blobs()[:2])
    assert_undecided(asked(head_of(name), *same)[0], name)
  else:
    assert_undecided(single(name)['identical']['outputs'][:, :3], name)


@pytest.mark.slow
@every_head
def test_supports_of_few_rows_are_as_those_with_rows_that_are_absent(name):
  """The three laws above, of arrays that hold what is there alone."""
  support, query = map(in_float32, blobs()[:2])
  more = 3 * np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
  more = Examples(np.concatenate([support.x, more]), np.append(support.y, np.full(4, -1, np.int32)))
  head = head_of(name)
  if name not in TASKWIDE:
    assert_same(asked(head, more, query), asked(head, support, query))
  same = (part._replace(x=np.ones_like(part.x)) for part in (support, query))
  assert_undecided(asked(head, *same)[0], name)
  if name != 'baseline':
    one = Examples(np.full((1, 4), 3, np.float32), np.zeros(1, np.int32))
    two = Examples(np.array([[-1.0] * 4, [3.0] * 4], np.float32), np.zeros(2, np.int32))
    outputs, loss = asked(head, one, two)
    assert np.isfinite(loss) and (outputs.argmax(1) == 0).all()


@every_head
def test_a_class_without_support_leaves_the_gradients_of_the_others(name):
  """With respect to features of support and queries; learned heads may differ, and are finite.

  Those without it are computed in float64.
  """
  found, expected = (each(name)['plain']['slopes'] for each in (single, double))
  assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in found)
  if name == 'svm' or name not in COUNTED:
    for a, b in zip(found, expected, strict=True):
      np.testing.assert_allclose(a, b, rtol=0, atol=2e-3 * np.abs(b).max())


@pytest.mark.parametrize(
  'head', [heads.svm(4), heads.pt_map(4, 2), heads.pt_map(4, 2, regularisation=100.0)]
)
def test_gradients_are_finite_where_classes_are_far_apart_or_support_is_absent(head):
  """Then every assignment is sure, and the squares of what is left vanish in float32."""

  @jax.jit
  @jax.vmap
  def run(support, query):
    loss = lambda x: head.loss(KEY, params, Episode(support._replace(x=x), query))[0]
    return jax.value_and_grad(loss)(support.x)

  drawn = [blobs(seed, shots=2, queries=(5, 5, 5), spread=0.1)[:2] for seed in range(12)]
  support, query = (
    in_float32(jax.tree.map(lambda *a: np.stack(a), *e)) for e in zip(*drawn, strict=True)
  )
  some = support._replace(weight=np.ones(support.y.shape, np.float32) * (np.arange(6) != 2))
  params = head.init(KEY, Episode(*drawn[0]))
  assert all(np.isfinite(leaf).all() for leaf in run(some, query))


@every_head
def test_absent_is_below_every_logit_of_a_class_with_support(name):
  outputs = single(name)['plain']['outputs']
  assert (outputs[:, 3] < outputs[:, :3].min()).all()
  assert (outputs[:, 3] <= ABSENT / 2).all() or name in ('paddle', 'slk', 'laplacian_shot')


def test_classes_without_support_cost_distances_no_digits():
  """Their points at zero would draw the centre away from the others, which are far from zero."""
  near = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
  far, asked = near + np.float32(1e4), near[::-1] + np.float32(1e4)
  points = np.concatenate([far, np.zeros((17, 5), np.float32)])
  found = squared_distances(asked, points)[:, :3]
  np.testing.assert_allclose(found, squared_distances(asked, far), atol=1e-5)


@pytest.mark.parametrize('name', ['prototypes', 'slk', 'soft_kmeans', 'mahalanobis'])
def test_features_may_be_far_from_zero(name):
  """A mean of a thousand, beside which classes are close: float32 has seven digits."""
  near = tuple(map(in_float32, blobs()[:2]))
  far = (part._replace(x=part.x + np.float32(1024)) for part in near)
  found, expected = (asked(head_of(name), *parts)[0] for parts in (far, near))
  np.testing.assert_allclose(found, expected, rtol=0, atol=2e-2 * np.abs(expected).max())


@pytest.mark.parametrize('name', ['prototypes', 'matching', 'ridge', 'logistic', 'tim', 'slk'])
def test_features_of_two_widths_are_named(name):
  support, query = map(in_float32, blobs()[:2])
  short = query._replace(x=query.x[:, :-1])
  with pytest.raises(ValueError, match=r'features? of .*5.* need features of one width'):
    asked(head_of(name), support, short)


@pytest.mark.parametrize('name', ['discriminant', 'naive_bayes', 'mahalanobis'])
def test_one_shot_losses_are_of_a_sensible_size(name):
  support, query = map(in_float32, blobs(shots=1, features=8)[:2])
  assert asked(head_of(name), support, query)[1] < 100


def test_similarities_of_any_scale_are_told_apart():
  """exp(-200) is 0 in float32."""
  support = Examples(-np.eye(3, dtype=np.float32), np.arange(3, dtype=np.int32))
  z = np.array([[1, 0.5, 0.2]], np.float32)
  head = heads.matching(3, 100.0)
  outputs = np.asarray(head.predict(head.adapt(KEY, {}, support), z))
  assert np.isfinite(outputs).all() and outputs.argmax() == 2


@pytest.mark.parametrize('name', ['matching', 'prototypes', 'ridge', 'naive_bayes'])
def test_no_support_at_all_is_finite(name):
  assert np.isfinite(single(name)['no support']['outputs']).all()


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
  one = Examples(jnp.ones((1, 2), jnp.bfloat16), jnp.zeros(1, jnp.int32))
  fitted = head.adapt(KEY, {}, one)
  fitted = jax.lax.fori_loop(0, 299, lambda _, fitted: head.extend(fitted, one), fitted)
  assert fitted[1].tolist() == [300, 0]


def test_paddle_as_published_needs_features_of_some_hundred_numbers():
  """With as many as were used in the paper it beats class means."""

  made = [Episode(*map(in_float32, blobs(i, 5, 1, [15] * 5, 640, 3.0)[:2])) for i in range(20)]
  episodes = jax.tree.map(lambda *leaves: np.stack(leaves), *made)

  def accuracy(head):
    predict = lambda e: head.predict(head.adapt(KEY, {}, e.support), e.query.x)
    outputs = np.asarray(jax.jit(jax.vmap(predict))(episodes))
    return np.mean(outputs.argmax(-1) == episodes.query.y)

  assert accuracy(heads.paddle(5)) > accuracy(heads.prototypes(5))
