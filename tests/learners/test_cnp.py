"""Conditional neural processes: the mean by brute force, and a stream of examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.learners.cnp import cnp
from metakit.types import Episode, Examples

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(5, 2)).astype(np.float32), RNG.normal(size=(5, 1)).astype(np.float32)
LEARNER = cnp(1, 8, 1, decoder_depth=1)


@pytest.fixture(scope='module')
def params():
  return jax.jit(LEARNER.init)(KEY, Episode(Examples(X, Y), Examples(X, Y)))


@jax.jit
def answers(params, support, more, x):
  fitted = LEARNER.adapt(KEY, params, support)
  return fitted, LEARNER.predict(fitted, x), LEARNER.predict(LEARNER.extend(fitted, more), x)


def test_the_mean_is_that_of_each_encoded_example(params):
  """r = (r_1 + ... + r_n) / n, the layers written out in NumPy; weight 0.5 counts half."""
  weight = np.array([1, 0, 0.5, 1, 0], np.float32)
  (_, total, number), outputs, _ = answers(params, Examples(X, Y, weight), Examples(X, Y), X)
  encoder, decoder = (params[part]['params'] for part in ('encoder', 'decoder'))
  layer = lambda part, name, x: x @ part[name]['kernel'] + part[name]['bias']
  perceptron = lambda part, x: layer(part, 'Dense_1', np.maximum(layer(part, 'Dense_0', x), 0))
  each = [perceptron(encoder, np.append(x, y)) for x, y in zip(X, Y, strict=True)]
  mean = np.average(each, axis=0, weights=weight)
  np.testing.assert_allclose(total / number, mean, atol=1e-5)
  expected = [perceptron(decoder, np.append(x, mean)) for x in X]
  np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_a_stream_of_examples_equals_all_at_once(params):
  first, rest = Examples(X[:2], Y[:2]), Examples(X[2:], Y[2:])
  *_, streamed = answers(params, first, rest, X)
  _, whole, _ = answers(params, Examples(X, Y), rest, X)
  np.testing.assert_allclose(streamed, whole, atol=1e-5)


def test_no_context_is_a_prediction_too(params):
  nothing = Examples(X, np.full_like(Y, np.nan), np.zeros(5, np.float32))
  (_, total, number), outputs, _ = answers(params, nothing, Examples(X, Y), X)
  assert not total.any() and number == 0 and jnp.isfinite(outputs).all()


def test_sizes_are_refused_by_name():
  with pytest.raises(ValueError, match='width=0'):
    cnp(1, width=0)
