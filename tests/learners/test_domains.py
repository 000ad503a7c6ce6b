"""Learners of domains: they adapt to examples without labels, and no label changes them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metakit.learners.arm_bn import arm_bn
from metakit.learners.arm_ll import arm_ll
from metakit.learners.dann import dann
from metakit.learners.descent import Descent
from metakit.learners.erm import erm
from metakit.learners.meta_dmoe import meta_dmoe
from metakit.learners.stda_meta import stda_meta
from metakit.learners.tent import tent
from metakit.networks.mlp import mlp
from metakit.objectives import squared_error
from metakit.types import Episode, Examples
from tests.learners.rows import KEY, WAYS, small

RATE = 0.5
DESCENT = Descent(optax.sgd(RATE))
LEARNERS = {
  'erm': lambda: erm(small('batch')),
  'arm_bn': lambda: arm_bn(small('batch')),
  'arm_ll': lambda: arm_ll(small('group'), DESCENT, width=5),
  'tent': lambda: tent(small('batch'), DESCENT),
  'meta_dmoe': lambda: meta_dmoe(small('batch', None), WAYS, DESCENT, experts=3),
  'dann': lambda: dann(small('batch', None), WAYS, domains=3),
}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4)).astype(np.float32)
QUERY = Examples(X[8:], np.arange(4, dtype=np.int32) % WAYS)
INFO = {'domain': np.array([False, True, False])}


def episode(labels):
  support = Examples(X[:8], np.asarray(labels, np.int32), np.ones(8, np.float32))
  return Episode(support, QUERY, INFO)


HIDDEN = episode([-1] * 8)


def drawn(learner):
  """Random parameters; the first biases would be 0."""
  rng = np.random.default_rng(0)

  def random(path, leaf):
    value = 0.7 * rng.normal(size=leaf.shape).astype(np.float32)
    return 0.5 + value**2 if 'var' in str(path[-1]) else value

  shapes = jax.eval_shape(learner.init, KEY, HIDDEN)
  return jax.tree_util.tree_map_with_path(random, shapes)


@functools.cache
def made(name):
  """(parameters, episode -> what training and a test compute, by one program for all tests)."""
  learner = LEARNERS[name]()
  params = drawn(learner)

  def run(episode):
    fitted = learner.adapt(KEY, params, episode.support)
    return learner.loss(KEY, params, episode), learner.predict(fitted, episode.query.x), fitted

  return params, jax.jit(run)


@pytest.mark.parametrize('name', LEARNERS)
def test_labels_of_the_support_have_no_effect(name):
  """Not one bit of what training minimises, and of what a test predicts."""
  _, run = made(name)
  hidden = run(HIDDEN)
  for labels in (np.arange(8) % WAYS, [0, -1, 2, 2, -1, 1, 0, 0]):
    jax.tree.map(np.testing.assert_array_equal, hidden, run(episode(labels)))


def answered(weights, x, mean, var):
  """The small network in NumPy: a dense layer, its normalisation, ReLU and the outputs."""
  hidden = x @ weights['Dense_0']['kernel'] + weights['Dense_0']['bias']
  norm = weights['Norm_0']['BatchNorm_0']
  z = (hidden - mean) / np.sqrt(var + 1e-5) * norm['scale'] + norm['bias']
  return np.maximum(z, 0) @ weights['Dense_1']['kernel'] + weights['Dense_1']['bias']


def normalised_by(weights, examples, x):
  """The small network, normalised by other examples."""
  hidden = examples @ weights['Dense_0']['kernel'] + weights['Dense_0']['bias']
  return answered(weights, x, hidden.mean(0), hidden.var(0))


def error_of(outputs):
  log_p = outputs - np.log(np.exp(outputs).sum(1, keepdims=True))
  return -log_p[np.arange(4), QUERY.y].mean()


def test_arm_bn_normalises_queries_by_the_support():
  """In training as in a test."""
  params, run = made('arm_bn')
  (loss, _), outputs, _ = run(HIDDEN)
  expected = normalised_by(params['params'], X[:8], QUERY.x)
  np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(loss, error_of(expected), rtol=1e-4)


def test_erm_normalises_by_the_queries_of_training_and_by_its_statistics_in_a_test():
  params, run = made('erm')
  (loss, _), outputs, _ = run(HIDDEN)
  weights, of = params['params'], params['statistics']['Norm_0']['BatchNorm_0']
  np.testing.assert_allclose(loss, error_of(normalised_by(weights, X[8:], X[8:])), rtol=1e-4)
  expected = answered(weights, X[8:], of['mean'], of['var'])
  np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_the_statistics_of_erm_are_those_of_queries_of_training_episodes():
  params, _ = made('erm')
  training = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), HIDDEN)
  calibrated = jax.jit(LEARNERS['erm']().calibrate)(params, training)
  layer = params['params']['Dense_0']
  mean = (X[8:] @ layer['kernel'] + layer['bias']).mean(0)
  of = calibrated['statistics']['Norm_0']['BatchNorm_0']
  np.testing.assert_allclose(of['mean'], mean, rtol=1e-4, atol=1e-6)


def test_arm_ll_steps_along_the_gradient_of_the_norm_of_learned_numbers():
  """theta' = theta - alpha grad ||h(g(x; theta); phi)||_2, h three hidden layers and a number."""
  params, run = made('arm_ll')
  network = small('group')

  def inner(theta):
    z = network.apply(theta, X[:8])
    for layer in range(3):
      weights = params['loss']['params'][f'Dense_{layer}']
      z = jnp.maximum(z @ weights['kernel'] + weights['bias'], 0)
    last = params['loss']['params']['Dense_3']
    return jnp.linalg.norm(z @ last['kernel'] + last['bias'])

  theta = params['network']
  stepped = jax.tree.map(lambda leaf, by: leaf - RATE * by, theta, jax.jit(jax.grad(inner))(theta))
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
  jax.tree.map(close, run(HIDDEN)[2], stepped)


