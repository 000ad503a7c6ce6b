"""Minibatches of a support set: every example in each pass, absent ones only where others end."""

import functools

import jax
import numpy as np
import optax
import pytest

from metakit.learners.descent import Descent
from metakit.learners.maml import maml
from metakit.learners.reptile import reptile
from metakit.minibatches import minibatch, minibatches
from metakit.types import Examples
from tests.learners.judged import episode_of
from tests.learners.rows import KEY, perceptron, small
from tests.learners.test_family import random_of

SGD = optax.sgd(0.3)


def test_minibatches_pass_over_all_examples_before_any_comes_again():
  examples = Examples(np.arange(7), np.arange(7))
  draw = jax.jit(minibatch, static_argnames='size')
  steps = [draw(KEY, examples, step, size=3).x.tolist() for step in range(7)]
  drawn = [row for step in steps for row in step]
  assert all(sorted(drawn[i : i + 7]) == list(range(7)) for i in (0, 7, 14))
  assert drawn[:7] != drawn[7:14]
  assert sorted(draw(KEY, examples, 2, size=20).x.tolist()) == list(range(7))


def test_examples_may_be_numpy_arrays_where_minibatches_are_drawn():
  support = jax.tree.map(np.asarray, episode_of('maml:3_steps').support)
  learner = reptile(perceptron(), Descent(SGD, 3, 50, batch=2))
  params = random_of(learner, episode_of('maml:3_steps'))
  traced = jax.eval_shape(lambda: learner.adapt(KEY, params, support))  # shows what fails
  assert traced == jax.eval_shape(learner.adapt, KEY, params, support)


def test_absent_examples_are_in_no_minibatch_that_others_can_fill():
  x = np.arange(12.0)[:, None]
  weight = np.zeros(12, np.float32)
  weight[[2, 5, 7, 8, 11]] = 1
  examples = Examples(x, np.zeros(12, int), weight)
  draw = jax.jit(minibatch, static_argnames='size')
  drawn = jax.device_get([draw(KEY, examples, step, size=4) for step in range(5)])
  assert all((batch.weight == 1).all() for batch in drawn)
  together = jax.jit(lambda: minibatches(KEY, examples, 5, size=4))()
  assert (np.asarray(together.x) == [batch.x for batch in drawn]).all()
  seen = np.concatenate([batch.x[:, 0] for batch in drawn]).reshape(-1, 5)
  assert (np.sort(seen) == [2, 5, 7, 8, 11]).all()  # four times each
  one = examples._replace(weight=(x[:, 0] == 3).astype(np.float32))
  few = jax.device_get(draw(KEY, one, 1, size=4))
  assert few.x[0] == 3 and list(few.weight) == [1, 0, 0, 0]


@functools.cache
def slope_of_minibatches():
  """weight of the support -> the gradient of two steps of MAML."""
  learner, episode = maml(small('batch'), Descent(SGD, 2, batch=2)), episode_of('maml:batch')
  params, weighted = random_of(learner, episode), episode.support._replace
  given = lambda weight: episode._replace(support=weighted(weight=weight))
  slope = jax.grad(lambda params, weight: learner.loss(KEY, params, given(weight))[0])
  return functools.partial(jax.jit(slope), params)


@pytest.mark.slow
@pytest.mark.parametrize('present', [0, 2])
def test_padded_supports_have_gradients(present):
  """Batch statistics of a minibatch that holds nothing, and of one that holds little."""
  weight = np.arange(len(episode_of('maml:batch').support.x)) < present
  slope = slope_of_minibatches()(weight.astype(np.float32))
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
