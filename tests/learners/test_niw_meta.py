"""NIW-Meta: its limits, a linear-Gaussian task with a known posterior, and its flat memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from metakit.densities import gaussian, objective_of
from metakit.learners.descent import Descent
from metakit.learners.iterates import approximating
from metakit.learners.maml import maml
from metakit.learners.niw_meta import niw_meta
from metakit.learners.normal_inverse_wishart import (
  NormalInverseWishart,
  local_divergence,
  local_posterior,
)
from metakit.meta_gradient.inner import by_optax
from metakit.models import Model, from_linen
from metakit.objectives import cross_entropy, squared_error
from metakit.types import Episode, Examples
from tests.learners.judged import episode_of
from tests.learners.rows import KEY, SGD, perceptron
from tests.learners.test_maml import ALPHA, CENTRE, THE_PARAMETERS, THETA, half_square, quadratic

# y = x w + noise: the columns of x are orthogonal, so that the weights are independent.
X = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 3)))[0] * [1.0, 2.0, 3.0]
Y = X @ [[0.5], [-1.0], [2.0]] + 0.3 * np.random.default_rng(1).normal(size=(8, 1))
NOISE = 0.09
LINE = Model(
  lambda key, x: {'w': jnp.zeros((3, 1))}, lambda params, x, weight=None: x @ params['w']
)
PRIOR = NormalInverseWishart(
  np.array([0.1, 0.2, -0.3]), np.array([0.5, 1.0, 2.0]), np.array(2.0), np.inf
)
EXACT_PRECISION = (X**2).sum(0) / NOISE + 1 / PRIOR.variance
EXACT_MEAN = (X.T @ Y[:, 0] / NOISE + PRIOR.mean / PRIOR.variance) / EXACT_PRECISION
FITS = Descent(optax.sgd(0.1), 4, test_steps=30)


def params_of(prior):
  column = lambda values: jnp.asarray(values)[:, None]
  return {
    'mean': {'w': column(prior.mean)},
    'log_variance': {'w': column(np.log(prior.variance))},
    'log_excess': jnp.log(prior.excess),
  }


@functools.cache
def line_posterior():
  """The local posterior of a linear-Gaussian task, from 4 iterates of gradient descent."""
  loss = lambda w, slow, data, step: jnp.square(data[0] @ w - data[1]).mean()
  approximate = approximating(by_optax(loss, optax.sgd(0.1)), 4, curvature='slope', most=1e6)
  run = lambda: approximate(PRIOR.mean[:, None], (X, Y), len(X) / (2 * NOISE))[0]
  with jax.enable_x64(True):
    return jax.device_get(jax.jit(lambda: local_posterior(PRIOR, run()))())


def test_the_posterior_of_a_linear_gaussian_task_is_the_conjugate_one():
  posterior = line_posterior()
  np.testing.assert_allclose(posterior.mean, EXACT_MEAN, rtol=1e-5)
  np.testing.assert_allclose(posterior.variance, 1 / EXACT_PRECISION, rtol=1e-5)


def test_the_loss_is_the_bound_of_the_conjugate_posterior():
  """Of support and queries together; of a line, the mean of the squared errors is known."""
  with jax.enable_x64(True):
    learner = niw_meta(
      LINE,
      FITS,
      curvature='slope',
      most=1e6,
      temperature=2 * NOISE,
      objective=squared_error,
    )
    episode = Episode(Examples(X[:5], Y[:5]), Examples(X[5:], Y[5:]))
    losses = jax.jit(jax.vmap(learner.loss, (0, None, None)))
    keys = jax.random.split(KEY, 20_000)
    values, metrics = jax.device_get(losses(keys, params_of(PRIOR), episode))
    kept = float(jax.jit(local_divergence)(line_posterior(), PRIOR))
  np.testing.assert_allclose(metrics['divergence'], kept, rtol=1e-9)
  squares = ((X @ EXACT_MEAN - Y[:, 0]) ** 2).sum() + (X**2 / EXACT_PRECISION).sum()
  error = 4 * values.std() / len(values) ** 0.5
  assert abs(values.mean() - (kept + squares / (2 * NOISE))) < error < 0.1


def test_langevin_dynamics_have_the_variance_of_the_posterior():
  """With noise of sqrt(2 rate temperature / examples), for small rates, wherever they begin."""
  rate, temperature, far = 0.04, 2 * NOISE, jnp.full((3, 1), 30.0)
  deviation = (2 * rate * temperature / len(X)) ** 0.5
  x, y = X.astype(np.float32), Y.astype(np.float32)
  loss = lambda w, slow, data, step: jnp.square(data[0] @ w - data[1]).mean()
  kick = lambda w, step: w + deviation * jax.random.normal(jax.random.fold_in(KEY, step), w.shape)
  inner = by_optax(loss, optax.sgd(rate))
  approximate = approximating(inner, 150_000, burn_in=1000, most=1e6)
  found = jax.device_get(jax.jit(lambda: approximate(far, (x, y), 1.0, kick)[0])())
  exact = (X**2).sum(0) / NOISE
  np.testing.assert_allclose(found.precision, exact, rtol=0.15)
  minimum = X.T @ Y[:, 0] / NOISE / exact
  np.testing.assert_allclose(found.linear / found.precision, minimum, atol=0.05)


@functools.cache
def inferred(log_variance=None):
  """The networks that predict a linear-Gaussian task: many of them."""
  learner = niw_meta(
    LINE,
    FITS._replace(test_steps=1000),
    temperature=2 * NOISE,
    objective=squared_error,
    samples=4000,
    test_rate=0.1,
  )
  with jax.enable_x64(True):
    given = params_of(PRIOR)
    if log_variance is not None:
      given['log_variance'] = {'w': jnp.full((3, 1), log_variance)}
    return np.asarray(jax.jit(learner.adapt)(KEY, given, Examples(X, Y))['w'])[..., 0]


def test_inference_at_test_time_finds_the_posterior_of_the_mode():
  n0, d = 4.0, 3
  precision = (X**2).sum(0) / NOISE + (n0 + d + 2) / (n0 * PRIOR.variance)
  mean = (X.T @ Y[:, 0] / NOISE + PRIOR.mean * (n0 + d + 2) / (n0 * PRIOR.variance)) / precision
  drawn = inferred()
  assert (np.abs(drawn.mean(0) - mean) < 0.2 * precision**-0.5).all()
  np.testing.assert_allclose(drawn.std(0), precision**-0.5, rtol=0.15)


def test_without_variance_all_tasks_share_their_weights():
  np.testing.assert_allclose(inferred(-60.0), np.tile(PRIOR.mean, (4000, 1)), rtol=0, atol=1e-9)


@pytest.mark.parametrize('variance', [0.25, 4.0])
def test_a_sure_quadratic_pulls_as_reptile_does(variance):
  """With a precision c >> 1 / variance the gradient is that of Reptile, (m0 - iterate) / variance.

  One step on support and query together, 1/2 |theta - centre|^2 each, leads there.
  """
  learner = niw_meta(
    THE_PARAMETERS,
    Descent(optax.sgd(ALPHA)),
    most=1e9,
    objective=half_square,
    samples=1,
  )
  pair = Episode(quadratic(CENTRE), quadratic(CENTRE))
  with jax.enable_x64(True):
    log = {'log_variance': jnp.full(3, np.log(variance)), 'log_excess': jnp.zeros(())}
    slope = jax.jit(jax.grad(lambda p: learner.loss(KEY, p, pair)[0]))
    found = slope({'mean': jnp.asarray(THETA), **log})['mean']
  np.testing.assert_allclose(found, 2 * ALPHA * (THETA - CENTRE) / variance, rtol=1e-6)


def temporaries(learner, params, episode):
  """Bytes that a meta-gradient needs beside its arguments and results, by XLA's analysis."""
  slope = jax.jit(jax.grad(lambda p: learner.loss(KEY, p, episode)[0]))
  return slope.lower(params).compile().memory_analysis().temp_size_in_bytes


