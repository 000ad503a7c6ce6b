"""What the learner of a row computes: one program in float64 judges all episodes of its laws."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np

from metakit.types import Episode, Examples
from tests.learners.rows import KEY, LEARNERS, QUERIES, REGRESSIONS, SHAPES, SHOTS, WAYS

NEW = np.array([2, 0, 1], np.int32)  # the label that replaces each
STEP, DIRECTIONS = 1e-6, 2  # of finite differences


def examples_of(data, count, rng):
  x = rng.normal(size=(WAYS * count, *SHAPES[data])).astype(np.float32)
  if data in REGRESSIONS:
    return Examples(x, np.sin(3 * x[:, :1]))
  return Examples(x, np.tile(np.arange(WAYS, dtype=np.int32), count))


def episode_of(name, task=0):
  rng = np.random.default_rng(task + 1)
  data = LEARNERS[name].data
  classes = np.array([1, 4, 2], np.int32)  # of those of pre-training
  info = {'classes': classes, 'domain': np.array([False, True, False])}
  return Episode(examples_of(data, SHOTS, rng), examples_of(data, QUERIES, rng), info)


def stack(trees):
  return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


@functools.lru_cache(maxsize=8)
def made(name):
  """The learner of a row and random parameters; initial ones, often zero, would hide faults."""
  learner, rng = LEARNERS[name].make(), np.random.default_rng(0)

  def random(path, leaf):
    assert leaf.dtype == np.float32  # whoever is first to ask, within float64 or not
    value = rng.normal(size=leaf.shape).astype(np.float32)
    return 0.5 + value**2 if 'var' in str(path[-1]) else 0.7 * value

  shapes = jax.eval_shape(learner.init, KEY, episode_of(name))
  return learner, jax.tree_util.tree_map_with_path(random, shapes)


def judge(learner, params, episode, x=None):
  """All that a learner computes of an episode; predicts `x`, by default the query set."""
  gradient = jax.value_and_grad(learner.loss, argnums=1, has_aux=True)
  (loss, metrics), grads = gradient(KEY, params, episode)
  fitted = learner.adapt(KEY, params, episode.support)
  outputs = learner.predict(fitted, episode.query.x if x is None else x)
  return {'loss': loss, 'metrics': metrics, 'gradient': grads, 'outputs': outputs}


def compiled_fast(function):
  """jit with few optimisations: for laws that ask about values rather than about the compiler."""
  return jax.jit(function, compiler_options={'xla_backend_optimization_level': 0})


def as_float(tree, dtype):
  """Casts what is floating; in NumPy, which compiles nothing."""
  cast = lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a
  return jax.tree.map(lambda a: cast(np.asarray(a)), tree)


def with_rows(a, before, behind, value=0):
  return np.pad(a, [(before, behind)] + [(0, 0)] * (a.ndim - 1), constant_values=value)


def padded(examples):
  """Adds one absent row in front and two behind, of NaN."""
  blank = np.nan if examples.y.dtype == np.float32 else 0
  weight = with_rows(np.ones(len(examples.x), np.float32), 1, 2)
  return Examples(with_rows(examples.x, 1, 2, np.nan), with_rows(examples.y, 1, 2, blank), weight)


def filled(examples):
  """Adds three absent rows behind, of zeros: as many as `padded` does."""
  weight = with_rows(np.ones(len(examples.x), np.float32), 0, 3)
  return Examples(with_rows(examples.x, 0, 3), with_rows(examples.y, 0, 3), weight)


def with_unlabelled(examples):
  """Adds three rows of large numbers, present and without a label."""
  x, y, weight = padded(examples)
  x[weight == 0] = 100 * np.random.default_rng(0).normal(size=(3, *x.shape[1:]))
  return Examples(x, np.where(weight > 0, y, -1).astype(y.dtype), np.ones_like(weight))


def backwards(examples):
  return jax.tree.map(lambda a: a[::-1].copy(), examples)


def renamed(episode):
  """The same classes under other labels."""
  classes = np.zeros_like(episode.info['classes'])
  classes[NEW] = episode.info['classes']
  parts = (part._replace(y=NEW[part.y]) for part in episode[:2])
  return Episode(*parts, {**episode.info, 'classes': classes})


def moved(examples):
  """Other inputs but for the first."""
  x = examples.x.copy()
  x[1:] += 3 * np.random.default_rng(0).normal(size=x[1:].shape)
  return examples._replace(x=x)


def directions(params):
  rng = np.random.default_rng(1)  # not along the parameters, as `made` draws them
  return [jax.tree.map(lambda p: rng.normal(size=p.shape), params) for _ in range(DIRECTIONS)]


def variants(name):
  """{variant: (params, episode, x to predict)}, all of the same shapes, in float64."""
  params, episode = as_float(made(name)[1], np.float64), episode_of(name)
  support, query, info = episode
  fill = lambda episode: Episode(*map(filled, episode[:2]), episode.info)
  given = lambda episode, params=params: (params, fill(episode), episode.query.x)
  found = {
    'first': given(episode),
    'second': given(episode_of(name, 1)),
    'support backwards': given(episode._replace(support=backwards(support))),
    'queries backwards': given(episode._replace(query=backwards(query))),
    'other queries': given(episode._replace(query=moved(query))),
    'padded': (params, Episode(padded(support), padded(query), info), query.x),
  }
  if LEARNERS[name].data not in REGRESSIONS:
    found['renamed'] = given(renamed(episode))
    unlabelled = Episode(with_unlabelled(support), padded(query), info)
    found['unlabelled'] = (params, unlabelled, query.x)
  for number, direction in enumerate(directions(params)):
    for sign in (1, -1):
      there = jax.tree.map(lambda p, d: p + sign * STEP * d, params, direction)  # noqa: B023
      found[f'moved {sign:+} in direction {number}'] = given(episode, there)
  return as_float(found, np.float64)


class Judged(dict):
  """{variant: what `judge` says of it, in NumPy}; `traces` of the program through three steps."""

  traces: int


@functools.lru_cache(maxsize=1)
def judged(name):
  """All variants of a row, by a program that is compiled once and forgotten.

  One after the other: to vmap over them takes twice the time, most of it to trace and to lower.
  """
  learner, traces = made(name)[0], []

  def run(params, episode, x):
    traces.append(name)
    return judge(learner, params, episode, x)

  with jax.enable_x64(True):
    given, run = variants(name), jax.jit(run)
    found = Judged({variant: jax.device_get(run(*each)) for variant, each in given.items()})
    (params, episode, x), result = given['first'], found['first']
    for _ in range(2):
      params = jax.tree.map(lambda p, g: p - 0.1 * g, params, result['gradient'])
      result = jax.device_get(run(params, episode, x))
  types = {np.asarray(leaf).dtype for leaf in jax.tree.leaves(list(found.values()))}
  assert types <= {np.dtype(float), np.dtype(int)}
  found.traces = len(traces)
  return found


@contextlib.contextmanager
def operation_by_operation():
  """Without jit: what Python says. Each operation is a program of its own, hardly optimised."""
  jax.config.update('jax_disable_most_optimizations', True)
  try:
    with jax.disable_jit():
      yield
  finally:
    jax.config.update('jax_disable_most_optimizations', False)


def plainly(learner, params, episode, x=None):
  """`judge` operation by operation: what the learner's Python says, without a compiler."""
  with operation_by_operation():
    return judge(learner, params, episode, x)


@functools.lru_cache(maxsize=2)
def plain(name, task=0):
  """In float64, without rows that are absent, where these are as none."""
  return plain_of(made(name)[0], name, task)


def plain_of(learner, name, task=0):
  """As `plain`, of another learner with the parameters and the episode of a row."""
  episode, row = episode_of(name, task), LEARNERS[name]
  whole = episode if row.padded else Episode(*map(filled, episode[:2]), episode.info)
  with jax.enable_x64(True):
    given = as_float((made(name)[1], whole, episode.query.x), np.float64)
    return jax.device_get(plainly(learner, *given))


def assert_same_bits(ours, theirs):
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b), strict=True)


def assert_close(ours, theirs, tolerance=1e-4):
  """Equal up to `tolerance` of each array's largest entry."""
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    a, b = np.asarray(a), np.asarray(b)
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1e-2, np.abs(b).max()))
