"""Laws of every learner. A new learner joins by adding one row to tests/learners/rows.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from metakit.learners.embedded import PROTOCOLS
from metakit.types import Episode, Examples
from tests.learners.rows import KEY, LEARNERS, QUERIES, SHAPES, SHOTS, TASKS, WAYS, rows

every_learner = rows()
differentiable = rows(lambda row: row.exact)
symmetric = rows(lambda row: row.symmetric)
unordered = rows(lambda row: not row.ordered and row.padded)
padding = rows(lambda row: row.padded)
supervised = rows(lambda row: row.padded and row.supervised and row.data != 'curves')


def examples_of(data, count, rng):
  x = rng.normal(size=(WAYS * count, *SHAPES[data])).astype(np.float32)
  if data == 'curves':
    return Examples(x, np.sin(3 * x[:, :1]))
  return Examples(x, np.tile(np.arange(WAYS, dtype=np.int32), count))


def episode_of(name, task=0):
  rng = np.random.default_rng(task + 1)
  data = LEARNERS[name].data
  classes = {'classes': np.array([1, 4, 2], np.int32)}  # of those of pre-training
  return Episode(examples_of(data, SHOTS, rng), examples_of(data, QUERIES, rng), classes)


def stack(episodes):
  return jax.tree.map(lambda *leaves: np.stack(leaves), *episodes)


def episodes_of(name):
  return stack([episode_of(name, task) for task in range(TASKS)])


@functools.cache
def made(name):
  """The learner of a row and random parameters; initial ones, often zero, would hide faults."""
  learner, rng = LEARNERS[name].make(), np.random.default_rng(0)

  def random(path, leaf):
    assert leaf.dtype == np.float32  # whoever is first to ask, within float64 or not
    value = rng.normal(size=leaf.shape).astype(np.float32)
    return 0.5 + value**2 if 'var' in str(path[-1]) else 0.7 * value

  shapes = jax.eval_shape(learner.init, KEY, episode_of(name))
  return learner, jax.tree_util.tree_map_with_path(random, shapes)


def judge(learner, params, episode):
  """All that a learner computes of an episode."""
  gradient = jax.value_and_grad(learner.loss, argnums=1, has_aux=True)
  (loss, metrics), grads = gradient(KEY, params, episode)
  outputs = learner.predict(learner.adapt(KEY, params, episode.support), episode.query.x)
  return {'loss': loss, 'metrics': metrics, 'gradient': grads, 'outputs': outputs}


def plainly(learner, params, episode):
  """`judge` operation by operation: what the learner's Python says, without a compiler."""
  with jax.disable_jit():
    return judge(learner, params, episode)


@functools.cache
def plain(name, task=0):
  return plainly(*made(name), episode_of(name, task))


@functools.cache
def mapped(name):
  """`judge` under jit and vmap, compiled once for all laws of a row, and the list of its traces."""
  learner, traces = made(name)[0], []

  @jax.jit
  def run(params, episodes):
    traces.append(name)
    return jax.vmap(lambda e: judge(learner, params, e))(episodes)

  return run, traces


def side_by_side(name, *episodes):
  """Judges up to TASKS episodes; returns a list."""
  filled = [*episodes, *(episode_of(name) for _ in range(TASKS - len(episodes)))]
  judged = mapped(name)[0](made(name)[1], stack(filled))
  return [jax.tree.map(lambda leaf: leaf[i], judged) for i in range(len(episodes))]  # noqa: B023


def compiled_fast(function):
  """jit with few optimisations: for laws that ask about values rather than about the compiler."""
  return jax.jit(function, compiler_options={'xla_backend_optimization_level': 0})


@functools.cache
def precise(name):
  """`judge` in float64, to be called under enable_x64; predicts `x` rather than the query set."""
  learner = made(name)[0]

  @compiled_fast
  def run(params, episode, x):
    outputs = learner.predict(learner.adapt(KEY, params, episode.support), x)
    return {**judge(learner, params, episode), 'outputs': outputs}

  return run


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


@every_learner
def test_pure_and_deterministic(name):
  assert_same_bits(plainly(LEARNERS[name].make(), made(name)[1], episode_of(name)), plain(name))


@every_learner
def test_jit_and_vmap_equal_a_plain_loop(name):
  """Values and gradients: a compiler that fuses operations may change either."""
  judged = side_by_side(name, *(episode_of(name, task) for task in range(TASKS)))
  for task in range(TASKS):
    assert_close(judged[task], plain(name, task))


@every_learner
def test_traced_once_through_steps_and_calibration(name):
  """What a step and a calibration return has the types they were given."""
  (run, traces), (learner, params), episodes = mapped(name), made(name), episodes_of(name)
  before = len(traces)  # of other laws; tests/conftest.py may have made room since
  for _ in range(2):
    grads = run(params, episodes)['gradient']
    params = jax.tree.map(lambda p, g: p - 0.1 * g.mean(0), params, grads)
  run(params, episodes)
  assert len(traces) <= before + 1
  assert jax.eval_shape(learner.calibrate, params, episodes) == jax.eval_shape(lambda: params)


@every_learner
def test_numpy_arrays_will_do(name):
  """Parameters from a file, and examples, without a jit around: traced, which shows what fails."""
  learner, params = made(name)
  params, episode = jax.tree.map(np.asarray, (params, episode_of(name)))
  jax.eval_shape(lambda: judge(learner, params, episode))


