"""Laws of every learner. A new learner joins by adding one row to LEARNERS."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from metakit.learners.embedded import PROTOCOLS
from metakit.learners.in_context import in_context
from metakit.learners.maml import maml
from metakit.learners.prototypical import prototypical
from metakit.models import from_linen
from metakit.networks.conv4 import conv4
from metakit.networks.mlp import mlp
from metakit.networks.normalisation import Norm
from metakit.networks.transformer import transformer
from metakit.objectives import squared_error
from metakit.types import Episode, Examples, MetaLearner

WAYS, SHOTS, QUERIES, TASKS = 3, 2, 3, 3


class Small(nn.Module):
  """The smallest network with every way in which examples may influence one another."""

  num_outputs: int
  norm: str
  stored: bool = False

  @nn.compact
  def __call__(self, x, weight=None):
    x = Norm(self.norm, self.stored)(nn.Dense(8)(x), weight)
    return nn.Dense(self.num_outputs)(nn.relu(x))


def small(norm, num_outputs=WAYS):
  module = Small(num_outputs, norm)
  return from_linen(module, module.clone(stored=True) if norm == 'batch' else None)


class Row(NamedTuple):
  """A learner in the table.

  Attributes:
    make: () -> MetaLearner.
    data: 'vectors' [examples, 4], 'images' [examples, 4, 4, 1], or 'curves' (regression).
    symmetric: permuting the support's labels permutes the outputs.
    exact: the gradient of `loss` is its derivative (a first-order approximation is not).
  """

  make: Callable[[], MetaLearner]
  data: str = 'vectors'
  symmetric: bool = False
  exact: bool = True


# eps_root, because Adam's square root has no derivative at a gradient of zero (metakit.learners.maml)
ADAM = optax.adam(0.1, eps_root=1e-4)

LEARNERS = {
  'prototypical:batch': Row(lambda: prototypical(small('batch'), WAYS), symmetric=True),
  'prototypical:group': Row(lambda: prototypical(small('group'), WAYS), symmetric=True),
  'prototypical:transductive': Row(
    lambda: prototypical(small('batch'), WAYS, protocol='transductive'), symmetric=True
  ),
  'prototypical:cosine': Row(
    lambda: prototypical(small('group'), WAYS, distance='cosine'), symmetric=True
  ),
  'prototypical:conv4': Row(
    lambda: prototypical(conv4(width=4, depth=1), WAYS), 'images', symmetric=True
  ),
  'maml:batch': Row(lambda: maml(small('batch'), optax.sgd(0.4))),
  'maml:3_steps': Row(lambda: maml(small('group'), optax.sgd(0.4), 3)),
  'maml:adam': Row(lambda: maml(small('batch'), ADAM, 3)),
  'maml:first_order': Row(lambda: maml(small('group'), optax.sgd(0.4), order='first'), exact=False),
  'maml:first_order_adam': Row(lambda: maml(small('batch'), ADAM, 3, order='first'), exact=False),
  'maml:regression': Row(
    lambda: maml(mlp(1, width=8), optax.sgd(0.05), objective=squared_error), 'curves'
  ),
  'maml:conv4': Row(lambda: maml(conv4(WAYS, width=4, depth=1), optax.sgd(0.4)), 'images'),
  'in_context': Row(lambda: in_context(transformer(WAYS, width=8, depth=2, heads=2), WAYS)),
  'in_context:regression': Row(
    lambda: in_context(transformer(1, width=8, depth=2, heads=2), 1, squared_error), 'curves'
  ),
}

SHAPES = {'vectors': (4,), 'images': (4, 4, 1), 'curves': (1,)}
KEY = jax.random.key(0, impl='threefry2x32')

every_learner = pytest.mark.parametrize('name', LEARNERS)
differentiable = pytest.mark.parametrize('name', [n for n, row in LEARNERS.items() if row.exact])
symmetric = pytest.mark.parametrize('name', [n for n, row in LEARNERS.items() if row.symmetric])


def examples_of(data, count, rng):
  x = rng.normal(size=(WAYS * count, *SHAPES[data])).astype(np.float32)
  if data == 'curves':
    return Examples(x, np.sin(3 * x))
  return Examples(x, np.tile(np.arange(WAYS, dtype=np.int32), count))


def episode_of(name, task=0):
  rng = np.random.default_rng(task + 1)
  data = LEARNERS[name].data
  return Episode(examples_of(data, SHOTS, rng), examples_of(data, QUERIES, rng))


def episodes_of(name):
  return jax.tree.map(lambda *leaves: np.stack(leaves), *(episode_of(name, i) for i in range(TASKS)))


@functools.cache
def made(name):
  """The learner of a row and its parameters, calibrated on the row's episodes."""
  learner = LEARNERS[name].make()
  params = jax.jit(learner.init)(KEY, episode_of(name))
  return learner, jax.jit(learner.calibrate)(params, episodes_of(name))


def judge(learner, params, episode, key=KEY):
  """All that a learner computes of an episode."""
  gradient = jax.value_and_grad(learner.loss, argnums=1, has_aux=True)
  (loss, metrics), grads = gradient(key, params, episode)
  outputs = learner.predict(learner.adapt(key, params, episode.support), episode.query.x)
  return {'loss': loss, 'metrics': metrics, 'gradient': grads, 'outputs': outputs}


def plainly(learner, params, episode):
  """`judge` operation by operation: what the learner's Python says, with no compiler."""
  with jax.disable_jit():
    return judge(learner, params, episode)


@functools.cache
def plain(name, task=0):
  return plainly(*made(name), episode_of(name, task))


