"""Features of any length, in float32 and float16: a head says what it says in float64."""

import functools

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from metakit import heads
from metakit.types import Episode, Examples
from tests.heads.judged import (
  EVERY,
  EXACT,
  as_float,
  assert_same_answers,
  head_of,
  random_params,
  variants,
)
from tests.heads.made import KEY

HEADS = {name: head_of(name) for name in EVERY}
VARIANTS = {
  'prototypes:cosine': heads.prototypes(3, 'cosine'),
  'simpleshot:power': heads.simpleshot(3, 'power'),
  'recursive_ridge:expansion': heads.recursive_ridge(3, expansion=12),
  'soft_kmeans:distractors': heads.soft_kmeans(3, distractors=True, queries=False),
}
SLOW = {
  'baseline:batches': heads.baseline(3),
  'baseline:cosine': heads.baseline(3, cosine=True),
  'slk:modes': heads.slk(3, kind='modes'),
  'tim:gd': heads.tim(3, 'gd', 50),
  'logistic:strong': heads.logistic(3, 100.0),
}


def slow(names):
  return [pytest.param(name, marks=pytest.mark.slow) for name in names]


def answers(head, stored, computed):
  """{variant: outputs} of features stored in a type, computed in another."""
  given = variants()
  params = random_params(head)

  @jax.jit
  def run(support, query):
    return head.predict(head.adapt(KEY, params, support), query.x)

  with jax.enable_x64(computed == np.float64):
    every = as_float(as_float(given, np.float64), stored)
    if computed != stored:
      every = jax.tree.map(lambda a: a.astype(computed) if a.dtype == stored else a, every)
    return {variant: np.asarray(run(*every[variant])) for variant in EXACT}


QUICK = ('prototypes:cosine', 'recursive_ridge:expansion')


@pytest.mark.parametrize(
  'name', [*QUICK, *slow(name for name in VARIANTS | SLOW if name not in QUICK)]
)
def test_a_head_with_options_says_what_it_says_in_float64(name):
  head = (VARIANTS | SLOW)[name]
  assert_same_answers(answers(head, np.float32, np.float32), answers(head, np.float32, np.float64))


IN_HALF = ('ridge', 'tim')
REST = [name for name in (*HEADS, *VARIANTS, 'baseline:cosine') if name not in IN_HALF]


@pytest.mark.parametrize('name', [*IN_HALF, *slow(REST)])
def test_features_in_half_precision_are_computed_in_float32(name):
  head = (HEADS | VARIANTS | SLOW)[name]
  assert_same_answers(answers(head, np.float16, np.float16), answers(head, np.float16, np.float64))


@pytest.mark.parametrize('name', ['prototypes', *slow(('matching', 'tim'))])
def test_bytes_are_numbers(name):
  """A sum of bytes would wrap."""
  support, query = variants()['times 1']
  x, z = (np.round(np.clip(128 + 40 * part.x, 0, 255)) for part in (support, query))
  head = HEADS[name]
  ask = jax.jit(lambda x, z: head.predict(head.adapt(KEY, {}, Examples(x, support.y)), z))
  found, expected = (ask(x.astype(dtype), z.astype(dtype)) for dtype in (np.uint8, np.float32))
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


@pytest.mark.parametrize(
  ('length', 'strength', 'wide'),
  [pytest.param(673, 1.0, False, marks=pytest.mark.slow), (202, 10.0, True)],
)
def test_logistic_of_long_features_is_scikit_learns_in_float64(length, strength, wide):
  """From features in float32, whether float64 is on or not."""
  support, query, _ = long_features(length)
  theirs = LogisticRegression(C=strength, tol=1e-9, max_iter=20_000)
  theirs.fit(support.x.astype(np.float64), support.y)
  head = heads.logistic(5, strength)

  @jax.jit
  def both(support, x):
    fitted = head.adapt(KEY, {}, support)
    return fitted[0], head.predict(fitted, x)

  with jax.enable_x64(wide):
    kernel, found = map(np.asarray, both(support, query.x))
  assert kernel.dtype == found.dtype == np.float32
  kernel = kernel.astype(np.float64)
  least = objective(theirs.coef_.T, theirs.intercept_, support, strength)
  assert objective(kernel[:-1], kernel[-1], support, strength) < least * (1 + 1e-6)
  np.testing.assert_array_equal(found.argmax(1), theirs.predict(query.x.astype(np.float64)))


@functools.cache
def program(name):
  head = getattr(heads, name)(5)

  @jax.jit
  def run(support, query):
    fitted = head.adapt(KEY, head.init(KEY, Episode(support, query)), support)
    return head.predict(fitted, query.x)

  return run


@pytest.mark.parametrize(
  ('head', 'length', 'features', 'shots'),
  [
    ('svm', 10_000, 64, 5),
    ('mahalanobis', 5000, 64, 8),  # more rows than features, and fewer examples
    *(
      pytest.param(*each, marks=pytest.mark.slow)
      for each in (
        ('svm', 359, 64, 5),
        ('mahalanobis', 1196, 64, 5),
        ('mahalanobis', 1196, 20, 5),
        ('ridge', 1196, 64, 5),
      )
    ),
  ],
)
def test_long_features_are_judged_as_in_float64(head, length, features, shots):
  given = long_features(length, features, shots)[:2]
  found = np.asarray(program(head)(*given), np.float64)
  with jax.enable_x64(True):
    wide = [part._replace(x=part.x.astype(np.float64)) for part in given]
    expected = np.asarray(program(head)(*wide))
  level = lambda a: a - a.mean(1, keepdims=True)
  np.testing.assert_allclose(level(found), level(expected), atol=0.02 * np.ptp(level(expected)))


def test_a_stream_of_long_features_is_ridge_regression():
  """2,000 examples of 50 classes in batches: normal equations in float64."""
  support, query, _ = long_features(359, 64, 40, 50)
  order = np.random.default_rng(0).permutation(2000)
  parts = [Examples(support.x[rows], support.y[rows]) for rows in np.split(order, [5, 105, 1000])]
  head = heads.recursive_ridge(50)
  fitted = jax.jit(head.adapt)(KEY, {}, parts[0])
  for part in parts[1:]:
    fitted = jax.jit(head.extend)(fitted, part)
  x, z = support.x.astype(np.float64), query.x.astype(np.float64)
  exact = z @ np.linalg.solve(x.T @ x + 0.1 * np.eye(64), x.T @ np.eye(50)[support.y])
  np.testing.assert_allclose(head.predict(fitted, query.x), exact, atol=1e-3)
