"""Features of any length, in float32 and float16: a head says what it says in float64."""

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from metakit import heads
from metakit.types import Episode, Examples
from tests.heads.made import KEY, blobs

SCALES = np.array([1e-3, 1, 1e3])
ROWS = {name: getattr(heads, name) for name in heads.__all__ if name != 'normalised'}
ROWS |= {
  'baseline:cosine': lambda ways: heads.baseline(ways, cosine=True),
  'prototypes:cosine': lambda ways: heads.prototypes(ways, 'cosine'),
  'simpleshot:power': lambda ways: heads.simpleshot(ways, 'power'),
  'recursive_ridge:expansion': lambda ways: heads.recursive_ridge(ways, expansion=12),
  'slk:modes': lambda ways: heads.slk(ways, kind='modes'),
  'soft_kmeans:distractors': lambda ways: heads.soft_kmeans(ways, distractors=True, queries=False),
  'tim:gd': lambda ways: heads.tim(ways, 'gd', 50),
  'logistic:strong': lambda ways: heads.logistic(ways, 100.0),
}


def episodes(stored):
  """One episode at each scale, and one with vectors of zeros; x [4, examples, features]."""
  support, query, _ = blobs(3, shots=3, queries=(4, 4, 4), features=40, spread=0.4)

  def part(examples):
    some = np.where(np.arange(len(examples.x))[:, None] % 4, examples.x, 0)
    return Examples(
      np.stack([*(scale * examples.x for scale in SCALES), some]).astype(stored), examples.y
    )

  return Episode(part(support), part(query))


def answers(head, params):
  """Returns (x, y, z) -> outputs [4, queries, ways] in float64."""
  run = lambda x, y, z: head.predict(head.adapt(KEY, params, Examples(x, y)), z)
  run = jax.jit(jax.vmap(run, (0, None, 0)))
  return lambda x, y, z: np.asarray(run(x, y, z)).astype(np.float64)


@pytest.mark.parametrize('name', ROWS)
def test_a_head_says_what_it_says_in_float64(name):
  head = ROWS[name](3)
  support, query, _ = episodes(np.float32)
  params = head.init(KEY, Episode(*(part._replace(x=part.x[0]) for part in (support, query))))
  with jax.enable_x64(True):
    exact = answers(head, params)
  for stored in (np.float32, np.float16):
    (x, y, _), (z, _, _), _ = episodes(stored)
    found = answers(head, params)(x, y, z)
    assert np.isfinite(found).all()
    with jax.enable_x64(True):
      expected = exact(x.astype(np.float64), y, z.astype(np.float64))
    found, expected = found[:3], expected[:3]
    np.testing.assert_array_equal(found.argmax(-1), expected.argmax(-1))
    # Loosely: Adam divides small slopes by their size, and sure assignments leave odds free.
    size = np.abs(expected).max((1, 2), keepdims=True)
    np.testing.assert_allclose(found / size, expected / size, atol=2e-2)


@pytest.mark.parametrize('name', ['prototypes', 'matching', 'tim'])
def test_bytes_are_numbers(name):
  """A sum of bytes would wrap."""
  (x, y, _), (z, _, _), _ = episodes(np.float64)
  x, z = (np.round(np.clip(128 + 40 * part[1], 0, 255)) for part in (x, z))
  head = ROWS[name](3)
  found, expected = (
    head.predict(head.adapt(KEY, {}, Examples(x.astype(dtype), y)), z.astype(dtype))
    for dtype in (np.uint8, np.float32)
  )
  np.testing.assert_array_equal(found, expected)


def long_features(length, features=64, shots=5, ways=5, seed=0):
  """Rectified features in float32, whose vectors have such a length in the mean."""
  rng = np.random.default_rng(seed)
  centres = np.maximum(rng.normal(size=(ways, features)) + 0.5, 0)

  def part(count):
    y = np.repeat(np.arange(ways, dtype=np.int32), count)
    return Examples(np.maximum(centres[y] + rng.normal(size=(len(y), features)), 0), y)

  support, query = part(shots), part(15)
  size = length / np.linalg.norm(support.x, axis=1).mean()
  return Episode(*(e._replace(x=np.float32(size * e.x)) for e in (support, query)))


def objective(weights, bias, support, strength):
  """Of logistic regression, in float64."""
  outputs = support.x.astype(np.float64) @ weights + bias
  top = outputs.max(1)
  missed = top + np.log(np.exp(outputs - top[:, None]).sum(1))
  missed -= outputs[np.arange(len(outputs)), support.y]
  return 0.5 * np.square(weights).sum() + strength * missed.sum()


@pytest.mark.parametrize(('length', 'strength'), [(673, 1.0), (202, 10.0)])
def test_logistic_of_long_features_is_scikit_learns_in_float64(length, strength):
  support, query, _ = long_features(length)
  theirs = LogisticRegression(C=strength, tol=1e-9, max_iter=20_000)
  theirs.fit(support.x.astype(np.float64), support.y)
  head = heads.logistic(5, strength)
  fitted = head.adapt(KEY, {}, support)
  kernel = np.asarray(fitted[0], np.float64)
  least = objective(theirs.coef_.T, theirs.intercept_, support, strength)
  assert objective(kernel[:-1], kernel[-1], support, strength) < least * (1 + 1e-6)
  found = np.asarray(head.predict(fitted, query.x)).argmax(1)
  np.testing.assert_array_equal(found, theirs.predict(query.x.astype(np.float64)))


def test_logistic_takes_float32_where_float64_is_on():
  support, query, _ = long_features(10.0)
  head = heads.logistic(5)
  with jax.enable_x64(True):
    found = head.predict(head.adapt(KEY, {}, support), query.x)
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, head.predict(head.adapt(KEY, {}, support), query.x), rtol=1e-4)


@pytest.mark.parametrize(
  ('head', 'length', 'features'),
  [
    (heads.svm(5), 359, 64),
    (heads.svm(5), 10_000, 64),
    (heads.mahalanobis(5), 1196, 64),
    (heads.mahalanobis(5), 1196, 20),
    (heads.ridge(5), 1196, 64),
  ],
)
def test_long_features_are_judged_as_in_float64(head, length, features):
  support, query, _ = long_features(length, features)
  params = head.init(KEY, Episode(support, query))
  run = lambda x, z: head.predict(head.adapt(KEY, params, support._replace(x=x)), z)
  found = np.asarray(jax.jit(run)(support.x, query.x), np.float64)
  with jax.enable_x64(True):
    expected = np.asarray(jax.jit(run)(support.x.astype(np.float64), query.x.astype(np.float64)))
  level = lambda a: a - a.mean(1, keepdims=True)
  np.testing.assert_allclose(level(found), level(expected), atol=0.02 * np.ptp(level(expected)))


def test_a_stream_of_long_features_is_ridge_regression():
  """2,000 examples of 50 classes in batches: normal equations in float64."""
  support, query, _ = long_features(359, 64, 40, 50)
  order = np.random.default_rng(0).permutation(2000)
  parts = [Examples(support.x[rows], support.y[rows]) for rows in np.split(order, [5, 105, 1000])]
  head = heads.recursive_ridge(50)
  fitted = head.adapt(KEY, {}, parts[0])
  for part in parts[1:]:
    fitted = head.extend(fitted, part)
  x, z = support.x.astype(np.float64), query.x.astype(np.float64)
  exact = z @ np.linalg.solve(x.T @ x + 0.1 * np.eye(64), x.T @ np.eye(50)[support.y])
  np.testing.assert_allclose(head.predict(fitted, query.x), exact, atol=1e-3)