def test_memory_does_not_grow_with_inner_steps():
  episode, model = episode_of('reptile'), perceptron()
  start = jax.eval_shape(model.init, KEY, episode.support.x)
  found = {}
  for steps in (2, 32):
    ours, theirs = niw_meta(model, Descent(SGD, steps)), maml(model, Descent(SGD, steps))
    params = jax.eval_shape(ours.init, KEY, episode)
    found[steps] = temporaries(ours, params, episode), temporaries(theirs, start, episode)
  (few, few_of_maml), (many, many_of_maml) = found[2], found[32]
  assert many <= 1.02 * few
  assert many_of_maml > 3 * few_of_maml


OBJECTIVES = {
  'classes': (cross_entropy, lambda o: np.log(np.exp(jax.nn.log_softmax(o)).mean(0))),
  'values': (squared_error, lambda o: np.asarray(o).mean(0)),
  'density': (objective_of(gaussian()), objective_of(gaussian()).pool),
}


@pytest.mark.parametrize('name', OBJECTIVES)
def test_a_few_networks_predict_together(name):
  objective, pooled = OBJECTIVES[name]
  model = LINE._replace(apply=lambda params, x, weight=None: x @ params['w'] * np.ones(2))
  learner = niw_meta(model, FITS, samples=3, objective=objective)
  fitted = {'w': np.random.default_rng(0).normal(size=(3, 3, 1)).astype(np.float32)}
  alone = jnp.stack([model.apply({'w': w}, X.astype(np.float32)) for w in fitted['w']])
  both = learner.predict(fitted, X.astype(np.float32))
  np.testing.assert_allclose(both, pooled(alone), rtol=1e-5, atol=1e-6)


