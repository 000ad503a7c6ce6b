"""Models from Flax modules: the same outputs, parameters alone as state, and the rest refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from metakit.models import embed_rows, from_linen, from_nnx, identity
from metakit.networks.normalisation import Norm

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
WEIGHT = np.array([1, 1, 0, 1, 0, 1], np.float32)


class WithBatchNorm(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.BatchNorm(use_running_average=False)(nn.Dense(2)(x))


class Normalised(nn.Module):
  norm: str = 'batch'
  stored: bool = False

  @nn.compact
  def __call__(self, x, weight=None):
    return Norm(self.norm, self.stored)(x, weight)


class TwoInputs(nn.Module):
  @nn.compact
  def __call__(self, x, y):
    return nn.Dense(2)(x) * y


def test_a_linen_module_gives_its_own_outputs():
  model, module = from_linen(nn.Dense(2)), nn.Dense(2)
  params = model.init(KEY, X)
  jax.tree.map(np.testing.assert_array_equal, params, module.init(KEY, X))
  np.testing.assert_array_equal(model.apply(params, X), module.apply(params, X))
  assert model.stored is None and embed_rows(model) is model.apply


def test_several_inputs_are_passed_on():
  model = from_linen(TwoInputs())
  params = model.init(KEY, X, 2.0)
  np.testing.assert_allclose(model.apply(params, X, 2.0), 2 * model.apply(params, X, 1.0))


def test_weight_reaches_a_module_that_takes_it_and_no_other():
  plain, norm = from_linen(nn.Dense(2)), from_linen(Normalised())
  params = plain.init(KEY, X)
  unchanged = plain.apply(params, X, weight=WEIGHT)
  np.testing.assert_array_equal(unchanged, plain.apply(params, X))
  params = norm.init(KEY, X)
  kept = norm.apply(params, X, weight=WEIGHT)[WEIGHT > 0]
  np.testing.assert_allclose(kept, norm.apply(params, X[WEIGHT > 0]), atol=1e-5)


def test_linen_batch_norm_is_refused_with_a_remedy():
  said = r"WithBatchNorm keeps the variables \['batch_stats'\].*'group', 'layer'"
  with pytest.raises(ValueError, match=said):
    from_linen(WithBatchNorm()).init(KEY, X)


def test_identity_is_identity():
  assert identity.init(KEY, X) == {} and identity.apply({}, X, weight=WEIGHT) is X


def stored_model():
  return from_linen(Normalised(), Normalised(stored=True))


def test_one_batch_calibrates_to_its_own_outputs():
  model = stored_model()
  params = model.stored.calibrate(model.init(KEY, X), X[None])
  np.testing.assert_allclose(embed_rows(model)(params, X), model.apply(params, X), atol=1e-5)


@pytest.mark.parametrize('weight', [None, WEIGHT])
def test_several_batches_calibrate_to_their_pooled_moments(weight):
  model = stored_model()
  batches = np.stack([X, 3 * X + 1, 2 - X])
  weights = None if weight is None else np.stack([weight] * 3)
  params = model.stored.calibrate(model.init(KEY, X), batches, weights)
  rows = batches[:, slice(None) if weight is None else weight > 0].reshape(-1, 3)
  np.testing.assert_allclose(
    params['statistics']['Norm_0']['BatchNorm_0']['mean'], rows.mean(0), 1e-5
  )
  np.testing.assert_allclose(
    params['statistics']['Norm_0']['BatchNorm_0']['var'], rows.var(0), 1e-5
  )


def test_pooled_variances_survive_a_mean_that_dwarfs_them():
  model = stored_model()
  batches = (1000 + 0.01 * np.random.default_rng(0).normal(size=(32, 50, 3))).astype(np.float32)
  statistics = model.stored.calibrate(model.init(KEY, X), batches)['statistics']
  var = jax.tree.leaves(statistics)[-1]
  np.testing.assert_allclose(var, batches.astype(np.float64).var((0, 1)), rtol=0.05)


def test_calibration_leaves_learned_parameters_alone():
  model = stored_model()
  before = model.init(KEY, X)
  after = model.stored.calibrate(before, X[None])
  jax.tree.map(np.testing.assert_array_equal, before['params'], after['params'])


def perceptron(rngs):
  return nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), jnp.tanh, nnx.Linear(4, 2, rngs=rngs))


def test_an_nnx_module_gives_its_own_outputs():
  model, module = from_nnx(perceptron), perceptron(nnx.Rngs(KEY))
  params = model.init(KEY, X)
  np.testing.assert_allclose(model.apply(params, X), module(X), atol=1e-6)
  np.testing.assert_allclose(model.apply(params, X, weight=WEIGHT), module(X), atol=1e-6)


def test_an_nnx_model_goes_through_jit_grad_and_vmap():
  model = from_nnx(perceptron)
  loss = lambda params, x: jnp.square(model.apply(params, x)).sum()
  params = jax.jit(model.init)(KEY, X)
  grads = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(params, X[:, None])
  assert jax.tree.structure(grads) == jax.tree.structure(params)
  step = 1e-3
  moved = jax.tree.map(lambda p, g: p + step * g.sum(0), params, grads)
  slope = (loss(moved, X) - loss(params, X)) / step
  norm = sum(jnp.square(g.sum(0)).sum() for g in jax.tree.leaves(grads))
  np.testing.assert_allclose(slope, norm, rtol=0.05)


def test_different_keys_give_different_nnx_parameters():
  model = from_nnx(perceptron)
  one, same, other = (jax.tree.leaves(model.init(jax.random.key(s)))[1] for s in (0, 0, 1))
  assert (one == same).all() and not (one == other).all()


@pytest.mark.parametrize(
  ('make', 'said'),
  [
    (lambda rngs: nnx.BatchNorm(3, rngs=rngs), r': mean \(BatchStat\), var \(BatchStat\); use'),
    (lambda rngs: nnx.Dropout(0.5, rngs=rngs), r'rngs\.key \(RngKey\); use layers without state'),
    (
      lambda rngs: nnx.Sequential(nnx.Linear(3, 2, rngs=rngs), nnx.BatchNorm(2, rngs=rngs)),
      r'layers\.1\.mean \(BatchStat\)',
    ),
  ],
)
def test_nnx_state_beside_parameters_is_refused_by_name(make, said):
  with pytest.raises(ValueError, match='state that is not.*' + said) as caught:
    from_nnx(make)
  assert '\n' not in str(caught.value)
