"""Episodes of features for the tests of heads."""

import functools

import jax
import numpy as np

from metakit.types import Episode, Examples

KEY = jax.random.key(0, impl='threefry2x32')


def blobs(seed=0, ways=3, shots=2, queries=(4, 2, 3), features=5, spread=0.7):
  """An episode of Gaussian classes in float64, its queries in no order."""
  rng = np.random.default_rng(seed)
  centres = rng.normal(size=(ways, features))

  def draw(counts):
    y = np.repeat(np.arange(ways, dtype=np.int32), counts)
    rng.shuffle(y)
    return Examples(centres[y] + spread * rng.normal(size=(len(y), features)), y)

  return Episode(draw([shots] * ways), draw(list(queries)), {})


def outputs(head, episode, params=None):
  """What a head says of the queries, in float64."""

  @jax.jit
  def run(params, support, x):
    params = head.init(KEY, Episode(*episode[:2])) if params is None else params
    return head.predict(head.adapt(KEY, params, support), x)

  with jax.enable_x64(True):
    return np.asarray(run(params, episode.support, episode.query.x))


def in_float64(test):
  """Decorates a test that computes in float64."""

  @functools.wraps(test)
  def run(*args, **kwargs):
    with jax.enable_x64(True):
      test(*args, **kwargs)

  return run


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def squared(z, points):
  return np.square(z[:, None] - points[None]).sum(-1)


def class_means(support, ways=3):
  return np.stack([support.x[support.y == k].mean(0) for k in range(ways)])


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)
