"""MAML against closed forms on quadratics and an inner loop written out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metakit.learners.descent import Descent
from metakit.learners.maml import maml
from metakit.meta_gradient import first_order, unroll
from metakit.models import Model
from metakit.objectives import squared_error
from metakit.types import Episode, Examples
from tests.learners.judged import compiled_fast

ALPHA = 0.3
THETA = np.array([1.0, -2.0, 0.5])
CENTRE = np.array([0.2, 0.3, -0.7])
OTHER = np.array([-1.0, 0.1, 2.0])
KEY = jax.random.key(0)
MODES = {'second': unroll(), 'first': first_order()}


def quadratic(centre):
  """Examples on which `half_square` is 0.5 |theta - centre|^2."""
  return Examples(np.zeros(1), centre[None])


def half_square(outputs, examples):
  loss = 0.5 * jnp.square(outputs - examples.y).sum()
  return loss, {'loss': loss}


# The network whose outputs are its parameters.
THE_PARAMETERS = Model(lambda key, x: jnp.zeros(3), lambda params, x, weight=None: params)


def on_quadratic(steps, order, query, optimizer=None):
  """Adapted parameters and meta-gradient at THETA."""
  inner = optimizer or optax.sgd(ALPHA)
  learner = maml(THE_PARAMETERS, Descent(inner, steps, mode=MODES[order]), objective=half_square)
  episode = Episode(quadratic(CENTRE), quadratic(query))
  with jax.enable_x64(True):
    meta = jax.grad(lambda p: learner.loss(KEY, p, episode)[0])
    both = compiled_fast(lambda p: (learner.adapt(KEY, p, episode.support), meta(p)))
    return tuple(np.asarray(a) for a in both(THETA))


def assert_exact(ours, theirs):
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize('query', [CENTRE, OTHER], ids=['same_query', 'other_query'])
@pytest.mark.parametrize('order', ['second', 'first'])
@pytest.mark.parametrize('steps', [1, 2, 5])
def test_gradient_descent_on_a_quadratic(steps, order, query):
  """theta' = c + (1 - alpha)^k (theta - c), whose derivative in theta is (1 - alpha)^k."""
  shrink = (1 - ALPHA) ** steps
  adapted, meta = on_quadratic(steps, order, query)
  assert_exact(adapted, CENTRE + shrink * (THETA - CENTRE))
  assert_exact(meta, (adapted - query) * (shrink if order == 'second' else 1))


@pytest.mark.parametrize(('order', 'power'), [('second', 2), ('first', 1)])
def test_with_one_centre_the_gradient_shrinks_by_a_power(order, power):
  for steps in (1, 3):
    meta = on_quadratic(steps, order, CENTRE)[1]
    assert_exact(meta, (1 - ALPHA) ** (power * steps) * (THETA - CENTRE))


@pytest.mark.parametrize('order', ['second', 'first'])
def test_momentum_is_carried_between_inner_steps(order):
  """Two steps with momentum m: theta2 - c = ((1 - a)^2 - a m) (theta - c)."""
  factor = (1 - ALPHA) ** 2 - ALPHA * 0.9
  adapted, meta = on_quadratic(2, order, OTHER, optax.sgd(ALPHA, momentum=0.9))
  assert_exact(adapted, CENTRE + factor * (THETA - CENTRE))
  assert_exact(meta, (adapted - OTHER) * (factor if order == 'second' else 1))


# A network with curvature: tanh of a linear map, its parameters one matrix.
CURVED = Model(lambda key, x: jnp.ones((2, 1)), lambda params, x, weight=None: jnp.tanh(x @ params))


@pytest.mark.parametrize(
  'inner', [optax.sgd(0.5), optax.adam(0.1, eps_root=1e-8)], ids=['sgd', 'adam']
)
@pytest.mark.parametrize('order', ['second', 'first'])
def test_the_inner_loop_is_the_loop_written_out(order, inner):
  """And first order means: the query's gradient at the adapted parameters."""
  learner = maml(CURVED, Descent(inner, 3, mode=MODES[order]), objective=squared_error)
  rng = np.random.default_rng(0)
  support, query = (Examples(rng.normal(size=(4, 2)), rng.normal(size=(4, 1))) for _ in range(2))

  def loss(params, part):
    return squared_error(CURVED.apply(params, part.x), part)[0]

  def adapt(params):
    state = inner.init(params)
    for _ in range(3):
      updates, state = inner.update(jax.grad(loss)(params, support), state, params)
      params = optax.apply_updates(params, updates)
    return params

  def expected(params):
    if order == 'first':
      return adapt(params), jax.grad(loss)(adapt(params), query)
    return adapt(params), jax.grad(lambda p: loss(adapt(p), query))(params)

  def ours(params):
    meta = jax.grad(lambda p: learner.loss(KEY, p, Episode(support, query))[0])
    return learner.adapt(KEY, params, support), meta(params)

  with jax.enable_x64(True):
    params = jnp.asarray(rng.normal(size=(2, 1)))
    jax.tree.map(assert_exact, compiled_fast(ours)(params), compiled_fast(expected)(params))


def test_test_steps_change_adapt_and_not_the_training_loss():
  episode = Episode(quadratic(CENTRE), quadratic(OTHER))
  theta = jnp.asarray(THETA, jnp.float32)
  make = lambda steps: maml(
    THE_PARAMETERS, Descent(optax.sgd(ALPHA), 1, steps), objective=half_square
  )
  for steps in (0, 1, 4):
    expected = CENTRE + (1 - ALPHA) ** steps * (THETA - CENTRE)
    adapted = jax.jit(make(steps).adapt)(KEY, theta, episode.support)
    np.testing.assert_allclose(adapted, expected, 1e-5)
  few, many = (jax.jit(make(steps).loss)(KEY, theta, episode)[0] for steps in (0, 4))
  assert few == many


def test_adam_needs_eps_root_where_a_gradient_is_zero():
  """Why the docstring asks for it: the derivative of a square root at zero."""
  episode = Episode(quadratic(CENTRE), quadratic(OTHER))

  def meta_at_minimum(adam):
    learner = maml(THE_PARAMETERS, Descent(adam, 1), objective=half_square)
    slope = jax.jit(jax.grad(lambda p: learner.loss(KEY, p, episode)[0]))
    return np.asarray(slope(jnp.asarray(CENTRE, jnp.float32)))

  assert np.isnan(meta_at_minimum(optax.adam(0.1))).all()
  assert np.isfinite(meta_at_minimum(optax.adam(0.1, eps_root=1e-8))).all()


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    ({'batch': -1}, 'batch=-1 is negative'),
    ({'optimizer': None}, 'no optimizer; give one'),
    ({'statistics': 'episode'}, 'needs a network with batch statistics'),
    ({'steps': 0}, 'steps=0 learns nothing'),
    ({'test_steps': -1}, 'test_steps=-1 is negative'),
  ],
)
def test_what_cannot_work_is_refused_by_name(arguments, said):
  parts = {name: arguments[name] for name in arguments if name in Descent._fields}
  others = {name: arguments[name] for name in arguments if name not in parts}
  with pytest.raises(ValueError, match=said):
    maml(THE_PARAMETERS, Descent(optax.sgd(ALPHA))._replace(**parts), **others)


def test_an_optimizer_alone_is_no_descent():
  with pytest.raises(ValueError, match=r'is no Descent; give one, such as Descent\('):
    maml(THE_PARAMETERS, optax.sgd(ALPHA))
