"""Meta-DMoE against loops in NumPy: what experts make of an example, who is asked, who learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import softmax

from metakit.learners.descent import Descent
from metakit.learners.meta_dmoe import meta_dmoe
from metakit.objectives import cross_entropy
from metakit.types import Episode
from tests.learners.judged import as_float
from tests.learners.rows import KEY, WAYS, perceptron
from tests.learners.test_domains import HIDDEN as EPISODE

RATE, EXPERTS, UNTIL, OWN = 0.3, 3, 5, 1


@pytest.fixture(scope='module')
def learner():
  descent = Descent(optax.sgd(RATE))
  return meta_dmoe(perceptron(None), WAYS, descent, experts=EXPERTS, heads=2, until=UNTIL)


@pytest.fixture(scope='module')
def params(learner):
  """Random ones: the first biases would be 0."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(learner.init, KEY, EPISODE)
  return jax.tree.map(lambda leaf: 0.7 * rng.normal(size=leaf.shape), shapes)


@pytest.fixture(scope='module')
def at(learner):
  """step, params -> the loss and its gradient, in float64 by one program for all steps."""
  run = jax.jit(jax.value_and_grad(lambda *given: learner.loss_at(*given)[0], argnums=2))

  def judge(step, params):
    with jax.enable_x64(True):
      return jax.device_get(run(jnp.int32(step), KEY, params, as_float(EPISODE, np.float64)))

  return judge


def features(body, x):
  weights = body['params']
  for layer in sorted(weights):
    x = np.maximum(x @ weights[layer]['kernel'] + weights[layer]['bias'], 0)
  return x


def normalised(x, norm):
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
  return x * norm['scale'] + norm['bias']


def dense(x, layer):
  return x @ layer['kernel'] + layer['bias']


def aggregated(block, tokens):
  """A pre-norm block over the experts of one example [experts, width], then their mean."""
  w = block['params']
  z = normalised(tokens, w['LayerNorm_0'])
  kernel, bias = w['projections']['kernel'], w['projections']['bias']
  query, key, value = (
    np.einsum('mf,fhd->mhd', z, kernel[:, part]) + bias[part] for part in range(3)
  )
  seen = []
  for head in range(query.shape[1]):
    share = softmax(query[:, head] @ key[:, head].T / np.sqrt(query.shape[2]), axis=1)
    seen.append(share @ value[:, head])
  x = tokens + dense(np.concatenate(seen, axis=1), w['Dense_0'])
  hidden = dense(normalised(x, w['LayerNorm_1']), w['Dense_2'])
  cube = np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3))
  return (x + dense(0.5 * hidden * (1 + cube), w['Dense_1'])).mean(0)


def aim_of(params, experts):
  """[examples, width], what those experts make of the support, one example after the other."""
  bodies = [jax.tree.map(lambda leaf: leaf[m], params['experts']['body']) for m in experts]  # noqa: B023
  seen = np.stack([features(body, EPISODE.support.x) for body in bodies], axis=1)
  return np.stack([aggregated(params['aggregator']['body'], each) for each in seen])


def after_a_step(params, experts):
  """The student's outputs for the queries after a step towards those experts."""
  aim, student = aim_of(params, experts), params['student']
  with jax.enable_x64(True):
    apart = lambda body: jnp.square(aim - perceptron(None).apply(body, EPISODE.support.x)).mean()
    slope = jax.grad(apart)(student['body'])
  body = jax.tree.map(lambda leaf, by: leaf - RATE * np.asarray(by), student['body'], slope)
  return dense(features(body, EPISODE.query.x), student['head'])


def test_the_loss_is_that_of_a_step_towards_the_experts_of_other_domains(params, at):
  outputs = after_a_step(params, [m for m in range(EXPERTS) if m != OWN])
  expected = float(cross_entropy(jnp.asarray(outputs), EPISODE.query)[0])
  assert at(UNTIL, params)[0] == pytest.approx(expected, rel=1e-5)


def test_a_test_asks_all_experts(learner, params):
  """Also where a training episode would leave its own out."""
  single = as_float(params, np.float32)
  run = jax.jit(
    lambda params: learner.predict(learner.adapt(KEY, params, EPISODE.support), EPISODE.query.x)
  )
  np.testing.assert_allclose(
    run(single), after_a_step(params, range(EXPERTS)), rtol=1e-3, atol=1e-3
  )


def test_the_own_expert_has_no_effect_in_meta_training(params, at):
  other = jax.tree.map(lambda leaf: leaf.copy(), params)
  for leaf in jax.tree.leaves(other['experts']):
    leaf[OWN] += 1
  assert at(UNTIL, other)[0] == at(UNTIL, params)[0]
  for leaf in jax.tree.leaves(other['experts']):
    leaf[0] += 1
  assert abs(at(UNTIL, other)[0] - at(UNTIL, params)[0]) > 1e-3


def slopes(tree):
  return sum(np.abs(leaf).sum() for leaf in jax.tree.leaves(tree))


def test_who_learns_when(params, at):
  """First the own expert, the student and the aggregator; then all but the experts."""
  early, late = at(UNTIL - 1, params)[1], at(UNTIL, params)[1]
  of = lambda gradient, m: slopes(jax.tree.map(lambda leaf: leaf[m], gradient['experts']))
  assert of(early, OWN) > 0 and not any(of(early, m) for m in range(EXPERTS) if m != OWN)
  assert not slopes(late['experts']) and not slopes(late['aggregator']['head'])
  for gradient in (early, late):
    for part in (gradient['student']['body'], gradient['student']['head']):
      assert slopes(part) > 0
    assert slopes(gradient['aggregator']['body']) > 0


@pytest.mark.parametrize('step', [0, UNTIL])
def test_the_gradient_is_the_finite_difference(params, at, step):
  """Through the inner step, but for experts, which take part in it as constants."""
  rng = np.random.default_rng(1)
  along = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)
  if step:
    along['experts'] = jax.tree.map(np.zeros_like, along['experts'])
  else:  # the aggregator is pretrained on frozen features
    for leaf in jax.tree.leaves(along['experts']['body']):
      leaf[:] = 0
  moved = lambda by: jax.tree.map(lambda leaf, to: leaf + by * to, params, along)
  ahead, behind = (at(step, moved(by))[0] for by in (1e-6, -1e-6))
  products = jax.tree.map(lambda slope, to: (slope * to).sum(), at(step, params)[1], along)
  exact = sum(jax.tree.leaves(products))
  assert abs(exact) > 1e-3
  assert (ahead - behind) / 2e-6 == pytest.approx(exact, rel=1e-5)


def test_bad_input_is_refused_in_a_line():
  make = lambda **given: meta_dmoe(perceptron(None), WAYS, Descent(optax.sgd(RATE)), **given)
  with pytest.raises(ValueError, match='experts=1 leaves none'):
    make(experts=1)
  with pytest.raises(ValueError, match='until=0'):
    make(until=0)
  with pytest.raises(ValueError, match='heads=3 does not divide the 8 features'):
    jax.eval_shape(make(heads=3, experts=EXPERTS).init, KEY, EPISODE)
  learner = make(experts=4)
  params = jax.eval_shape(learner.init, KEY, EPISODE)
  with pytest.raises(ValueError, match='experts=4, and training is on 3 domains; use experts=3'):
    jax.eval_shape(learner.loss, KEY, params, EPISODE)
  with pytest.raises(ValueError, match='one_domain, without mixed episodes'):
    jax.eval_shape(learner.loss, KEY, params, Episode(*EPISODE[:2], {}))
