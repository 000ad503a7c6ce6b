"""The in-context learner: its cache is the forward pass over all tokens, and queries are alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.learners.in_context import in_context, query_tokens, support_tokens
from metakit.networks.transformer import transformer
from metakit.types import Episode, Examples
from tests.learners.test_laws import compiled_fast

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
WAYS, SUPPORT, QUERIES = 3, 6, 4
MODEL = transformer(WAYS, width=8, depth=2, heads=2)
LEARNER = in_context(MODEL, WAYS)
X = RNG.normal(size=(SUPPORT, 4)).astype(np.float32)
Y = np.tile(np.arange(WAYS, dtype=np.int32), 2)
ASKED = RNG.normal(size=(QUERIES, 4)).astype(np.float32)
WEIGHT = np.array([1, 1, 0, 1, 0, 1], np.float32)


@functools.cache
def random_params():
  episode = Episode(Examples(X, Y), Examples(ASKED, None))
  shapes = jax.eval_shape(LEARNER.init, KEY, episode)
  return jax.tree.map(lambda s: 0.7 * RNG.normal(size=s.shape).astype(s.dtype), shapes)


def predict(params, x, asked, weight=None):
  return LEARNER.predict(LEARNER.adapt(KEY, params, Examples(x, Y, weight)), asked)


def full_mask(present):
  """[tokens, tokens] bool: every token sees the support that is there, and a query itself."""
  mask = np.zeros((SUPPORT + QUERIES,) * 2, bool)
  mask[:, :SUPPORT] = present
  mask[SUPPORT:, SUPPORT:] = np.eye(QUERIES)
  return mask


@pytest.mark.parametrize(
  ('dtype', 'weight', 'tolerance'),
  [(np.float32, WEIGHT, 1e-5), (np.float64, None, 1e-12), (np.float64, WEIGHT, 1e-12)],
)
def test_the_cache_is_the_forward_pass_over_all_tokens(dtype, weight, tolerance):
  mask = full_mask(np.ones(SUPPORT, bool) if weight is None else weight > 0)

  @compiled_fast
  def both(params, x, asked):
    tokens = jnp.concatenate([support_tokens(Examples(x, Y), WAYS), query_tokens(asked, WAYS)])
    return predict(params, x, asked, weight), MODEL.apply(params, tokens, mask)[0][SUPPORT:]

  with jax.enable_x64(dtype == np.float64):
    cast = functools.partial(jax.tree.map, lambda a: jnp.asarray(a, dtype))
    cached, whole = both(*cast((random_params(), X, ASKED)))
    assert cached.dtype == dtype
  np.testing.assert_allclose(cached, whole, rtol=0, atol=tolerance * np.abs(whole).max())


def test_a_query_sees_itself_and_the_support_that_is_there():
  outputs = lambda x, asked: predict(random_params(), x, asked, WEIGHT).sum(-1)
  jacobians = compiled_fast(jax.jacobian(outputs, (0, 1)))(X, ASKED)
  support, queries = (np.abs(j).max(-1) > 0 for j in jacobians)
  np.testing.assert_array_equal(support, np.broadcast_to(WEIGHT > 0, (QUERIES, SUPPORT)))
  np.testing.assert_array_equal(queries, np.eye(QUERIES, dtype=bool))


def test_fitted_holds_keys_and_values_of_each_layer():
  """[support, heads, width / heads]."""
  _, cache, present = jax.eval_shape(LEARNER.adapt, KEY, random_params(), Examples(X, Y))
  assert [[part.shape for part in layer] for layer in cache] == [[(SUPPORT, 2, 4)] * 2] * 2
  assert present.shape == (SUPPORT,)


def test_tokens_hold_x_then_y_then_the_question():
  tokens = support_tokens(Examples(X, Y), WAYS)
  np.testing.assert_array_equal(tokens[:, :4], X)
  np.testing.assert_array_equal(tokens[:, 4:], np.eye(4)[Y] * [1, 1, 1, 0])
  np.testing.assert_array_equal(query_tokens(ASKED, WAYS)[:, 4:], np.tile([0, 0, 0, 1], (4, 1)))


def test_integer_inputs_do_not_round_the_targets():
  targets = np.array([[0.5], [1.5]], np.float32)
  tokens = support_tokens(Examples(np.array([[1], [2]], np.int32), targets), 1)
  np.testing.assert_array_equal(tokens, [[1, 0.5, 0], [2, 1.5, 0]])
