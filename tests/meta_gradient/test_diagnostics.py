"""Diagnostics of a meta-gradient against closed forms on a quadratic."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metakit.evaluation import judge_meta_gradient
from metakit.learners.anil import anil
from metakit.learners.descent import Descent
from metakit.learners.maml import maml
from metakit.learners.maml_plus_plus import maml_plus_plus
from metakit.learners.prototypical import prototypical
from metakit.meta_gradient import first_order, unroll
from metakit.objectives import cross_entropy
from tests.learners.judged import episode_of
from tests.learners.rows import KEY, WAYS, perceptron
from tests.learners.test_family import QUADRATIC, random_like
from tests.learners.test_maml import ALPHA, CENTRE, OTHER, THE_PARAMETERS, THETA, half_square


def cosine(*trees):
  one, other = (np.concatenate([np.ravel(a) for a in jax.tree.leaves(tree)]) for tree in trees)
  return one @ other / (np.linalg.norm(one) * np.linalg.norm(other))


def test_losses_and_norms_of_every_step_of_a_quadratic():
  """theta_k - c shrinks by 1 - a a step, and the derivative grows by it on the way."""
  steps = 3
  learner = maml(THE_PARAMETERS, Descent(optax.sgd(ALPHA), steps), objective=half_square)
  with jax.enable_x64(True):
    found = jax.jit(learner.diagnose)(KEY, jnp.asarray(THETA), QUADRATIC)
  shrink = (1 - ALPHA) ** np.arange(steps + 1)
  end = CENTRE + shrink[-1] * (THETA - CENTRE)
  for k in range(steps + 1):
    loss = 0.5 * np.square(shrink[k] * (THETA - CENTRE)).sum()
    np.testing.assert_allclose(found[f'inner_loss_{k}'], loss, rtol=1e-12)
    norm = shrink[steps - k] * np.linalg.norm(end - OTHER)
    np.testing.assert_allclose(found[f'meta_gradient_norm_{k}'], norm, rtol=1e-12)
  np.testing.assert_allclose(found['meta_gradient_cosine'], 1.0, rtol=1e-12)  # H is a multiple of I


def test_the_cosine_is_that_of_the_two_meta_gradients():
  episode = episode_of('maml:3_steps')
  learners = [
    maml(perceptron(), Descent(optax.sgd(0.4), 2, mode=mode())) for mode in (unroll, first_order)
  ]
  params = random_like(jax.eval_shape(learners[0].init, KEY, episode))
  slope = lambda learner: jax.jit(jax.grad(lambda p: learner.loss(KEY, p, episode)[0]))(params)
  second, first = map(slope, learners)
  expected = cosine(second, first)
  judge = jax.jit(lambda p: judge_meta_gradient(learners[0], cross_entropy, p, KEY, episode))
  found = judge(params)
  assert expected < 0.99  # else the test would say little
  np.testing.assert_allclose(found['meta_gradient_cosine'], expected, rtol=1e-4)
  assert 'accuracy' in found


def test_a_learner_without_an_inner_loop_is_refused():
  with pytest.raises(ValueError, match='this learner measures nothing of itself'):
    judge_meta_gradient(prototypical(perceptron(), WAYS), cross_entropy, {}, KEY, None)


@pytest.mark.parametrize(
  ('make', 'part'),
  [
    pytest.param(
      lambda mode: anil(perceptron(None), WAYS, Descent(optax.sgd(0.4), 3, mode=mode)),
      ['head'],
      marks=pytest.mark.slow,
    ),
    pytest.param(
      lambda mode: maml_plus_plus(perceptron(), Descent(steps=3, mode=mode), initial_rate=0.4),
      ['start', 'norms', 'rates'],
      marks=pytest.mark.slow,
    ),
  ],
  ids=['anil', 'maml_plus_plus'],
)
def test_learners_with_a_loop_of_their_own_are_diagnosed(make, part):
  """Of the head alone where there is one; the rates of MAML++ count."""
  episode = episode_of('maml:3_steps')
  second, first = make(unroll()), make(first_order())
  params = random_like(jax.eval_shape(second.init, KEY, episode))
  slope = lambda learner: jax.jit(jax.grad(lambda p: learner.loss(KEY, p, episode)[0]))(params)
  expected = cosine(*({name: each[name] for name in part} for each in map(slope, (second, first))))
  found = jax.jit(second.diagnose)(KEY, params, episode)
  assert expected < 0.99  # else the test would say little
  np.testing.assert_allclose(found['meta_gradient_cosine'], expected, rtol=1e-4)
  assert sum(name.startswith('inner_loss_') for name in found) == 4
