"""The descendants of MAML: closed forms, and what each is where it should be another."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metakit.learners.alfa import alfa
from metakit.learners.anil import anil
from metakit.learners.boil import boil
from metakit.learners.cavia import cavia
from metakit.learners.descent import Descent, by_descent, by_optimizer
from metakit.learners.imaml import imaml
from metakit.learners.maml import maml
from metakit.learners.maml_plus_plus import maml_plus_plus, multi_step_weights
from metakit.learners.meta_curvature import meta_curvature, transform
from metakit.learners.meta_sgd import meta_sgd
from metakit.learners.ordinary_training import fine_tuning, from_scratch
from metakit.learners.proto_maml import proto_maml
from metakit.learners.prototypical import prototypical
from metakit.meta_gradient import first_order, implicit
from metakit.networks.mlp import mlp
from metakit.networks.resnet12 import resnet12
from metakit.types import Episode
from tests.learners.judged import episode_of
from tests.learners.rows import KEY, WAYS, perceptron, small
from tests.learners.test_maml import (
  CENTRE,
  OTHER,
  THE_PARAMETERS,
  THETA,
  assert_exact,
  half_square,
  quadratic,
)

QUADRATIC = Episode(quadratic(CENTRE), quadratic(OTHER))
SGD = optax.sgd(0.3)


def same(ours, theirs, tolerance=1e-5):
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=0, atol=tolerance)


def random_of(learner, episode):
  return random_like(jax.eval_shape(learner.init, KEY, episode))


def random_like(params, seed=0):
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda leaf: np.asarray(rng.normal(size=leaf.shape), leaf.dtype), params)


@functools.cache
def slope_of_maml():
  """params -> the gradient of two steps of MAML, by one program for all who are compared."""
  learner = maml(perceptron(), Descent(SGD, 2))
  return jax.jit(jax.grad(lambda p: learner.loss(KEY, p, episode_of('maml:3_steps'))[0]))


@functools.cache
def slope_of_maml_plus_plus():
  """The same of MAML++ with one rate, which differentiates twice."""
  learner = maml_plus_plus(perceptron(), Descent(steps=2), initial_rate=0.3)
  return jax.jit(jax.grad(lambda p: learner.loss(KEY, p, episode_of('maml:3_steps'))[0]))


def loss_and_slope(learner, params, episode):
  run = jax.jit(jax.value_and_grad(learner.loss, argnums=1, has_aux=True))
  (loss, _), slope = run(KEY, params, episode)
  return loss, slope


def test_meta_sgd_on_a_quadratic():
  """theta' = theta - a (theta - c): slopes (1 - a)(theta' - q) and -(theta' - q)(theta - c)."""
  rates = np.array([0.3, -0.2, 0.9])
  with jax.enable_x64(True):
    learner = meta_sgd(THE_PARAMETERS, objective=half_square)
    params = {'start': jnp.asarray(THETA), 'rates': jnp.asarray(rates)}
    _, slope = loss_and_slope(learner, params, QUADRATIC)
  away = THETA - rates * (THETA - CENTRE) - OTHER
  assert_exact(np.asarray(slope['start']), (1 - rates) * away)
  assert_exact(np.asarray(slope['rates']), -away * (THETA - CENTRE))


def test_imaml_on_a_quadratic():
  """phi = (c + l theta) / (1 + l), whose derivative in theta is l / (1 + l)."""
  strength = 0.7
  with jax.enable_x64(True):
    descent = Descent(optax.sgd(0.4), 200)
    learner = imaml(THE_PARAMETERS, descent, proximal=strength, objective=half_square)
    _, slope = loss_and_slope(learner, jnp.asarray(THETA), QUADRATIC)
  minimum = (CENTRE + strength * THETA) / (1 + strength)
  assert_exact(np.asarray(slope), strength / (1 + strength) * (minimum - OTHER))


def test_a_linear_system_gives_the_gradient_of_what_the_inner_loop_does_not_change_too():
  """As above, with outputs phi + shift: phi = (c - shift + l theta) / (1 + l)."""
  strength, shift = 0.7, np.array([0.1, -0.4, 0.2])
  with jax.enable_x64(True):
    descent = Descent(optax.sgd(0.4), 200, mode=implicit())
    learner = by_descent(
      THE_PARAMETERS,
      descent,
      inner=by_optimizer(descent, proximal=strength),
      objective=half_square,
      split=lambda params, support: (params['start'], params['shift']),
      merge=lambda fast, slow, step: fast + slow,
    )
    params = {'start': jnp.asarray(THETA), 'shift': jnp.asarray(shift)}
    _, slope = loss_and_slope(learner, params, QUADRATIC)
  minimum = (CENTRE - shift + strength * THETA) / (1 + strength)
  expected = strength / (1 + strength) * (minimum + shift - OTHER)
  assert_exact(np.asarray(slope['start']), expected)
  assert_exact(np.asarray(slope['shift']), expected)


@pytest.mark.slow  # its formula is above
def test_equal_rates_make_meta_sgd_maml():
  episode = episode_of('maml:3_steps')
  ours = meta_sgd(perceptron(), Descent(steps=2), initial_rate=0.3)
  start = random_of(ours, episode)['start']
  params = {'start': start, 'rates': jax.tree.map(lambda p: np.full(p.shape, 0.3, p.dtype), start)}
  same(loss_and_slope(ours, params, episode)[1]['start'], slope_of_maml()(start))


def test_meta_curvature_is_maml_at_the_identity_and_turns_gradients_otherwise():
  episode = episode_of('maml:3_steps')
  ours = meta_curvature(perceptron(), Descent(steps=2), inner_learning_rate=0.3)
  params = jax.jit(ours.init)(KEY, episode)
  slope = slope_of_maml()(params['start'])
  same(loss_and_slope(ours, params, episode)[1]['start'], slope)
  rng = np.random.default_rng(0)
  gradient, turn = rng.normal(size=(3, 3, 2, 4)), [rng.normal(size=(n, n)) for n in (9, 2, 4)]
  expected = np.einsum('pq,ij,of,qjf->pio', *turn, gradient.reshape(9, 2, 4)).reshape(3, 3, 2, 4)
  np.testing.assert_allclose(jax.jit(transform)(gradient, tuple(turn)), expected, atol=1e-5)


@pytest.mark.slow  # its golden values are quick
def test_alfa_starts_as_maml():
  episode = episode_of('maml:3_steps')
  ours = alfa(perceptron(), Descent(steps=2), initial_rate=0.3)
  params, adapt = jax.jit(ours.init)(KEY, episode), jax.jit(ours.adapt)
  same(loss_and_slope(ours, params, episode)[1]['start'], slope_of_maml()(params['start']))
  faster = adapt(KEY, {**params, 'rates': 2 * np.asarray(params['rates'])}, episode.support)
  slower = adapt(KEY, params, episode.support)
  assert not np.allclose(jax.tree.leaves(faster)[0], jax.tree.leaves(slower)[0])


def test_anil_and_boil_change_what_they_should():
  episode = episode_of('maml:3_steps')
  frozen, moving = (make(perceptron(None), WAYS, Descent(SGD, 2)) for make in (anil, boil))
  params = random_of(moving, episode)
  network, head = jax.jit(frozen.adapt)(KEY, params, episode.support)
  same(network, params, 0)
  assert not np.allclose(head['kernel'], params['head']['kernel'])
  adapted = jax.jit(moving.adapt)(KEY, params, episode.support)
  same(adapted['head'], params['head'], 0)
  assert all(
    not np.allclose(a, b)
    for a, b in zip(jax.tree.leaves(adapted['body']), jax.tree.leaves(params['body']), strict=True)
  )


def test_anil_is_maml_of_the_last_layer():
  """The features as inputs, and the last layer as the network."""
  episode = episode_of('maml:3_steps')
  whole, layer = (
    anil(perceptron(None), WAYS, Descent(SGD, 2)),
    maml(mlp(WAYS, depth=0), Descent(SGD, 2)),
  )
  params = random_of(whole, episode)
  body = jax.jit(functools.partial(perceptron(None).apply, params['body']))
  embed = lambda examples: examples._replace(x=body(examples.x))
  features = Episode(embed(episode.support), embed(episode.query))
  inner = {'params': {'Dense_0': params['head']}}
  ours, theirs = loss_and_slope(whole, params, episode), loss_and_slope(layer, inner, features)
  same(ours[0], theirs[0])
  same(ours[1]['head'], theirs[1]['params']['Dense_0'])


def test_cavia_changes_its_context_alone():
  episode = episode_of('maml:3_steps')
  learner = cavia(perceptron(), 4, Descent(SGD, 2))
  params = random_of(learner, episode)
  fitted = jax.jit(learner.adapt)(KEY, params, episode.support)
  same(fitted['network'], params, 0)
  assert fitted['context'].shape == (4,) and np.abs(fitted['context']).min() > 1e-6
  with pytest.raises(ValueError, match='takes a context beside its input'):
    jax.eval_shape(cavia(resnet12(WAYS), 4, Descent(SGD)).init, KEY, episode_of('maml:conv4_group'))
  with pytest.raises(ValueError, match='context_size=0 leaves nothing to adapt'):
    cavia(perceptron(), 0, Descent(SGD))


@pytest.mark.parametrize('norm', ['group', pytest.param('batch', marks=pytest.mark.slow)])
def test_proto_maml_without_a_step_is_prototypical_networks(norm):
  episode, embedding = episode_of('maml:3_steps'), small(norm)
  ours = proto_maml(embedding, WAYS, Descent(SGD, 1, 0))
  statistics = 'episode' if norm == 'batch' else 'training'
  theirs = prototypical(embedding, WAYS, statistics=statistics)
  params = random_of(theirs, episode)['body']
  if norm == 'group':
    both = (ours, params), (theirs, {'body': params, 'head': {}})
    ask = lambda learner, params: learner.predict(
      learner.adapt(KEY, params, episode.support), episode.query.x
    )
    run = jax.jit(lambda: [jax.nn.log_softmax(ask(*each)) for each in both])
    np.testing.assert_allclose(*run(), atol=1e-4)
  else:  # prototypical networks then embed support and queries together
    fitted = jax.jit(ours.adapt)(KEY, params, episode.support)
    z = np.asarray(jax.jit(embedding.apply)(params, episode.support.x))
    expected = np.stack([z[episode.support.y == c].mean(0) for c in range(WAYS)])
    np.testing.assert_allclose(fitted['head']['kernel'], 2 * expected.T, atol=1e-5)


@pytest.mark.slow  # its losses and its phases are quick
def test_maml_plus_plus_with_one_rate_is_maml_but_for_the_normalisation():
  """A step of the inner loop leaves scale and bias alone, which maml moves."""
  episode = episode_of('maml:3_steps')
  learner = maml_plus_plus(small('group'), Descent(steps=2), initial_rate=0.3)
  params = jax.jit(learner.init)(KEY, episode)
  fitted = jax.jit(learner.adapt)(KEY, params, episode.support)['params']
  before = params['start']['params']
  name = next(name for name in before if 'Norm' in name)
  same(fitted[name], before[name], 0)
  ours = maml_plus_plus(perceptron(), Descent(steps=2), initial_rate=0.3)
  params = jax.jit(ours.init)(KEY, episode)
  same(slope_of_maml_plus_plus()(params)['start'], slope_of_maml()(params['start']))


@pytest.mark.slow  # its losses and its phases are quick
def test_maml_plus_plus_uses_the_normalisation_and_the_rates_of_each_step():
  episode = episode_of('maml:3_steps')
  learner = maml_plus_plus(small('group'), Descent(steps=2), initial_rate=0.3)
  params = random_of(learner, episode)
  reached = loss_and_slope(learner, params, episode)[1]
  for name in ('norms', 'rates'):
    for leaf in jax.tree.leaves(reached[name]):
      assert (np.abs(leaf).reshape(len(leaf), -1).max(1) > 0).all()  # every step


@functools.cache
def losses_of_maml_plus_plus():
  """Of two steps: step of training -> loss, after each inner step, and of no step of training."""
  episode = episode_of('maml:3_steps')
  make = lambda steps=2, **options: maml_plus_plus(
    small('group'), Descent(steps=steps), initial_rate=0.3, **options
  )
  learner = make(multi_step_until=20)
  params = random_of(learner, episode)
  first = lambda tree, count: jax.tree.map(lambda leaf: leaf[:count], tree)
  cut = lambda k: dict(params, norms=first(params['norms'], k + 1), rates=first(params['rates'], k))
  after = [jax.jit(make(k).loss)(KEY, cut(k), episode)[0] for k in (1, 2)]
  at = jax.jit(lambda step: learner.loss_at(step, KEY, params, episode)[0])
  return at, np.asarray(after), jax.jit(learner.loss)(KEY, params, episode)[0]


@pytest.mark.parametrize('step', [0, 10, 20])
def test_the_losses_of_maml_plus_plus_follow_the_training_step(step):
  """The loss after k steps is that of a learner of k steps with the first of the parameters."""
  at, after, last = losses_of_maml_plus_plus()
  weights = multi_step_weights(step, 2, 20) if step < 20 else [0, 1]
  np.testing.assert_allclose(at(step), np.dot(weights, after), rtol=1e-5)
  np.testing.assert_allclose(last, after[1], rtol=1e-6)


def test_maml_plus_plus_is_first_order_until_it_is_second():
  episode = episode_of('maml:3_steps')
  make = lambda mode=None, **options: maml_plus_plus(
    perceptron(), Descent(steps=2, mode=mode), initial_rate=0.3, **options
  )
  learner = make(first_order_until=10)
  params = random_of(learner, episode)
  slope = jax.jit(jax.grad(lambda p, step: learner.loss_at(step, KEY, p, episode)[0]))
  first = loss_and_slope(make(first_order()), params, episode)[1]
  second = slope_of_maml_plus_plus()(params)
  same(slope(params, 9), first)
  same(slope(params, 10), second)
  leaves = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
  assert max(np.abs(a - b).max() for a, b in leaves) > 1e-3
  with pytest.raises(ValueError, match='must be positive, multi_step_until=-1'):
    make(multi_step_until=-1)


def test_multi_step_weights_move_to_the_last_step():
  np.testing.assert_allclose(multi_step_weights(0, 4, 100), [0.25] * 4)
  np.testing.assert_allclose(multi_step_weights(50, 4, 100), [0.125] * 3 + [0.625], rtol=1e-6)
  np.testing.assert_allclose(multi_step_weights(99, 4, 100), [0.0075] * 3 + [0.9775], rtol=1e-6)


@pytest.mark.parametrize('name', [pytest.param('maml', marks=pytest.mark.slow), 'maml_plus_plus'])
def test_inductive_learners_normalise_queries_by_the_support(name):
  """Of the adapted network; the scale and bias of MAML++ are those after the last step."""
  episode = episode_of('maml:batch')
  learners = {
    'maml': lambda: maml(small('batch'), Descent(SGD), statistics='support'),
    'maml_plus_plus': lambda: maml_plus_plus(
      small('batch'), Descent(steps=2), initial_rate=0.3, statistics='support'
    ),
  }
  learner = learners[name]()
  params = random_of(learner, episode)
  fitted = jax.jit(learner.adapt)(KEY, params, episode.support)
  fitted, params = jax.device_get((fitted, params))
  z = lambda x: x @ fitted['params']['Dense_0']['kernel'] + fitted['params']['Dense_0']['bias']
  support, query = z(episode.support.x), z(episode.query.x)
  norm = fitted['params']['Norm_0']['BatchNorm_0']
  if name == 'maml_plus_plus':
    for part in ('scale', 'bias'):
      copies = params['norms'][f"['params']['Norm_0']['BatchNorm_0']['{part}']"]
      np.testing.assert_array_equal(norm[part], copies[2])
  unit = (query - support.mean(0)) / np.sqrt(support.var(0) + 1e-5)
  hidden = np.maximum(unit * norm['scale'] + norm['bias'], 0)
  last = fitted['params']['Dense_1']
  expected = hidden @ last['kernel'] + last['bias']
  outputs = jax.jit(learner.predict)(fitted, episode.query.x)
  np.testing.assert_allclose(outputs, expected, atol=1e-4)


def test_fine_tuning_learns_global_classes_and_the_probe_leaves_the_body_alone():
  episode = episode_of('fine_tuning')
  learner = fine_tuning(perceptron(None), WAYS, Descent(SGD, 2), num_classes=7, tuned='head')
  params = jax.device_get(random_of(learner, episode))
  x = np.concatenate([episode.support.x, episode.query.x])
  y = episode.info['classes'][np.concatenate([episode.support.y, episode.query.y])]
  logits = np.asarray(jax.jit(perceptron(None).apply)(params['body'], x)) @ params['head']['kernel']
  logits = logits + params['head']['bias']
  expected = (np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]).mean()
  np.testing.assert_allclose(jax.jit(learner.loss)(KEY, params, episode)[0], expected, rtol=1e-5)
  probed = jax.jit(learner.adapt)(KEY, params, episode.support)
  same(probed['body'], params['body'], 0)
  whole = fine_tuning(perceptron(None), WAYS, Descent(SGD, 2), num_classes=7)
  tuned = jax.jit(whole.adapt)(KEY, params, episode.support)
  assert not np.allclose(*(jax.tree.leaves(each['body'])[1] for each in (probed, tuned)))
  for arguments, said in (({'tuned': 'tail'}, 'tuned='), ({'num_classes': 1}, 'num_classes=1')):
    with pytest.raises(ValueError, match=said):
      fine_tuning(perceptron(None), WAYS, Descent(SGD, 100), **arguments)


