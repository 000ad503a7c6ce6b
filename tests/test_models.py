"""Models from Flax modules: the same outputs, parameters alone as state, and the rest refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from metakit.models import embed_rows, from_linen, from_nnx, identity, roles_of
from metakit.networks.normalisation import Norm

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
WEIGHT = np.array([1, 1, 0, 1, 0, 1], np.float32)


def compiled(model):
  """The same model, its functions compiled."""
  apply, stored = jax.jit(model.apply), model.stored
  if stored is not None:
    stored = stored._replace(apply=jax.jit(stored.apply), calibrate=jax.jit(stored.calibrate))
  return model._replace(init=jax.jit(model.init), apply=apply, stored=stored)


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
  params, expected = jax.jit(lambda: (model.init(KEY, X), module.init(KEY, X)))()
  jax.tree.map(np.testing.assert_array_equal, params, expected)
  np.testing.assert_array_equal(*jax.jit(lambda p: (model.apply(p, X), module.apply(p, X)))(params))
  assert model.stored is None and embed_rows(model) is model.apply


@pytest.mark.slow
def test_several_inputs_are_passed_on():
  model = compiled(from_linen(TwoInputs()))
  params = model.init(KEY, X, 2.0)
  np.testing.assert_allclose(model.apply(params, X, 2.0), 2 * model.apply(params, X, 1.0))


def test_weight_reaches_a_module_that_takes_it_and_no_other():
  plain, norm = compiled(from_linen(nn.Dense(2))), compiled(from_linen(Normalised()))
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
  """Of numbers: bytes are cast, as their differences would wrap."""
  assert identity.init(KEY, X) == {}
  np.testing.assert_array_equal(identity.apply({}, X, weight=WEIGHT), X)
  small, large = identity.apply({}, np.array([[3], [200]], np.uint8))
  assert float((small - large)[0]) == pytest.approx(-197 / 255)


STORED = compiled(from_linen(Normalised(), Normalised(stored=True)))


def test_one_batch_calibrates_to_its_own_outputs():
  model = STORED
  params = model.stored.calibrate(model.init(KEY, X), X[None])
  embedded = jax.jit(embed_rows(model))(params, X)
  np.testing.assert_allclose(embedded, model.apply(params, X), atol=1e-5)


@pytest.mark.parametrize('weight', [None, pytest.param(WEIGHT, marks=pytest.mark.slow)])
def test_several_batches_calibrate_to_their_pooled_moments(weight):
  model = STORED
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
  model = STORED
  batches = (1000 + 0.01 * np.random.default_rng(0).normal(size=(32, 50, 3))).astype(np.float32)
  statistics = model.stored.calibrate(model.init(KEY, X), batches)['statistics']
  var = jax.tree.leaves(statistics)[-1]
  np.testing.assert_allclose(var, batches.astype(np.float64).var((0, 1)), rtol=0.05)


@pytest.mark.slow  # tests/test_evaluate.py asks it of a learner
def test_calibration_leaves_learned_parameters_alone():
  model = STORED
  before = model.init(KEY, X)
  after = model.stored.calibrate(before, X[None])
  jax.tree.map(np.testing.assert_array_equal, before['params'], after['params'])


def perceptron(rngs):
  return nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), jnp.tanh, nnx.Linear(4, 2, rngs=rngs))


def test_an_nnx_module_gives_its_own_outputs():
  model = compiled(from_nnx(perceptron))
  params, expected = model.init(KEY, X), jax.jit(lambda: perceptron(nnx.Rngs(KEY))(X))()
  np.testing.assert_allclose(model.apply(params, X), expected, atol=1e-6)
  np.testing.assert_allclose(model.apply(params, X, weight=WEIGHT), expected, atol=1e-6)


@pytest.mark.slow  # statistics of one are measured within a gradient below
def test_an_nnx_model_goes_through_jit_grad_and_vmap():
  model = from_nnx(perceptron)
  loss = jax.jit(lambda params, x: jnp.square(model.apply(params, x)).sum())
  params = jax.jit(model.init)(KEY, X)
  grads = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(params, X[:, None])
  assert jax.tree.structure(grads) == jax.tree.structure(params)
  step = 1e-3
  params, sums = jax.device_get(params), jax.tree.map(lambda g: np.asarray(g).sum(0), grads)
  moved = jax.tree.map(lambda p, g: p + np.float32(step) * g, params, sums)
  slope = (loss(moved, X) - loss(params, X)) / step
  norm = sum(np.square(g).sum() for g in jax.tree.leaves(sums))
  np.testing.assert_allclose(slope, norm, rtol=0.05)


@pytest.mark.slow
def test_different_keys_give_different_nnx_parameters():
  init = jax.jit(lambda key: from_nnx(perceptron).init(key))
  keys = jax.random.key(0), jax.random.key(0), jax.random.key(1)
  one, same, other = (np.asarray(jax.tree.leaves(init(key))[1]) for key in keys)
  assert (one == same).all() and not (one == other).all()


class Frozen(nn.Module):
  train_statistics: bool = False

  @nn.compact
  def __call__(self, x, train=False):
    x = nn.BatchNorm(use_running_average=not self.train_statistics)(nn.Dense(2)(x))
    return nn.Dropout(0.5, deterministic=not train)(x)


def test_frozen_statistics_of_linen_are_used_and_have_no_gradient():
  model = compiled(from_linen(Frozen()))
  params = model.init(KEY, X)
  found = {'mean': np.array([1, -2], np.float32), 'var': np.array([4, 9], np.float32)}
  params = {**params, 'batch_stats': {'BatchNorm_0': found}}
  np.testing.assert_allclose(model.apply(params, X), jax.jit(Frozen().apply)(params, X), 1e-6)
  slope = jax.jit(jax.grad(lambda p: jnp.square(model.apply(p, X)).sum()))(params)
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(slope['batch_stats']))
  assert roles_of(model, params, X)['batch_stats']['BatchNorm_0'] == dict.fromkeys(
    ('mean', 'var'), 'constant'
  )
  with pytest.raises(ValueError, match=r"\['batch_stats'\].*use_running_average=True"):
    from_linen(Frozen(True)).init(KEY, X)


def test_dropout_of_linen_is_off_without_a_key_and_told_by_an_argument():
  model = compiled(from_linen(Frozen()))
  params = model.init(KEY, X)
  plain = np.asarray(model.apply(params, X))
  own = lambda params: Frozen().apply(params, X, train=True, rngs=KEY)
  both = jax.jit(lambda params: (model.apply(params, X, key=KEY), own(params)))
  dropped, expected = map(np.asarray, both(params))
  np.testing.assert_array_equal(dropped, expected)
  assert (dropped == 0).any() and not (plain == 0).any()


class Noisy(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.Dense(2)(x) + jax.random.normal(self.make_rng('noise'))


def test_draws_that_nothing_turns_off_are_refused():
  model = compiled(from_linen(Noisy()))
  params = model.init(KEY, X)
  model.apply(params, X, key=KEY)
  with pytest.raises(ValueError, match=r'Noisy draws random numbers where it is asked.*train'):
    model.apply(params, X)


class OfNnx(nnx.Module):
  """All that may be in an NNX module beside parameters."""

  def __init__(self, rngs, frozen=False, counts=False, drawn=False):
    self.linear = nnx.Linear(3, 2, rngs=rngs)
    self.bn = nnx.BatchNorm(2, use_running_average=frozen, rngs=rngs)
    self.dropout = nnx.Dropout(0.5, rngs=rngs)
    self.plain, self.numbers = jnp.array([1.0, 2.0]), np.arange(2)
    self.buffer = nnx.Variable(rngs.normal((2,)) if drawn else jnp.full(2, 3.0))
    self.count = nnx.Variable(jnp.array(0)) if counts else None

  def __call__(self, x):
    if self.count is not None:
      self.count[...] += 1
    return self.dropout(self.bn(self.linear(x))) * self.plain + self.numbers + self.buffer[...]


def test_batch_norm_of_nnx_is_measured_and_stored():
  model = compiled(from_nnx(OfNnx))
  params = model.init(KEY, X)
  w = np.asarray(params['linear']['kernel'][...])
  expected = lambda x, rows: (x @ w - (rows @ w).mean(0)) / np.sqrt((rows @ w).var(0) + 1e-5)
  fixed = lambda y: y * np.array([1, 2]) + np.arange(2) + 3
  loss = lambda p: jnp.square(model.apply(p, X)).sum()
  jax.jit(jax.grad(loss))(params)  # statistics change within a transformation
  np.testing.assert_allclose(model.apply(params, X), fixed(expected(X, X)), atol=1e-4)
  batches = np.stack([X, 3 * X + 1, 2 - X])
  found = model.stored.calibrate(params, batches)
  rows = batches.reshape(-1, 3)
  np.testing.assert_allclose(model.stored.apply(found, X), fixed(expected(X, rows)), atol=1e-4)
  roles = jax.tree.leaves(roles_of(model, params, X))  # of bn: bias, mean, scale, var; of linear
  assert roles == ['norm', 'constant', 'norm', 'constant', 'weight', 'weight']
  with pytest.raises(ValueError, match=r'nnx\.BatchNorm counts examples of weight 0'):
    model.apply(params, X, weight=WEIGHT)


def test_dropout_of_nnx_has_a_key_for_each_call():
  model = compiled(from_nnx(lambda rngs: OfNnx(rngs, frozen=True)))
  params = model.init(KEY, X)
  assert model.stochastic and model.stored is None
  one, again, other = (model.apply(params, X, key=jax.random.key(s)) for s in (0, 0, 1))
  np.testing.assert_array_equal(one, again)
  assert not np.array_equal(one, other)
  np.testing.assert_array_equal(model.apply(params, X), model.apply(params, X))
  assert not from_nnx(perceptron).stochastic


@pytest.mark.parametrize(
  ('options', 'said'),
  [
    ({'counts': True}, 'changes count in a call'),
    ({'drawn': True}, 'from its key: buffer'),
  ],
)
def test_nnx_state_that_no_parameters_hold_is_refused_by_name(options, said):
  with pytest.raises(ValueError, match=said) as caught:
    model = from_nnx(lambda rngs: OfNnx(rngs, **options))
    model.apply(model.init(KEY, X), X)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('make', ['linen', pytest.param('nnx', marks=pytest.mark.slow)])
def test_inputs_are_answered_at_the_door(make):
  model = {'linen': lambda: from_linen(nn.Dense(2)), 'nnx': lambda: from_nnx(perceptron)}[make]()
  params = model.init(KEY, X)
  expected = model.apply(params, X)
  for x in (X.astype('>f4'), X.astype(np.float64), X.astype('>f8')):
    outputs = model.apply(params, x)
    assert outputs.dtype == jnp.float32
    np.testing.assert_allclose(outputs, expected, 1e-5)
  for x, said in (
    (X.tolist(), 'a list of 6; give one array'),
    (X.astype(str), 'no number'),
    (X[:, :2], r'inputs of shape \(6, 2\)'),
  ):
    with pytest.raises(ValueError, match=said) as caught:
      model.apply(params, x)
    assert '\n' not in str(caught.value)
