"""Attention against NumPy, the mask through gradients, and the cache against one long sequence."""

import jax
import jax.numpy as jnp
import numpy as np

from metakit.networks.transformer import attention, transformer

RNG = np.random.default_rng(0)
MODEL = transformer(2, width=8, depth=2, heads=2)
TOKENS = RNG.normal(size=(6, 3)).astype(np.float32)
CAUSAL = np.tril(np.ones((6, 6), bool))


SHAPES = jax.eval_shape(MODEL.init, jax.random.key(0), TOKENS, CAUSAL)
PARAMS = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape).astype(leaf.dtype), SHAPES)


def test_attention_is_the_softmax_average():
  query, key, value = (RNG.normal(size=(n, 2, 4)) for n in (3, 5, 5))
  mask = np.array([[1, 1, 0, 1, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
  with jax.enable_x64(True):
    ours = np.asarray(attention(*(jnp.asarray(a) for a in (query, key, value)), mask))
  for head in range(2):
    for i in range(3):
      weights = np.exp(key[mask[i], head] @ query[i, head] / np.sqrt(4))
      expected = weights @ value[mask[i], head] / weights.sum()
      np.testing.assert_allclose(ours[i, head], expected, rtol=1e-12)


def test_attention_to_nothing_is_finite():
  one = jnp.ones((2, 1, 4))
  grads = jax.grad(lambda q: attention(q, one, one, np.zeros((2, 2), bool)).sum())(one)
  assert np.isfinite(np.asarray(grads)).all()


def test_a_token_depends_on_those_its_mask_shows_and_on_no_other():
  outputs = lambda tokens: MODEL.apply(PARAMS, tokens, CAUSAL)[0].sum(-1)
  depends = np.abs(jax.jit(jax.jacobian(outputs))(TOKENS)).max(-1) > 0  # [outputs, tokens]
  np.testing.assert_array_equal(depends, CAUSAL)


def test_the_cache_continues_a_sequence():
  """Two calls, the second on the keys and values of the first, equal one call on all tokens."""

  @jax.jit
  def both(params, tokens):
    whole, _ = MODEL.apply(params, tokens, CAUSAL)
    first, cache = MODEL.apply(params, tokens[:4], CAUSAL[:4, :4])
    second, _ = MODEL.apply(params, tokens[4:], CAUSAL[4:], cache)
    return jnp.concatenate([first, second]), whole

  with jax.enable_x64(True):
    ours, whole = both(*jax.tree.map(lambda a: a.astype(np.float64), (PARAMS, TOKENS)))
  np.testing.assert_allclose(ours, whole, rtol=0, atol=1e-12)


def test_no_positional_encoding():
  """With a full mask, permuted tokens give permuted outputs."""
  full, order = np.ones((6, 6), bool), RNG.permutation(6)
  apply = jax.jit(lambda tokens: MODEL.apply(PARAMS, tokens, full)[0])
  np.testing.assert_allclose(apply(TOKENS[order]), np.asarray(apply(TOKENS))[order], atol=1e-5)
