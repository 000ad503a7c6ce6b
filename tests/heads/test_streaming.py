"""Heads that go on learning: equal to the joint solution, whatever the order and the batches."""

from functools import cache

import jax
import numpy as np
import pytest

from metakit.heads import class_mean_stream, prototypes, recursive_ridge, ridge
from metakit.learners.embedded import embedded
from metakit.networks.mlp import mlp
from metakit.types import Episode, Examples
from tests.heads.made import KEY, blobs, in_float64, outputs

SUPPORT, QUERY, _ = blobs(shots=20, features=6)
BATCHES = {'one by one': [1] * 60, 'uneven': [1, 30, 1, 28], 'halves': [30, 30]}


@cache
def streaming(expansion):
  """The functions of a head, compiled: of ridge regression, or of class means for None."""
  head = class_mean_stream(3) if expansion is None else recursive_ridge(3, 0.1, expansion)
  return head._replace(
    **{name: jax.jit(getattr(head, name)) for name in ('init', 'adapt', 'extend', 'predict')}
  )


def learned(head, params, order, sizes):
  """What a head has learned after batches of such sizes, in such an order."""
  fitted, start, adapt, extend = None, 0, head.adapt, head.extend
  for size in sizes:
    rows = order[start : start + size]
    part = Examples(SUPPORT.x[rows], SUPPORT.y[rows])
    fitted = adapt(KEY, params, part) if fitted is None else extend(fitted, part)
    start += size
  return fitted


@pytest.mark.parametrize('name', BATCHES)
@pytest.mark.parametrize('expansion', [0, 40])
@in_float64
def test_recursive_ridge_is_the_joint_solution(name, expansion):
  head = streaming(expansion)
  params = jax.device_get(head.init(KEY, Episode(SUPPORT, QUERY)))
  order = np.random.default_rng(len(name)).permutation(60)
  z = np.maximum(SUPPORT.x @ params['expansion'], 0) if expansion else SUPPORT.x
  joint = np.linalg.solve(z.T @ z + 0.1 * np.eye(z.shape[1]), z.T @ np.eye(3)[SUPPORT.y])
  weights = learned(head, params, order, BATCHES[name])[0]
  np.testing.assert_allclose(weights, joint, atol=1e-8 * np.abs(joint).max())


@in_float64
def test_recursive_ridge_of_one_batch_is_the_ridge_head():
  heads = recursive_ridge(3, 0.5), ridge(3, 0.5, learned=False)
  say = lambda: [head.predict(head.adapt(KEY, {}, SUPPORT), QUERY.x) for head in heads]
  found, expected = jax.jit(say)()
  np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize('name', BATCHES)
@in_float64
def test_streamed_class_means_are_those_of_all_examples(name):
  head, order = streaming(None), np.random.default_rng(0).permutation(60)
  fitted = learned(head, {}, order, BATCHES[name])
  expected = outputs(prototypes(3), Episode(SUPPORT, QUERY), {})
  np.testing.assert_allclose(head.predict(fitted, QUERY.x), expected, rtol=1e-10)


@pytest.mark.parametrize('head', [recursive_ridge(3), class_mean_stream(3)])
def test_a_new_class_may_come_later_and_padding_is_nothing(head):
  first = SUPPORT.y < 2
  adapt, extend, predict = map(jax.jit, (head.adapt, head.extend, head.predict))
  whole = adapt(KEY, {}, Examples(SUPPORT.x.astype(np.float32), SUPPORT.y))
  fitted = adapt(KEY, {}, Examples(SUPPORT.x.astype(np.float32)[first], SUPPORT.y[first]))
  assert (predict(fitted, QUERY.x.astype(np.float32)).argmax(-1) < 2).all()
  weight = (~first).astype(np.float32)
  fitted = extend(fitted, Examples(SUPPORT.x.astype(np.float32), SUPPORT.y, weight))
  found, expected = (predict(f, QUERY.x.astype(np.float32)) for f in (fitted, whole))
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@in_float64
def test_a_network_with_a_streaming_head_goes_on_learning():
  learner = embedded(mlp(None, width=8, depth=1), recursive_ridge(3))
  params = jax.jit(learner.init)(KEY, Episode(SUPPORT, QUERY))
  adapt, predict = jax.jit(learner.adapt), jax.jit(learner.predict)
  parts = [Examples(SUPPORT.x[rows], SUPPORT.y[rows]) for rows in (slice(25), slice(25, 60))]
  fitted = jax.jit(learner.extend)(adapt(KEY, params, parts[0]), parts[1])
  expected = predict(adapt(KEY, params, SUPPORT), QUERY.x)
  np.testing.assert_allclose(predict(fitted, QUERY.x), expected, rtol=1e-6)
  assert embedded(mlp(None), prototypes(3)).extend is None
