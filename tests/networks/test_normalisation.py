"""Normalisation layers against NumPy moments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from metakit.networks.normalisation import EPSILON, NORMS, BatchNorm, Norm, check_norm
from metakit.networks.pooling import max_pool

RNG = np.random.default_rng(0)
X = (3 + 2 * RNG.normal(size=(5, 3, 2, 16))).astype(np.float32)
WEIGHT = np.array([1, 0, 1, 1, 0], np.float32)
AFFINE = {'scale': RNG.normal(size=16), 'bias': RNG.normal(size=16)}
NEUTRAL = {'mean': np.zeros(16), 'var': np.ones(16)}


def normalised(x, mean, var):
  return (x - mean) / np.sqrt(var + EPSILON) * AFFINE['scale'] + AFFINE['bias']


@functools.partial(jax.jit, static_argnames='stored')
def applied_to(variables, x, weight, stored):
  return BatchNorm(stored).apply(variables, x, weight, mutable=['statistics'])


def batch_norm(x, weight=None, stored=False, statistics=NEUTRAL):
  return applied_to({'params': AFFINE, 'statistics': statistics}, x, weight, stored)


def test_batch_norm_uses_the_moments_of_its_examples():
  y, measured = batch_norm(X)
  axes = (0, 1, 2)
  np.testing.assert_allclose(y, normalised(X, X.mean(axes), X.var(axes)), atol=1e-5)
  np.testing.assert_allclose(measured['statistics']['mean'], X.mean(axes), atol=1e-5)
  np.testing.assert_allclose(measured['statistics']['var'], X.var(axes), atol=1e-5)


def test_weighted_moments_are_those_of_the_kept_rows():
  garbage = np.where(WEIGHT[:, None, None, None] > 0, X, 1e4)
  y, measured = batch_norm(garbage, WEIGHT)
  kept, expected = batch_norm(X[WEIGHT > 0])
  np.testing.assert_allclose(np.asarray(y)[WEIGHT > 0], kept, atol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), measured, expected)


def test_a_fractional_weight_is_a_repeated_row():
  twice = np.concatenate([X, X[:1]])
  weight = np.array([1, 0.5, 0.5, 0.5, 0.5], np.float32)
  measured = batch_norm(X, weight)[1]
  expected = batch_norm(np.concatenate([twice, X[:0]]))[1]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), measured, expected)


def test_stored_statistics_are_used_and_kept():
  statistics = {'mean': RNG.normal(size=16), 'var': RNG.uniform(1, 2, 16)}
  y, kept = batch_norm(X, WEIGHT, stored=True, statistics=statistics)
  np.testing.assert_allclose(y, normalised(X, **statistics), atol=1e-5)
  jax.tree.map(np.testing.assert_allclose, kept['statistics'], statistics)


@pytest.mark.compiler
def test_pooling_first_is_pooling_afterwards_to_the_second_derivative():
  """Negative scales, absent examples and an odd height too."""
  rng = np.random.default_rng(0)
  x, weight = rng.normal(size=(3, 7, 6, 4)), np.array([1.0, 0, 1])
  first, plain = BatchNorm(pool=True), BatchNorm()
  ours = lambda p, x: jnp.sin(nn.relu(first.apply(p, x, weight))).sum()
  theirs = lambda p, x: jnp.sin(max_pool(nn.relu(plain.apply(p, x, weight)))).sum()
  slope = lambda f: jax.grad(f, (0, 1))
  judge = lambda f, *at: (f(*at), slope(f)(*at), jax.jacfwd(slope(f), (0, 1))(*at))
  with jax.enable_x64(True):
    start = jax.eval_shape(plain.init, jax.random.key(0), x)
    params = {name: jax.tree.map(lambda leaf: np.zeros(leaf.shape), start[name]) for name in start}
    params['params'] = {'scale': np.array([1.0, -0.5, 2, -1]), 'bias': rng.normal(size=4)}
    each = jax.jit(lambda *at: (judge(ours, *at), judge(theirs, *at)))(params, x)
    for a, b in zip(*map(jax.tree.leaves, each), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_moments_of_bfloat16_are_float32_and_of_float64_float64():
  y, measured = batch_norm(jnp.asarray(X, jnp.bfloat16))
  assert y.dtype == jnp.bfloat16
  assert measured['statistics']['mean'].dtype == jnp.float32
  with jax.enable_x64(True):
    y, measured = batch_norm(X.astype(np.float64))
    axes = (0, 1, 2)
    wanted = normalised(X.astype(np.float64), X.mean(axes, np.float64), X.var(axes, np.float64))
    np.testing.assert_allclose(y, wanted, atol=1e-12)


def applied(norm, x):
  return np.asarray(jax.jit(Norm(norm).init_with_output)(jax.random.key(0), x)[0])


@pytest.mark.parametrize('norm', NORMS)
def test_only_batch_norm_lets_examples_influence_one_another(norm):
  together, alone = applied(norm, X)[:1], applied(norm, X[:1])
  change = np.abs(together - alone).max()
  assert change > 0.1 if norm == 'batch' else change < 1e-6


def test_group_norm_has_one_group_per_8_channels_and_layer_norm_one():
  for norm, groups in (('group', 2), ('layer', 1)):
    parts = X.reshape(5, 3, 2, groups, -1)
    axes = (1, 2, 4)
    mean, var = parts.mean(axes, keepdims=True), parts.var(axes, keepdims=True)
    expected = ((parts - mean) / np.sqrt(var + EPSILON)).reshape(X.shape)
    np.testing.assert_allclose(applied(norm, X), expected, atol=1e-4)


@pytest.mark.parametrize('channels', [1, 4, 12, 20, 28, 30, 60])
def test_group_norm_accepts_any_number_of_channels(channels):
  variables = jax.eval_shape(Norm('group').init, jax.random.key(0), np.ones((1, 2, 2, channels)))
  assert variables['params']['GroupNorm_0']['scale'].shape == (channels,)


def test_an_unknown_norm_is_refused():
  with pytest.raises(ValueError, match="norm='instance' is unknown; use one of batch, group"):
    check_norm('instance')
