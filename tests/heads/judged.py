"""What each head computes of the episodes of its tests, by one program in float32, one in float64.

The former has a class more, of which there is no example. All episodes have as many rows, of which
some are absent; a fitted head is asked of all queries.
"""

import functools

import jax
import numpy as np

from metakit import heads
from metakit.types import Episode, Examples
from tests.heads.made import KEY, blobs

EVERY = [name for name in heads.__all__ if name != 'normalised']
IN_MINIBATCHES = {'baseline': {'batch': 0}}
COUNTED = {'baseline', 'feat', 'relation', 'svm'}  # parameters or sums over all classes
SCALES = (0.001, 1, 1000)
FEATURES, SHOTS = 40, 3  # the last shot of each class is absent, or has no label, in some


def head_of(name, ways=3):
  return getattr(heads, name)(ways, **IN_MINIBATCHES.get(name, {}))


def judge(head, params, support, query):
  """Outputs, the training loss, and its gradient with respect to features of both parts."""

  def loss(x, z):
    return head.loss(KEY, params, Episode(support._replace(x=x), query._replace(x=z)))[0]

  value, slopes = jax.value_and_grad(loss, (0, 1))(support.x, query.x)
  outputs = head.predict(head.adapt(KEY, params, support), query.x)
  return {'outputs': outputs, 'loss': value, 'slopes': slopes}


def variants():
  """{variant: (support, query)} in float64; but for those of some length, 5 features vary."""
  draw = lambda spread: blobs(3, 3, SHOTS, (4, 4, 4), FEATURES, spread)[:2]
  narrow = lambda part: part._replace(x=part.x * (np.arange(FEATURES) < 5))
  long, long_query = draw(0.4)
  support, query = map(narrow, draw(1.5))
  later = np.array([np.sum(support.y[:i] == y) for i, y in enumerate(support.y)]) == SHOTS - 1
  few = support._replace(weight=1.0 * ~later)
  strange = 3 * np.random.default_rng(1).normal(size=few.x.shape)
  unlabelled = Examples(
    np.where(later[:, None], strange, few.x),
    np.where(later, -1, few.y).astype(np.int32),
    np.ones(len(few.x)),
  )
  one = Examples(np.full_like(few.x, 3.0), np.zeros_like(few.y), 1.0 * (np.arange(len(few.x)) == 4))
  asked = np.where(np.arange(len(query.x))[:, None] % 2, 3.0, -1.0) + np.zeros(FEATURES)
  same = lambda part: narrow(part._replace(x=np.ones_like(part.x)))
  some = lambda part: part._replace(x=np.where(np.arange(len(part.x))[:, None] % 4, part.x, 0))
  whole = long._replace(weight=np.ones(len(long.x)))
  times = lambda scale, *parts: tuple(part._replace(x=scale * part.x) for part in parts)
  return {
    'plain': (few, query),
    'unlabelled': (unlabelled, query),
    'one example': (one, query._replace(x=asked)),
    'identical': (same(few), same(query)),
    'no support': (few._replace(weight=0.0 * few.weight), query),
    'zeros among them': (some(whole), some(long_query)),
    **{f'times {scale}': times(scale, whole, long_query) for scale in SCALES},
  }


def as_float(tree, dtype):
  cast = lambda leaf: leaf.astype(dtype) if leaf.dtype == np.float64 else leaf
  return jax.tree.map(lambda leaf: cast(np.asarray(leaf)), tree)


def results(head, params, dtype):
  """{variant: what `judge` says of it, in NumPy}, by one program."""
  run = jax.jit(lambda *given: judge(head, params, *given))
  return {name: jax.device_get(run(*as_float(v, dtype))) for name, v in variants().items()}


def random_params(head):
  episode = Episode(*as_float(variants()['plain'], np.float32))
  if not jax.tree.leaves(jax.eval_shape(head.init, KEY, episode)):
    return head.init(KEY, episode)
  return jax.device_get(jax.jit(head.init)(KEY, episode))


@functools.cache
def single(name):
  """In float32, with a fourth class of which there is no example."""
  head = head_of(name, 4)
  return results(head, random_params(head), np.float32)


@functools.cache
def double(name):
  """In float64, of three classes, or of four where these differ."""
  ways = 4 if name in COUNTED else 3
  with jax.enable_x64(False):
    params = random_params(head_of(name, ways))
  with jax.enable_x64(True):
    return results(head_of(name, ways), params, np.float64)
