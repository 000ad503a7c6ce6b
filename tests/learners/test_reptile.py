"""Reptile: its surrogate gradient, and what it reports."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metakit.learners.descent import Descent
from metakit.learners.reptile import reptile
from metakit.objectives import cross_entropy
from metakit.types import Episode, join
from tests.learners.judged import episode_of
from tests.learners.rows import KEY, perceptron, small
from tests.learners.test_family import SGD, loss_and_slope, same
from tests.learners.test_maml import (
  ALPHA,
  CENTRE,
  THE_PARAMETERS,
  THETA,
  assert_exact,
  quadratic,
)


@pytest.mark.parametrize('batch', [0, 1])
def test_the_gradient_of_reptile_is_its_update(batch):
  """Of a quadratic, with all examples or one of two a step: params - adapted."""
  pair = Episode(quadratic(CENTRE), quadratic(CENTRE))
  objective = lambda outputs, examples: (
    0.5 * jnp.square(outputs - examples.y).sum(-1).mean(),
    {'loss': jnp.zeros(())},
  )
  with jax.enable_x64(True):
    learner = reptile(
      THE_PARAMETERS, Descent(optax.sgd(ALPHA), 3, 50, batch=batch), objective=objective
    )
    _, slope = loss_and_slope(learner, jnp.asarray(THETA), pair)
  assert_exact(np.asarray(slope), (1 - (1 - ALPHA) ** 3) * (THETA - CENTRE))


def test_reptile_refuses_one_step():
  with pytest.raises(ValueError, match='steps=1 makes Reptile joint training'):
    reptile(THE_PARAMETERS, Descent(SGD, 1, 50, batch=10))


def test_reptile_learns_no_statistics_and_says_how_far_it_went():
  episode = episode_of('maml:batch')
  learner = reptile(small('batch'), Descent(SGD, 3, 50, batch=10), statistics='support')
  params = jax.jit(learner.init)(KEY, episode)
  run = jax.jit(jax.value_and_grad(learner.loss, 1, has_aux=True))
  (_, metrics), slope = run(KEY, params, episode)
  same(slope['statistics'], jax.tree.map(np.zeros_like, jax.device_get(params['statistics'])), 0)
  length = np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(jax.device_get(slope))))
  np.testing.assert_allclose(metrics['adaptation_norm'], length, rtol=1e-5)


def test_the_metrics_are_of_the_support_after_training_on_all_examples():
  episode, model = episode_of('maml:3_steps'), perceptron()
  learner = reptile(model, Descent(SGD, 3))
  params = jax.jit(learner.init)(KEY, episode)
  adapted = jax.jit(learner.adapt)(KEY, params, join(episode.support, episode.query))
  measure = jax.jit(lambda p: cross_entropy(model.apply(p, episode.support.x), episode.support)[1])
  expected = measure(adapted)
  _, metrics = jax.jit(learner.loss)(KEY, params, episode)
  np.testing.assert_allclose(metrics['loss'], expected['loss'], rtol=1e-5)