def test_all_training_tasks_share_the_divergence_from_the_first_prior():
  """Of one weight, the prior of q(mu, Sigma) is sure of nothing: its terms are added up here."""
  make = functools.partial(niw_meta, LINE, FITS, objective=squared_error, initial_variance=0.4)
  episode = Episode(Examples(X[:5], Y[:5]), Examples(X[5:], Y[5:]))
  with jax.enable_x64(True):
    loss = lambda n: jax.jit(lambda p: make(num_tasks=n).loss(KEY, p, episode)[0])(params_of(PRIOR))
    few, many, none = (float(loss(n)) for n in (10, 10**9, None))
  assert none == pytest.approx(many, abs=1e-6)
  n0, d, l0 = 4.0, 3, 11.0
  scale = (3.0 * 0.4) / (n0 * PRIOR.variance)  # the first prior has n0 = d, l0 = 1
  shared = 0.5 * (PRIOR.mean**2 / PRIOR.variance + 1 / l0 - 1 + np.log(l0)).sum()
  shared += 0.5 * (n0 * (scale - 1) - d * np.log(scale)).sum()
  from scipy.special import digamma, multigammaln

  halves = (n0 + 1 - np.arange(1, d + 1)) / 2
  shared += 0.5 * (n0 - d) * digamma(halves).sum()
  shared += multigammaln(d / 2, d) - multigammaln(n0 / 2, d)
  assert few - none == pytest.approx(shared / 10 + d / (2 * l0), rel=1e-9)


class Frozen(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(nn.BatchNorm(use_running_average=True)(x))


def test_constants_of_a_network_are_not_drawn():
  episode, model = episode_of('reptile'), from_linen(Frozen())
  learner = niw_meta(model, Descent(SGD, 2), samples=3)
  params = jax.jit(learner.init)(KEY, episode)
  fitted = jax.jit(learner.adapt)(KEY, params, episode.support)
  kept, given = fitted['batch_stats'], params['mean']['batch_stats']
  assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (a == b).all(), kept, given)))
  kernel = fitted['params']['Dense_0']['kernel']
  assert (kernel[0] != kernel[1]).all()


@pytest.mark.parametrize(
  ('given', 'said'),
  [
    ({'curvature': 'hessian'}, "curvature='hessian' is unknown; use one of variance, slope"),
    ({'burn_in': 4}, 'burn_in=4 of 4 steps leaves no iterate; use 0 to 3'),
    ({'noise': -1.0}, 'noise=-1.0 is no deviation'),
    ({'samples': 0}, 'samples=0 predict nothing'),
    ({'most': 0.0}, 'most=0.0 is not positive'),
    ({'initial_variance': 0.0}, 'initial_variance=0.0 is not positive'),
    ({'temperature': -1.0}, 'temperature=-1.0 is not positive'),
    ({'test_rate': 0.0}, 'test_rate=0.0 is not positive'),
    ({'num_tasks': 0}, 'num_tasks=0 is not positive'),
    ({'objective': half_square}, 'does not say what several networks predict together'),
  ],
)
def test_what_makes_no_sense_is_refused(given, said):
  with pytest.raises(ValueError, match=said):
    niw_meta(LINE, FITS, **given)
