"""What no mode can differentiate is refused in one line, with the remedy, and nothing else is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metakit import meta_gradient as modes
from metakit.learners.anil import anil
from metakit.learners.cavia import cavia
from metakit.learners.descent import Descent
from metakit.learners.imaml import imaml
from metakit.learners.maml import maml
from metakit.learners.maml_plus_plus import maml_plus_plus
from metakit.learners.reptile import reptile
from metakit.meta_gradient.inner import by_optax, fault_of
from tests.learners.judged import episode_of
from tests.learners.rows import WAYS, perceptron
from tests.meta_gradient.test_modes import KEY, assert_close, inner_of

REFUSED = {
  'sign': (optax.sign_sgd(0.1), 'derivative 0 in its gradients'),
  'lion': (optax.lion(0.1), 'derivative 0 in its gradients'),
}


@pytest.mark.parametrize('name', REFUSED)
@pytest.mark.parametrize('mode', ['unroll', 'remat', 'mixed', 'truncated'])
def test_optimizers_without_a_derivative_are_refused_with_a_remedy(name, mode):
  optimizer, said = REFUSED[name]
  made = {'truncated': lambda: modes.truncated(1)}.get(mode) or getattr(modes, mode)
  with pytest.raises(ValueError, match=f'{said}.*use another .*first_order or evolution'):
    made()(inner_of(None, optimizer))
  modes.first_order()(inner_of(None, optimizer))
  modes.evolution()(inner_of(None, optimizer))


def test_integers_that_depend_on_gradients_are_found_and_counts_are_not():
  def update(grads, state, params=None):
    large = optax.tree.norm(grads) > 1.5
    return grads, state + large.astype(jnp.int32)

  counting = optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)
  assert 'integers that depend on the gradients' in fault_of(counting)
  for good in (optax.sgd(0.1), optax.adam(0.1), optax.rmsprop(0.1), optax.adamw(0.1)):
    assert fault_of(good) == ''


BY_LABELS = optax.multi_transform({'a': optax.sgd(0.1), 'b': optax.adam(0.1)}, {'w': 'a', 'v': 'b'})


@pytest.mark.parametrize(
  'optimizer',
  [
    pytest.param(optax.chain(optax.clip(0.1), optax.sgd(0.1)), marks=pytest.mark.slow),
    optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.1)),
    BY_LABELS,
    *(
      pytest.param(optimizer, marks=pytest.mark.slow)
      for optimizer in (
        optax.masked(optax.sgd(0.1), {'w': True, 'v': False}),
        optax.MultiSteps(optax.sgd(0.1), 3).gradient_transformation(),
        optax.sgd(lambda count: jnp.where(count < 2, 0.0, 0.1)),
      )
    ),
  ],
  ids=['clip', 'clip_by_norm', 'multi_transform', 'masked', 'multi_steps', 'late'],
)
def test_optimizers_that_have_a_derivative_are_not_refused(optimizer):
  """The meta-gradient after five steps is the finite difference."""
  loss = lambda fast, slow, data, step: 0.5 * (jnp.square(fast['w'] - 3) + fast['v'] ** 4)
  with jax.enable_x64(True):
    solve = modes.unroll()(by_optax(loss, optimizer))
    end = lambda w: sum(
      jnp.square(leaf) for leaf in jax.tree.leaves(solve(KEY, {'w': w, 'v': 2 * w}, {}, (), 5).fast)
    )
    both, at, small = jax.jit(jax.value_and_grad(end)), 0.7, 1e-4
    expected = (float(both(at + small)[0]) - float(both(at - small)[0])) / (2 * small)
    assert_close(both(at)[1], expected, 1e-3)  # some sum in float32


def test_a_learner_may_be_built_where_its_rate_is_traced():
  def end(rate):
    loss = lambda fast, slow, data, step: 0.5 * jnp.square(fast).sum()
    inner = by_optax(loss, optax.sgd(rate))
    return modes.unroll()(inner)(KEY, jnp.ones(()), {}, (), 2).fast

  np.testing.assert_allclose(jax.jit(jax.grad(end))(0.3), -2 * 0.7, rtol=1e-6)


@pytest.mark.parametrize('steps', [0, -1])
@pytest.mark.parametrize('name', ['unroll', 'mixed', 'first_order', 'implicit', 'evolution'])
def test_no_step_is_refused(name, steps):
  loss = lambda fast, slow, data, step: jnp.square(fast).sum()
  solve = getattr(modes, name)()(by_optax(loss, optax.sgd(0.1), proximal=1.0))
  with pytest.raises(ValueError, match=f'steps={steps} leaves the inner loop where it starts'):
    solve(KEY, jnp.ones(()), {}, (), steps)


@pytest.mark.parametrize(
  ('make', 'said'),
  [
    (lambda: modes.implicit()(inner_of(None)), 'proximal inner loss.*use proximal > 0'),
    (
      lambda: modes.implicit()(inner_of(None, proximal=1.0, readout=lambda *a: 0)),
      'reads every step; use mode mixed',
    ),
    (lambda: modes.truncated(0), 'last=0 leaves no step'),
    (lambda: modes.evolution(sigma=0.0), 'sigma=0.0 and pairs=16 must be positive'),
    (lambda: modes.evolution(pairs=0), 'must be positive'),
    (lambda: modes.neumann(0), 'iterations=0 solves nothing'),
    (lambda: modes.conjugate_gradient(0), 'iterations=0 solves nothing'),
    (lambda: inner_of(None, optax.sgd(0.1), -1.0), 'proximal=-1.0 is negative'),
    (lambda: inner_of(None, optax.lbfgs(0.1)), 'needs more than gradients and parameters'),
  ],
)
def test_what_cannot_work_is_refused_in_one_line(make, said):
  with pytest.raises(ValueError, match=said) as caught:
    make()
  assert '\n' not in str(caught.value)


def by_path(tree):
  return jax.tree_util.tree_map_with_path(lambda path, _: path[2].key == 'kernel', tree)


def test_a_mask_by_the_paths_of_a_network_is_for_that_network():
  """What tries optimizers has other paths; so has a learner that adapts other arrays."""
  episode = episode_of('maml:3_steps')
  masked = optax.masked(optax.set_to_zero(), by_path)
  learner = maml(perceptron(), Descent(optax.chain(optax.sgd(0.3), masked), 2))
  params = jax.jit(learner.init)(KEY, episode)
  fitted = jax.jit(learner.adapt)(KEY, params, episode.support)['params']
  for layer, before in params['params'].items():
    assert np.array_equal(fitted[layer]['kernel'], before['kernel'])
    assert not np.array_equal(fitted[layer]['bias'], before['bias'])
  learner = cavia(perceptron(), 4, Descent(masked, 2))
  with pytest.raises(ValueError, match=r'does not take what this learner adapts.*is one array'):
    jax.eval_shape(lambda: learner.adapt(KEY, learner.init(KEY, episode), episode.support))


def test_anil_refuses_a_mode_that_would_leave_its_network_untaught():
  with pytest.raises(ValueError, match='learns the features in them; use mode unroll'):
    anil(perceptron(None), WAYS, Descent(optax.sgd(0.3), 5, mode=modes.evolution()))


USELESS = {
  'optimizer': lambda descent: maml_plus_plus(perceptron(), descent),
  'mode': lambda descent: reptile(perceptron(), descent),
  'batch=2': lambda descent: imaml(perceptron(), descent),
}


@pytest.mark.parametrize('part', USELESS)
def test_what_would_have_no_effect_is_refused(part):
  with pytest.raises(ValueError, match=f'{part} of the descent has no effect on this learner'):
    USELESS[part](Descent(optax.sgd(0.3), 2, mode=modes.unroll(), batch=2))
