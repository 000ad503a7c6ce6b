"""Predictions from the cache are those of one pass, in the arithmetic that users have."""

import jax
import numpy as np
import pytest

from metakit.learners.in_context import in_context
from metakit.networks.recurrent import recurrent
from metakit.networks.transformer import transformer
from metakit.types import Episode, Examples

KEY, WAYS, EXAMPLES = jax.random.key(0), 5, 24
RNG = np.random.default_rng(0)
X = RNG.normal(size=(EXAMPLES, 16)).astype(np.float32)
Y = RNG.integers(0, WAYS, EXAMPLES).astype(np.int32)
SIZES = {'width': 32, 'depth': 2}
MODELS = {
  'softmax': transformer(WAYS, **SIZES),
  'fused': transformer(WAYS, **SIZES, attention='fused'),
  'momentum': transformer(WAYS, **SIZES, attention='momentum'),
  'linear': transformer(WAYS, **SIZES, attention='linear'),
  'scanned': transformer(WAYS, **SIZES, scan=True, remat=True),
  'lstm': recurrent(WAYS, **SIZES),
  'gru': recurrent(WAYS, **SIZES, cell='gru'),
}


QUICK = ('softmax', 'pairs')
# .ci/run asks these and the quick one with programs as users have them.
OPTIMISED = (('linear', 'interleaved'), ('gru', 'shifted'), ('momentum', 'shifted'))
# Every model and every layout once more; test_in_context.py has all pairs, in float64.
SLOW = (
  ('lstm', 'pairs'),
  ('fused', 'shifted'),
  ('scanned', 'interleaved'),
  ('softmax', 'interleaved'),
)


@pytest.mark.parametrize(
  ('model', 'layout'),
  [
    pytest.param(*QUICK, marks=pytest.mark.compiler),
    *(pytest.param(*pair, marks=[pytest.mark.compiler, pytest.mark.slow]) for pair in OPTIMISED),
    *(pytest.param(*pair, marks=pytest.mark.slow) for pair in SLOW),
  ],
)
def test_cached_predictions_are_those_of_one_pass(model, layout):
  learner = in_context(MODELS[model], WAYS, layout)
  part = lambda a, b: Examples(X[a:b], Y[a:b])

  def both(key):
    params = learner.init(key, Episode(part(0, EXAMPLES), part(0, 1)))
    whole = learner.prefixes(key, params, part(0, EXAMPLES))
    first = learner.adapt(key, params, part(0, 10))
    later = learner.extend(first, part(10, 23))
    asked = [learner.predict(first, X[10:11])[0], learner.predict(later, X[23:])[0]]
    return whole[np.array([10, 23])], asked

  whole, asked = jax.jit(both)(KEY)
  assert np.abs(whole).max() > 0.01
  np.testing.assert_allclose(asked, whole, rtol=0, atol=1e-5)
