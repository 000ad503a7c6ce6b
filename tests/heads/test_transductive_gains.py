"""What transductive heads gain from queries, on episodes of overlapping Gaussian classes."""

import functools

import jax
import numpy as np
import pytest

from metakit.heads import (
  alpha_tim,
  bd_cspn,
  laplacian_shot,
  paddle,
  prototypes,
  pt_map,
  slk,
  soft_kmeans,
  tim,
)
from metakit.types import Episode, Examples
from tests.heads.made import KEY, blobs

HEADS = {
  'prototypes': prototypes,
  'slk': slk,
  'modes': lambda ways: slk(ways, kind='modes'),
  'laplacian_shot': laplacian_shot,
  'bd_cspn': bd_cspn,
  'tim': tim,
  'alpha_tim': lambda ways: alpha_tim(ways, steps=100, learning_rate=1e-2),
  'pt_map': pt_map,
  'paddle': lambda ways: paddle(ways, complexity=5.0, scale=False),
  'soft_kmeans': soft_kmeans,
}


@functools.cache
def episodes(queries, shots, count=80):
  """Of overlapping Gaussian classes, 5 ways. All have rows for 5 shots, some of them absent."""
  made = [blobs(seed, 5, shots, queries, 8, 1.1)[:2] for seed in range(count)]
  support, query = jax.tree.map(lambda *leaves: np.stack(leaves).astype(leaves[0].dtype), *made)
  times = lambda leaf: np.concatenate([leaf] * (5 // shots), axis=1)
  there = np.broadcast_to(np.arange(25) < 5 * shots, (count, 25))
  return Examples(times(support.x), times(support.y), there.astype(float)), query


@functools.cache
def predictions(name):
  """A program of many episodes."""
  head = HEADS[name](5)

  def judge(support, x):
    params = head.init(KEY, Episode(support, Examples(x, None)))
    return head.predict(head.adapt(KEY, params, support), x).argmax(-1)

  return jax.jit(jax.vmap(judge))


@functools.cache
def accuracy(name, queries, shots):
  """The mean over episodes."""
  support, query = episodes(queries, shots)
  return np.mean(np.asarray(predictions(name)(support, query.x)) == query.y)


BALANCED = (15,) * 5


# What each computes is quick, above.
SLOW = tuple(HEADS.keys() - {'soft_kmeans'})


def slow_if_in(slow, names):
  marked = lambda name: pytest.param(name, marks=[pytest.mark.slow] * (name in slow))
  return pytest.mark.parametrize('name', list(map(marked, names)))


@slow_if_in(SLOW, [name for name in HEADS if name != 'prototypes'])
def test_queries_help_most_where_examples_are_fewest(name):
  gain = {
    shots: accuracy(name, BALANCED, shots) - accuracy('prototypes', BALANCED, shots)
    for shots in (1, 5)
  }
  assert gain[1] > gain[5] and gain[1] > 0.02, gain


@slow_if_in(SLOW, ['pt_map', 'tim'])
def test_what_assumes_balanced_queries_falls_without_them(name):
  fall = lambda name: accuracy(name, BALANCED, 1) - accuracy(name, (55, 5, 5, 5, 5), 1)
  assert fall(name) > fall('prototypes') + 0.05
