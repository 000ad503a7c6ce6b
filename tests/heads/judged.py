"""What each head computes of the episodes of its tests, by a program in float32, one in float64.

The former has a class more, of which there is no example. All episodes have as many rows, of which
some are absent; a fitted head is asked of all queries. Gradients in float64 are by another program.
"""

import functools
import inspect

import jax
import numpy as np

from metakit import heads
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples
from tests.heads.made import KEY, blobs

EVERY = [name for name in heads.__all__ if name != 'normalised']
IN_MINIBATCHES = {'baseline': {'batch': 0}}
COUNTED = {'baseline', 'feat', 'relation', 'svm'}  # parameters or sums over all classes
SCALES = (0.001, 1, 1000)
# Vectors of zeros among others may be of any class.
EXACT = [*(f'times {scale}' for scale in SCALES), 'zeros among them']
FEATURES, SHOTS = 40, 3  # the last shot of each class is absent, or has no label, in some
FAR_APART = [f'far apart {seed}' for seed in range(12)]
SURE = ('svm', 'pt_map')  # who solves for what is sure where classes are far apart


def head_of(name, ways=3, **options):
  return getattr(heads, name)(ways, **IN_MINIBATCHES.get(name, {}), **options)


def outputs_of(head, params, support, query):
  return head.predict(head.adapt(KEY, params, support), query.x)


def train(head, params, support, query):
  """The training loss, its gradient with respect to features of both parts, and its metrics."""

  def loss(x, z):
    return head.loss(KEY, params, Episode(support._replace(x=x), query._replace(x=z)))

  (value, metrics), slopes = jax.value_and_grad(loss, (0, 1), has_aux=True)(support.x, query.x)
  return {'loss': value, 'slopes': slopes, **metrics}


def showing(outputs, examples):
  """Cross-entropy, with what it judges among the metrics."""
  loss, metrics = cross_entropy(outputs, examples)
  return loss, {**metrics, 'outputs': outputs}


def judge(name, ways, params, support, query):
  """`train`, with outputs: those of the loss, or predicted where a head has a loss of its own."""
  make = functools.partial(head_of, name, ways)
  if 'objective' in inspect.signature(getattr(heads, name)).parameters:
    return train(make(objective=showing), params, support, query)
  outputs = outputs_of(make(), params, support, query)
  return train(make(), params, support, query) | {'outputs': outputs}


def answer(name, ways, params, support, query):
  return {'outputs': outputs_of(head_of(name, ways), params, support, query)}


def in_float32(part):
  return part._replace(x=part.x.astype(np.float32))


@functools.cache
def program(name):
  head = head_of(name)

  @jax.jit
  def both(support, query):
    params = head.init(KEY, Episode(support, query))
    outputs = outputs_of(head, params, support, query)
    return outputs, head.loss(KEY, params, Episode(support, query))[0]

  return both


def asked(name, support, query):
  """Outputs and loss of a head, by one program."""
  outputs, loss = program(name)(support, query)
  return np.asarray(outputs), float(loss)


def variants():
  """{variant: (support, query)} in float64; but for those of some length, 5 features vary."""
  draw = lambda spread, seed=3: blobs(seed, 3, SHOTS, (4, 4, 4), FEATURES, spread)[:2]
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

  def apart(seed):
    support, query = map(narrow, draw(0.1, seed))
    return support._replace(weight=1.0 * (np.arange(len(support.x)) != 2)), query

  return {
    'plain': (few, query),
    'unlabelled': (unlabelled, query),
    'one example': (one, query._replace(x=asked)),
    'identical': (same(few), same(query)),
    'no support': (few._replace(weight=0.0 * few.weight), query),
    'zeros among them': (some(whole), some(long_query)),
    **{f'times {scale}': times(scale, whole, long_query) for scale in SCALES},
    **{name: apart(seed) for seed, name in enumerate(FAR_APART)},
  }


def as_float(tree, dtype):
  cast = lambda leaf: leaf.astype(dtype) if leaf.dtype == np.float64 else leaf
  return jax.tree.map(lambda leaf: cast(np.asarray(leaf)), tree)


def results(run, names, dtype):
  """{variant: what a program says of it, in NumPy}."""
  given, run = variants(), jax.jit(run)
  return {name: jax.device_get(run(*as_float(given[name], dtype))) for name in names}


def random_params(head):
  episode = Episode(*as_float(variants()['plain'], np.float32))
  if not jax.tree.leaves(jax.eval_shape(head.init, KEY, episode)):
    return head.init(KEY, episode)
  return jax.device_get(jax.jit(head.init)(KEY, episode))


@functools.cache
def single(name):
  """What `judge` says in float32, with a fourth class of which there is no example.

  tests/learners/test_laws.py has the outputs of a loss and of adapt and predict.
  """
  run = functools.partial(judge, name, 4, random_params(head_of(name, 4)))
  names = [v for v in variants() if v not in FAR_APART or name in SURE]
  return results(run, names, np.float32)


@functools.cache
def double(name, run, variants):
  """What `judge` or `answer` says in float64, of three classes, or of four where these differ."""
  ways = 4 if name in COUNTED else 3
  with jax.enable_x64(False):
    params = random_params(head_of(name, ways))
  with jax.enable_x64(True):
    return results(functools.partial(run, name, ways, params), variants, np.float64)


def assert_same_answers(found, expected):
  """Of outputs {variant: [queries, ways]} for all of EXACT."""
  for variant in EXACT:
    ours, theirs = (np.asarray(each[variant], np.float64) for each in (found, expected))
    assert np.isfinite(ours).all()
    if variant.startswith('times'):
      np.testing.assert_array_equal(ours.argmax(-1), theirs.argmax(-1))
      # Loosely: Adam divides small slopes by their size, and sure assignments leave odds free.
      np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-2 * np.abs(theirs).max())
