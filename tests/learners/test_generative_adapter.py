"""Updates that one pass writes, against loops over layers and examples in plain NumPy."""

import jax
import numpy as np

from metakit.learners.generative_adapter import generative_adapter
from metakit.models import identity
from metakit.objectives import squared_error
from metakit.types import Episode, Examples

RNG = np.random.default_rng(0)
X, Y, ASKED = RNG.normal(size=(6, 3)), RNG.normal(size=(6, 2)), RNG.normal(size=(4, 3))
LEARNER = generative_adapter(identity, 2, 5, rank=4, objective=squared_error)
relu = lambda x: np.maximum(x, 0)


def made():
  support = Examples(X, Y)
  return jax.jit(LEARNER.init)(jax.random.key(0), Episode(support, support))


def attended(layer, h, support):
  """W h + b, and linear attention of h to the support: its keys, its values, one by one."""
  keys, values = [], []
  for each, y in zip(support, Y, strict=True):
    hidden = relu(np.concatenate([each, y]) @ layer['hidden'] + layer['offset'])
    keys.append(each @ layer['keys'])
    values.append(hidden @ layer['values'])
  size = np.linalg.norm(sum(map(np.outer, keys, values))) / layer['scale']
  query = h @ layer['up']
  read = sum((query @ k) * v for k, v in zip(keys, values, strict=True)) / size
  return h @ layer['kernel'] + layer['bias'] + read @ layer['down']


def test_an_update_is_linear_attention_to_what_adapted_layers_make_of_the_support():
  with jax.enable_x64(True):
    params = jax.tree.map(np.asarray, made())
    params['head']['layers'][1]['scale'] = np.array(1.7)
    fitted = lambda params: LEARNER.adapt(jax.random.key(0), params, Examples(X, Y))
    found = jax.jit(lambda params: LEARNER.predict(fitted(params), ASKED))(params)
  support, asked = list(X), list(ASKED)
  for number, layer in enumerate(params['head']['layers']):
    if number:
      support, asked = list(map(relu, support)), list(map(relu, asked))
    after = [attended(layer, h, support) for h in support]
    asked = [attended(layer, h, support) for h in asked]
    support = after
  np.testing.assert_allclose(found, asked, rtol=1e-9)


def test_fitted_are_small_and_nothing_is_written_without_examples():
  params = made()
  _, (_, updates) = jax.jit(LEARNER.adapt)(jax.random.key(0), params, Examples(X[:0], Y[:0]))
  assert [update.shape for update in updates] == [(4, 4)] * 3
  assert not any(np.any(update) for update in updates)