def test_tent_lowers_the_entropy_by_scales_and_biases_alone():
  """By a step along its gradient, which is the finite difference of the entropy in NumPy."""
  params, run = made('tent')
  before, after = params['params'], jax.device_get(run(HIDDEN)[2])['params']
  for layer in ('Dense_0', 'Dense_1'):
    jax.tree.map(np.testing.assert_array_equal, before[layer], after[layer])
  weights = jax.tree.map(lambda leaf: leaf.astype(np.float64), before)

  def entropy(norm):
    logits = normalised_by({**weights, 'Norm_0': norm}, X[:8], X[:8])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return -(p * np.log(p)).sum(1).mean()

  flat, of = jax.tree.flatten(weights['Norm_0'])
  for number, new in enumerate(jax.tree.leaves(after['Norm_0'])):
    for place in range(len(new)):
      ahead, behind = ([leaf.copy() for leaf in flat] for _ in range(2))
      ahead[number][place] += 1e-5
      behind[number][place] -= 1e-5
      apart = entropy(jax.tree.unflatten(of, ahead)) - entropy(jax.tree.unflatten(of, behind))
      assert new[place] == pytest.approx(flat[number][place] - RATE * apart / 2e-5, abs=1e-4)
  assert entropy(after['Norm_0']) < entropy(weights['Norm_0'])


def test_a_network_without_batch_statistics_is_refused():
  with pytest.raises(ValueError, match='norm=batch'):
    arm_bn(mlp(WAYS))
  with pytest.raises(ValueError, match='norm=batch'):
    erm(mlp(WAYS), statistics='episode')


def test_what_would_have_no_effect_is_refused():
  with pytest.raises(ValueError, match='batch=2'):
    arm_ll(small('group'), DESCENT._replace(batch=2))
  with pytest.raises(ValueError, match='regression'):
    tent(small('group'), DESCENT, objective=squared_error)
  learner = tent(mlp(WAYS), DESCENT)
  params = drawn(learner)
  with pytest.raises(ValueError, match='normalisation layers, and this network has none'):
    jax.eval_shape(learner.adapt, KEY, params, HIDDEN.support)


ADVERSE = {
  'dann': lambda weight: dann(small('group', None), WAYS, domains=3, weight=weight),
  'stda_meta': lambda weight: stda_meta(
    small('group', None), WAYS, DESCENT, domains=3, weight=weight
  ),
}


@pytest.mark.parametrize('name', ['dann', pytest.param('stda_meta', marks=pytest.mark.slow)])
def test_features_learn_against_the_classifier_of_domains(name):
  """The loss is L + D. Its gradient is that of L - weight D, but for the classifier, of L + D."""
  task, params = episode(np.arange(8) % WAYS), drawn(ADVERSE[name](0.0))

  def domains(params):
    """D: the cross-entropy of a perceptron with one hidden layer, all examples of domain 1."""
    z, weights = small('group', None).apply(params['network']['body'], X), params['classifier']
    first, last = weights['params']['Dense_0'], weights['params']['Dense_1']
    z = jnp.maximum(z @ first['kernel'] + first['bias'], 0)
    return -jax.nn.log_softmax(z @ last['kernel'] + last['bias'])[:, 1].mean()

  def all_of(params):
    judged = lambda weight: jax.value_and_grad(ADVERSE[name](weight).loss, 1, has_aux=True)
    return judged(0.0)(KEY, params, task), judged(0.7)(KEY, params, task), jax.grad(domains)(params)

  ((plain, _), without), ((value, metrics), found), slope = jax.jit(all_of)(params)
  assert float(value) == pytest.approx(float(plain), rel=1e-6)
  assert 0 <= metrics['domain_accuracy'] <= 1
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
  jax.tree.map(close, found['classifier'], slope['classifier'])
  against = lambda a, b: a - 0.7 * b
  jax.tree.map(close, found['network'], jax.tree.map(against, without['network'], slope['network']))


def test_domains_that_do_not_fit_are_refused():
  with pytest.raises(ValueError, match='domains=1 leaves nothing'):
    dann(mlp(), WAYS, domains=1)
  with pytest.raises(ValueError, match='weight=-1'):
    stda_meta(mlp(), WAYS, DESCENT, weight=-1)
  learner, task = dann(mlp(), WAYS, domains=4), HIDDEN
  params = jax.eval_shape(learner.init, KEY, task)
  with pytest.raises(ValueError, match='domains=4, and training is on 3 domains; use domains=3'):
    jax.eval_shape(learner.loss, KEY, params, task)
  with pytest.raises(ValueError, match='domains=4, and an episode is of task 4; use domains>4'):
    jax.eval_shape(lambda p: learner.loss(KEY, p, task._replace(info={'task': 4})), params)