@functools.cache
def compiled(name):
  """A jitted `judge` for all laws of a row, and the list of its traces."""
  learner, traces = made(name)[0], []

  @jax.jit
  def counted(params, episode):
    traces.append(name)
    return judge(learner, params, episode)

  return counted, traces


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
def test_jit_changes_neither_values_nor_gradients(name):
  run, _ = compiled(name)
  assert_close(run(made(name)[1], episode_of(name)), plain(name))


@every_learner
def test_vmap_is_a_python_loop(name):
  learner, params = made(name)
  mapped = jax.jit(jax.vmap(functools.partial(judge, learner), (None, 0)))
  loop = [plain(name, task) for task in range(TASKS)]
  assert_close(
    mapped(params, episodes_of(name)), jax.tree.map(lambda *leaves: np.stack(leaves), *loop)
  )


@every_learner
def test_traced_once_through_steps_and_calibration(name):
  """What a step and a calibration return has the types they were given."""
  (run, traces), (learner, params) = compiled(name), made(name)
  for task in range(TASKS):
    grads = run(params, episode_of(name, task))['gradient']
    params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
  run(jax.jit(learner.calibrate)(params, episodes_of(name)), episode_of(name))
  assert len(traces) == 1


@every_learner
def test_parameters_and_fitted_hold_arrays_only(name):
  learner, params = made(name)
  with jax.disable_jit():
    fitted = learner.adapt(KEY, params, jax.tree.map(jnp.asarray, episode_of(name).support))
  for leaf in jax.tree.leaves((params, fitted)):
    assert isinstance(leaf, jax.Array)


def as_float(tree, dtype):
  cast = lambda a: jnp.asarray(a, dtype if jnp.issubdtype(a.dtype, jnp.floating) else a.dtype)
  return jax.tree.map(cast, tree)


@differentiable
def test_gradient_is_the_finite_difference(name):
  learner, params = made(name)
  step = 1e-6
  rng = np.random.default_rng(0)
  with jax.enable_x64(True), jax.disable_jit():
    params, episode = as_float((params, episode_of(name)), jnp.float64)
    loss = lambda p: learner.loss(KEY, p, episode)[0]
    grads = jax.grad(loss)(params)
    for _ in range(2):
      direction = jax.tree.map(lambda p: rng.normal(size=p.shape), params)
      ahead, behind = (
        loss(jax.tree.map(lambda p, d: p + sign * step * d, params, direction))  # noqa: B023
        for sign in (1, -1)
      )
      assert ahead.dtype == jnp.float64
      slope = float(ahead - behind) / (2 * step)
      dots = jax.tree.map(lambda g, d: (g * d).sum(), grads, direction)
      exact = float(sum(jax.tree.leaves(dots)))
      assert abs(exact) > 1e-3  # a flat direction would show nothing
      assert abs(exact - slope) < 1e-6 * abs(exact)


def padded(examples, rng):
  """Adds one absent row in front and two behind, of large wrong numbers."""
  total = len(examples.x)
  widths = lambda a: [(1, 2)] + [(0, 0)] * (a.ndim - 1)
  weight = np.pad(np.ones(total, np.float32), (1, 2))
  garbage = 100 * rng.normal(size=(total + 3, *examples.x.shape[1:])).astype(np.float32)
  present = weight.reshape(-1, *(1,) * (examples.x.ndim - 1)) > 0
  x = np.where(present, np.pad(examples.x, widths(examples.x)), garbage)
  return Examples(x, np.pad(examples.y, widths(examples.y), mode='edge'), weight)


@every_learner
def test_weight_0_equals_absent(name):
  (learner, params), episode, rng = made(name), episode_of(name), np.random.default_rng(0)
  support, query = (padded(part, rng) for part in (episode.support, episode.query))
  trained = plainly(learner, params, Episode(support, query))
  tested = plainly(learner, params, Episode(support, episode.query))
  for part in ('loss', 'metrics', 'gradient'):
    assert_close(trained[part], plain(name)[part])
  assert_close(tested['outputs'], plain(name)['outputs'])


@every_learner
def test_support_order_does_not_matter(name):
  (run, _), episode = compiled(name), episode_of(name)
  support = jax.tree.map(lambda a: a[::-1].copy(), episode.support)
  assert_close(run(made(name)[1], episode._replace(support=support)), plain(name))


@symmetric
def test_permuting_labels_permutes_outputs(name):
  (run, _), episode = compiled(name), episode_of(name)
  new = np.array([2, 0, 1], np.int32)
  renamed = Episode(*(part._replace(y=new[part.y]) for part in episode[:2]))
  judged = run(made(name)[1], renamed)
  assert_close(judged['outputs'][:, new], plain(name)['outputs'])
  assert_close(judged['gradient'], plain(name)['gradient'])


@every_learner
def test_the_protocol_is_true(name):
  """Another query changes a prediction of a transductive learner, and none of an inductive one."""
  (run, _), (learner, params), episode = compiled(name), made(name), episode_of(name)
  others = episode.query.x + np.arange(len(episode.query.x)).reshape(
    -1, *(1,) * (episode.query.x.ndim - 1)
  ).astype(np.float32)
  ours, theirs = (
    np.asarray(run(params, e)['outputs'][0])
    for e in (episode, episode._replace(query=episode.query._replace(x=others)))
  )
  change = np.abs(ours - theirs).max()
  assert learner.protocol in PROTOCOLS
  assert change < 1e-6 if learner.protocol == 'inductive' else change > 1e-2


@every_learner
def test_bfloat16_stays_finite(name):
  learner, params = made(name)
  judged = plainly(learner, *as_float((params, episode_of(name)), jnp.bfloat16))
  for leaf in jax.tree.leaves(judged):
    assert np.isfinite(np.asarray(leaf, np.float32)).all()
