"""Joint densities by one-step predictions: beside the exact ones of a Gaussian process."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from metakit.builder import meta_learner
from metakit.densities import gaussian
from metakit.densities.gaussian import LEAST
from metakit.episodes.kernels import eq
from metakit.evaluation.judges import predict_prefixes
from metakit.evaluation.orders import judge_orders, log_density, sample_jointly
from metakit.learners.in_context import in_context
from metakit.learners.set_parts import NORMAL
from metakit.networks.transformer import transformer
from metakit.types import Episode, Examples, presence

KEY, NOISE, KERNEL = jax.random.key(0), 0.3, eq(0.5)
RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (3, 1)).astype(np.float32)
ASKED = RNG.uniform(-1, 1, (4, 1)).astype(np.float32)
Y, TARGETS = np.sin(3 * X), np.cos(2 * ASKED)
WEIGHT = np.array([1, 0, 1, 1], np.float32)
QUERY = Examples(ASKED, TARGETS, WEIGHT)
EPISODE = Episode(Examples(X, Y), QUERY)


def exact(wrong=0.0):
  """The posterior of a Gaussian process, with noise; `wrong` adds to its deviations."""

  def adapt(key, params, support):
    return support.x, support.y[:, 0], presence(support)

  def predict(fitted, x):
    seen, y, present = fitted
    both = present[:, None] & present
    covariance = jnp.where(both, KERNEL(seen, seen), 0) + NOISE**2 * jnp.eye(len(y))
    across = jnp.where(present, KERNEL(x, seen), 0)
    solved = jnp.linalg.solve(covariance, across.T)
    variance = 1 + NOISE**2 - (across.T * solved).sum(0)
    above = jnp.sqrt(variance) + wrong - LEAST
    return jnp.stack([solved.T @ y, jnp.log(jnp.expm1(above))], 1)

  return meta_learner(lambda *_: {}, adapt, predict, objective=NORMAL)


def test_the_sum_of_one_step_predictions_is_the_joint_density():
  x = np.float64(np.concatenate([X, ASKED[WEIGHT > 0]]))
  y = np.float64(np.concatenate([Y, TARGETS[WEIGHT > 0]])[:, 0])
  covariance = np.exp(-((x - x.T) ** 2) / (2 * 0.5**2)) + NOISE**2 * np.eye(6)
  joint = lambda n: stats.multivariate_normal(cov=covariance[:n, :n]).logpdf(y[:n])
  found = jax.jit(lambda: log_density(exact(), NORMAL, {}, KEY, EPISODE))()
  assert float(found) == pytest.approx(joint(6) - joint(3), abs=1e-4)


def test_a_bayesian_learner_says_the_same_in_every_order_and_others_do_not():
  every = np.array([*itertools.permutations(range(4))])
  turned = jax.vmap(lambda order: jax.tree.map(lambda leaf: jnp.asarray(leaf)[order], QUERY))
  nats_of = lambda query: log_density(exact(0.3), NORMAL, {}, KEY, EPISODE._replace(query=query))
  judge = lambda learner, orders: judge_orders(orders)(learner, NORMAL, {}, KEY, EPISODE)
  right, wrong, nats = jax.jit(
    lambda: (judge(exact(), 8), judge(exact(0.3), 300), jax.vmap(nats_of)(turned(every)))
  )()
  alone = jax.jit(lambda: log_density(exact(), NORMAL, {}, KEY, EPISODE))()
  assert float(right['spread']) < 1e-5 < 1e-4 < float(wrong['spread'])
  np.testing.assert_allclose(wrong['joint'], nats.mean() / 3, rtol=0.05)
  np.testing.assert_allclose(wrong['spread'], nats.std() / 3, rtol=0.15)
  assert float(right['joint']) == pytest.approx(float(alone) / 3, abs=1e-5)


def test_samples_have_the_covariance_of_the_posterior():
  x = np.array([[1.5], [1.6]], np.float32)  # far from the support, and near one another

  @jax.jit
  def draw(keys):
    one = lambda key: sample_jointly(
      exact(), gaussian().quantile, {}, key=key, support=Examples(X, Y), x=x
    )
    return jax.vmap(one)(keys)

  drawn = np.asarray(draw(jax.random.split(KEY, 20_000)))[..., 0]
  seen = np.float64(KERNEL(X, X)) + NOISE**2 * np.eye(3)
  across = np.float64(KERNEL(x, X))
  posterior = np.float64(KERNEL(x, x)) + NOISE**2 * np.eye(2)
  posterior -= across @ np.linalg.solve(seen, across.T)
  np.testing.assert_allclose(np.cov(drawn.T), posterior, atol=0.03)
  np.testing.assert_allclose(drawn.mean(0), across @ np.linalg.solve(seen, Y[:, 0]), atol=0.03)


def test_a_causal_transformer_predicts_densities_and_goes_on_reading():
  """In one pass, by reading on, and by reading all anew."""
  learner = in_context(transformer(2, width=8, depth=1, heads=2), 1, objective=NORMAL)
  whole = Examples(np.concatenate([X, ASKED]), np.concatenate([Y, TARGETS]))

  @jax.jit
  def run():
    params = learner.init(KEY, EPISODE)
    fitted = learner.adapt(KEY, params, EPISODE.support)
    streamed = []
    for number in range(4):
      streamed.append(learner.predict(fitted, ASKED[number : number + 1])[0])
      part = slice(number, number + 1)
      fitted = learner.extend(fitted, Examples(ASKED[part], TARGETS[part]))
    anew = predict_prefixes(learner._replace(prefixes=None), KEY, params, whole)
    spread = judge_orders()(learner, NORMAL, params, KEY, EPISODE)['spread']
    return jnp.stack(streamed), learner.prefixes(KEY, params, whole), anew, spread

  streamed, passed, anew, spread = run()
  np.testing.assert_allclose(streamed, passed[3:], atol=1e-5)
  np.testing.assert_allclose(anew, passed, atol=1e-5)
  assert passed.shape == (7, 2) and float(spread) > 1e-4


def test_one_order_has_no_spread():
  with pytest.raises(ValueError, match='orders=1'):
    judge_orders(1)