def test_from_scratch_forgets_what_it_is_given_and_learns_nothing():
  episode = episode_of('from_scratch')
  learner = from_scratch(perceptron(), Descent(SGD, 2))
  params, adapt = random_of(learner, episode), jax.jit(learner.adapt)
  other = random_like(params, 1)
  same(*(adapt(KEY, p, episode.support) for p in (params, other)), 0)
  assert jax.jit(learner.loss)(KEY, params, episode)[0] == 0
  fresh = adapt(jax.random.key(1), params, episode.support)
  for given in (params, adapt(KEY, params, episode.support)):
    assert not np.allclose(jax.tree.leaves(fresh)[1], jax.tree.leaves(given)[1])


@pytest.mark.parametrize('make', [pytest.param(alfa, marks=pytest.mark.slow), meta_curvature])
def test_normalisation_statistics_are_no_weights(make):
  """They are neither moved nor counted: [steps, 6] rates, 6 arrays with curvature."""
  episode, learner = episode_of('maml:batch'), make(small('batch'))
  params = jax.jit(learner.init)(KEY, episode)
  arrays = len(jax.tree.leaves(params['start']['params']))
  assert len(jax.tree.leaves(params['start'])) == arrays + 2
  counted = params['rates'].shape[1] if make is alfa else len(params['curvature'])
  assert counted == arrays
  given = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.1, params['start']['statistics'])
  start = {**params['start'], 'statistics': given}
  fitted = jax.jit(learner.adapt)(KEY, {**params, 'start': start}, episode.support)
  same(fitted['statistics'], given, 0)
