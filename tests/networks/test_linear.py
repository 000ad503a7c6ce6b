"""Pairs of linear primitives: derivatives and vmap of functions whose transpose we write."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.networks.linear import transposes


def _pick(x, which, *, by):
  return by * jnp.take_along_axis(x, which, -1)


def _place(y, which, *, by):
  nothing = jnp.zeros((*y.shape[:-1], 5), y.dtype)
  return by * jnp.put_along_axis(nothing, which, y, -1, inplace=False)


pick, place = transposes('test_pick', _pick, _place)
X, WHICH = np.random.default_rng(0).normal(size=(3, 5)), np.array([[4, 0], [1, 2], [3, 1]])


def curved(x, which, function=pick):
  return jnp.sin(function(x, which, by=2.0)).sum()


@pytest.fixture(autouse=True)
def in_float64():
  with jax.enable_x64(True):
    yield


def assert_same(ours, theirs):
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12, strict=True)


def test_value_gradient_hessian_and_forward_derivative_are_those_of_plain_jax():
  derivatives = (lambda f: f), jax.grad, jax.hessian, jax.jacfwd, jax.jacrev
  plain = lambda x, which: curved(x, which, _pick)
  all_of = lambda f: [derive(f)(X, WHICH) for derive in derivatives]
  assert_same(*jax.jit(lambda: (all_of(curved), all_of(plain)))())


def test_each_is_the_transpose_of_the_other():
  y = np.random.default_rng(1).normal(size=(3, 2))
  there, back = (lambda x: pick(x, WHICH, by=2.0)), (lambda y: place(y, WHICH, by=2.0))
  forward, backward = jax.device_get(jax.jit(lambda: (there(X), back(y)))())
  np.testing.assert_allclose((forward * y).sum(), (X * backward).sum(), rtol=1e-12)
  transposed = lambda: (jax.linear_transpose(back, y)(X), jax.linear_transpose(there, X)(y))
  assert_same(jax.jit(transposed)(), ((forward,), (backward,)))


@pytest.mark.parametrize('axes', [(0, 0), (1, None), (None, 1), (1, 0)])
def test_vmap_over_either_or_both(axes):
  stack = lambda a, axis: a if axis is None else np.stack([a, a[::-1]], axis)
  given = [stack(a, axis) for a, axis in zip((X, WHICH), axes, strict=True)]
  slopes = lambda f: jax.vmap(jax.grad(lambda x, which: curved(x, which, f)), axes)(*given)
  assert_same(*jax.jit(lambda: (slopes(pick), slopes(_pick)))())


def test_each_platform_lowers_its_own_form():
  doubled = lambda f: lambda *given, **static: 1.0 * f(*given, **static)
  ours, _ = transposes('test_forms', _pick, _place, tpu=(doubled(_pick), doubled(_place)))
  traced = jax.jit(lambda x: ours(x, WHICH, by=2.0)).trace(X)
  multiplies = {
    platform: traced.lower(lowering_platforms=(platform,)).as_text().count('stablehlo.multiply')
    for platform in ('cpu', 'cuda', 'tpu')
  }
  assert multiplies['tpu'] == multiplies['cpu'] + 1 == multiplies['cuda'] + 1