@every_learner
def test_parameters_and_fitted_hold_arrays_only(name):
  learner, episode = made(name)[0], jax.tree.map(jnp.asarray, episode_of(name))

  def check():
    params = learner.init(KEY, episode)
    fitted = learner.adapt(KEY, params, episode.support)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves((params, fitted)))

  jax.eval_shape(check)


def as_float(tree, dtype):
  cast = lambda a: jnp.asarray(a, dtype if jnp.issubdtype(a.dtype, jnp.floating) else a.dtype)
  return jax.tree.map(cast, tree)


def padded(examples):
  """Adds one absent row in front and two behind, of NaN."""
  ends = lambda a, value: np.pad(a, [(1, 2)] + [(0, 0)] * (a.ndim - 1), constant_values=value)
  blank = np.nan if examples.y.dtype == np.float32 else 0
  weight = ends(np.ones(len(examples.x), np.float32), 0)
  return Examples(ends(examples.x, np.nan), ends(examples.y, blank), weight)


def with_unlabelled(examples):
  """Adds the same rows, of large numbers, present and without a label."""
  x, y, weight = padded(examples)
  x[weight == 0] = 100 * np.random.default_rng(0).normal(size=(3, *x.shape[1:]))
  return Examples(x, np.where(weight > 0, y, -1).astype(y.dtype), np.ones_like(weight))


def padded_in_float64(name):
  """The row's parameters, its first episode padded, and the queries without padding."""
  episode = episode_of(name)
  whole = Episode(padded(episode.support), padded(episode.query), episode.info)
  return as_float((made(name)[1], whole, episode.query.x), jnp.float64)


@padding
def test_weight_0_equals_absent(name):
  """In support and query for loss and gradient; in the support for predictions."""
  with jax.enable_x64(True):
    judged = precise(name)(*padded_in_float64(name))
  assert_close(judged, plain(name), 1e-3)  # the latter is float32


@supervised
def test_an_example_without_a_label_equals_absent(name):
  """Whatever it holds, it is no example of the last class."""
  episode = episode_of(name)
  whole = episode._replace(support=with_unlabelled(episode.support), query=padded(episode.query))
  with jax.enable_x64(True):
    given = as_float((made(name)[1], whole, episode.query.x), jnp.float64)
    judged = precise(name)(*given)
  assert_close(judged, plain(name), 1e-3)  # the latter is float32


@differentiable
def test_gradient_is_the_finite_difference(name):
  step, rng = 1e-6, np.random.default_rng(1)  # not along the parameters, as `made` draws them
  with jax.enable_x64(True):
    params, *rest = padded_in_float64(name)
    loss = lambda p: np.asarray(precise(name)(p, *rest)['loss'])
    grads = precise(name)(params, *rest)['gradient']
    for _ in range(2):
      direction = jax.tree.map(lambda p: rng.normal(size=p.shape), params)
      move = lambda size: jax.tree.map(lambda p, d: p + size * d, params, direction)  # noqa: B023
      ahead, behind = loss(move(step)), loss(move(-step))
      assert ahead.dtype == np.float64
      products = jax.tree.map(lambda g, d: np.sum(g * d), grads, direction)
      exact = sum(jax.tree.leaves(products))
      assert abs(exact) > 1e-4  # a flat direction would show nothing
      assert abs((ahead - behind) / (2 * step) - exact) < 1e-6 * abs(exact)


@unordered
def test_support_order_does_not_matter(name):
  episode = episode_of(name)
  support = jax.tree.map(lambda a: a[::-1].copy(), episode.support)
  assert_close(side_by_side(name, episode._replace(support=support))[0], plain(name))


@every_learner
def test_query_order_does_not_matter(name):
  """Predictions are those of their queries; the loss and its gradient are the same."""
  episode = episode_of(name)
  turned = jax.tree.map(lambda a: a[::-1].copy(), episode.query)
  (judged,) = side_by_side(name, episode._replace(query=turned))
  expected = plain(name)
  assert_close(judged['outputs'][::-1], expected['outputs'])
  assert_close(judged['loss'], expected['loss'])
  assert_close(judged['gradient'], expected['gradient'])


@symmetric
def test_permuting_labels_permutes_outputs(name):
  new, episode = np.array([2, 0, 1], np.int32), episode_of(name)
  classes = np.zeros_like(episode.info['classes'])
  classes[new] = episode.info['classes']
  support, query, _ = episode
  renamed = Episode(
    *(part._replace(y=new[part.y]) for part in (support, query)), {'classes': classes}
  )
  (judged,) = side_by_side(name, renamed)
  assert_close(judged['outputs'][:, new], plain(name)['outputs'])
  assert_close(judged['gradient'], plain(name)['gradient'])


@every_learner
def test_the_protocol_is_true(name):
  """Other queries change a prediction of a transductive learner, and none of an inductive one."""
  episode, learner = episode_of(name), made(name)[0]
  x = episode.query.x.copy()
  x[1:] += 3 * np.random.default_rng(0).normal(size=x[1:].shape)
  other = episode._replace(query=episode.query._replace(x=x))
  ours, theirs = (np.asarray(j['outputs'][0]) for j in side_by_side(name, episode, other))
  change = np.abs(ours - theirs).max()
  assert learner.protocol in PROTOCOLS
  assert change < 1e-6 if learner.protocol == 'inductive' else change > 1e-2


@every_learner
def test_bfloat16_stays_finite(name):
  learner, params = made(name)
  run = compiled_fast(functools.partial(judge, learner))
  judged = run(*as_float((params, episode_of(name)), jnp.bfloat16))
  for leaf in jax.tree.leaves(judged):
    assert np.isfinite(np.asarray(leaf, np.float32)).all()
