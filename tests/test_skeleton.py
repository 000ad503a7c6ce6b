"""The tests of the skeleton learner: what a learner's own tests look like, beside the laws."""

import jax
import numpy as np
import optax
import pytest

from metakit.models import identity
from metakit.networks.mlp import mlp
from metakit.types import Episode, Examples
from tests.skeleton import skeleton

KEY = jax.random.key(0, impl='threefry2x32')


def episode_of(seed):
  """Two classes around (2, 0) and (-2, 0), two examples of each in the support."""
  rng, y = np.random.default_rng(seed), np.tile(np.arange(2, dtype=np.int32), 4)
  x = rng.normal(size=(8, 2)) + np.where(y[:, None], [-2, 0], [2, 0])
  part = Examples(x.astype(np.float32), y)
  cut = lambda rows: jax.tree.map(lambda leaf: leaf[rows], part)
  return Episode(cut(slice(4)), cut(slice(4, None)))


def test_it_is_the_formula_of_the_paper():
  """Against NumPy: minus the squared distances to the means of the two classes."""
  support, query, _ = episode_of(0)
  learner = skeleton(identity, 2)
  predict = jax.jit(lambda support, x: learner.predict(learner.adapt(KEY, {}, support), x))
  outputs = predict(support, query.x)
  means = np.stack([support.x[support.y == way].mean(0) for way in range(2)])
  expected = -np.square(query.x[:, None] - means).sum(-1)
  np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


def test_an_absent_example_is_as_none():
  """Whatever it holds, NaN included, and in the gradient too."""
  learner, episode = skeleton(mlp(width=4, depth=1), 2), episode_of(0)
  params = jax.jit(learner.init)(KEY, episode)
  nothing = lambda leaf: np.concatenate([leaf, np.full_like(leaf[:1], np.nan)])
  support = Examples(
    nothing(episode.support.x), np.append(episode.support.y, 0), np.array([1, 1, 1, 1, 0.0])
  )
  slope = jax.jit(jax.grad(lambda p, e: learner.loss(KEY, p, e)[0]))
  ours, theirs = slope(params, episode._replace(support=support)), slope(params, episode)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, theirs)


def test_what_makes_no_sense_is_refused():
  with pytest.raises(ValueError, match='ways=1 leaves nothing to classify'):
    skeleton(identity, 1)


def test_training_lowers_its_loss():
  learner, optimizer = skeleton(mlp(width=4, depth=1), 2), optax.adam(0.03)
  keys = jax.random.split(KEY, 4)
  episodes = jax.tree.map(lambda *leaves: np.stack(leaves), *map(episode_of, range(4)))

  def loss(params):
    return jax.vmap(lambda key, e: learner.loss(key, params, e)[0])(keys, episodes).mean()

  @jax.jit
  def step(params, state):
    value, slope = jax.value_and_grad(loss)(params)
    updates, state = optimizer.update(slope, state)
    return optax.apply_updates(params, updates), state, value

  params, losses = jax.jit(learner.init)(KEY, episode_of(0)), []
  state = optimizer.init(params)
  for _ in range(5):
    params, state, value = step(params, state)
    losses.append(float(value))
  assert losses[-1] < losses[0]
