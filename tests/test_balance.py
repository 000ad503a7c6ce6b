"""Sampling against weights: the same expected gradient, and its variance as the formula says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.balance import (
  Moments,
  cooldown,
  family_shares,
  gradient_moments,
  gradient_variance,
  loss_weights,
  weigh_families,
)
from metakit.episodes import mixture, sinusoid
from metakit.learners import cnp
from metakit.types import Episode, Examples
from tests.episodes.test_chance import SMALLEST_P, follows

SIZES = 1000.0, 200.0, 50.0
KEY = jax.random.key(0)


@pytest.mark.parametrize('temperature', [0.5, 1, 3, 5])
def test_shares_are_powers_of_sizes(temperature):
  powers = np.array(SIZES) ** (1 / temperature)
  shares, weights = family_shares(SIZES, temperature), loss_weights(SIZES, temperature)
  np.testing.assert_allclose(shares, powers / powers.sum())
  by_size = np.array(SIZES) / sum(SIZES)
  np.testing.assert_allclose(weights * by_size, shares)


def test_shares_of_sizes_whose_powers_are_no_floats():
  np.testing.assert_allclose(family_shares([1e300, 1e300], 0.01), [0.5, 0.5])
  np.testing.assert_allclose(family_shares([1e-300, 1e300], np.inf), [0.5, 0.5])


@pytest.mark.parametrize(
  ('sizes', 'temperature', 'message'),
  [
    ([], 1, 'one above 0 for each family'),
    ([1, 0], 1, 'one above 0 for each family'),
    ([1, np.nan], 1, 'one above 0 for each family'),
    ([[1, 2]], 1, 'one above 0 for each family'),
    ([1, 2], 0, 'temperature=0 is not positive'),
    ([1, 2], np.nan, 'temperature=nan is not positive'),
  ],
)
def test_sizes_and_temperatures_that_are_none(sizes, temperature, message):
  for make in (family_shares, loss_weights):
    with pytest.raises(ValueError, match=message):
      make(sizes, temperature)
  with pytest.raises(ValueError, match=message):
    cooldown(sizes, 5, hot=temperature)
  with pytest.raises(ValueError, match='steps=0'):
    cooldown([1, 2], 0)


def known(gradients):
  return Moments(jnp.asarray(gradients.mean(0)), jnp.asarray((gradients**2).sum(1).mean()))


def test_the_closed_form_is_the_sum_over_all_tasks():
  """Of three finite families, by the probability of each of their tasks."""
  random = np.random.default_rng(0)
  families = [random.normal(i, 1 + i, (n, 4)) for i, n in enumerate((40, 8, 2))]
  moments, by_size = [known(each) for each in families], family_shares(SIZES)
  for shares, weights in (
    (family_shares(SIZES, 5), np.ones(3)),
    (by_size, loss_weights(SIZES, 5)),
  ):
    each = np.concatenate([w * g for w, g in zip(weights, families, strict=True)])
    p = np.concatenate([np.full(len(g), s / len(g)) for s, g in zip(shares, families, strict=True)])
    mean = p @ each
    expected = p @ ((each - mean) ** 2).sum(1)
    assert gradient_variance(moments, shares, weights) == pytest.approx(expected, rel=1e-5)
    assert gradient_variance(moments, shares, weights, tasks=4) == pytest.approx(expected / 4)
  np.testing.assert_allclose(known(families[0]).variance, families[0].var(0).sum(), rtol=1e-5)


def excess(squares, temperature):
  """By how much weights have more variance than the temperature that they stand for."""
  moments = [Moments(jnp.zeros(1), jnp.float32(square)) for square in squares]
  weighed = gradient_variance(moments, family_shares(SIZES), loss_weights(SIZES, temperature))
  return weighed - gradient_variance(moments, family_shares(SIZES, temperature))


def test_weights_have_more_variance_if_all_gradients_are_alike_and_else_need_not():
  """Theorems 2 and 3, and a case that their proof leaves out: rare families with small gradients.

  In the first the excess is sum(p(i; t)^2 / p(i; 1)) - 1, as in Figure 2 of the paper.
  """
  alike = [excess([1, 1, 1], t) for t in (1, 2, 3, 5, 100)]
  assert alike[0] == pytest.approx(0) and (np.diff(alike) > 0).all()
  shares = family_shares(SIZES, 5)
  assert alike[3] == pytest.approx((shares**2 / family_shares(SIZES)).sum() - 1)
  assert excess([1, 0.01, 0.01], 5) < 0


FEW, MANY = 10_000, 50_000
SCALES = 0.4, 0.8, 1.3  # of the targets: families differ in their gradients


def scaled(scale):
  def sampler(key):
    support, query, info = sinusoid(4, 4, amplitude=(1.0, 2.0))(key)
    part = lambda examples: examples._replace(y=scale * examples.y)
    return Episode(part(support), part(query), info)

  return sampler


@pytest.fixture(scope='module')
def measured():
  """The moments of each family, of temperature 5, and of the weights that stand for it."""
  learner = cnp(1, width=4, depth=1, decoder_depth=1)
  params = jax.jit(learner.init)(KEY, scaled(1.0)(KEY))
  moments = lambda learner, sampler, seed, draws: gradient_moments(
    learner, params, sampler, key=jax.random.key(seed), draws=draws, at_once=1024
  )
  of_family = lambda seed, scale: moments(learner, scaled(scale), seed, FEW)
  all_three = jax.jit(jax.vmap(of_family))(jnp.arange(3), jnp.array(SCALES))
  each = [jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], all_three) for i in range(3)]
  families = list(map(scaled, SCALES))
  drawn = mixture(families, family_shares(SIZES, 5))
  weighed = weigh_families(learner, loss_weights(SIZES, 5))
  by_size = mixture(families, family_shares(SIZES))
  return each, moments(learner, drawn, 3, MANY), moments(weighed, by_size, 4, MANY)


def test_the_variance_of_real_gradients_is_that_of_the_formula(measured):
  each, drawn, weighed = measured
  closed = gradient_variance(each, family_shares(SIZES, 5))
  closed_weighed = gradient_variance(each, family_shares(SIZES), loss_weights(SIZES, 5))
  assert drawn.variance == pytest.approx(closed, rel=0.05)
  assert weighed.variance == pytest.approx(closed_weighed, rel=0.05)
  assert closed_weighed > 4 * closed


def test_both_estimate_the_same_gradient(measured):
  """Within three standard errors, which losses without weights are far from."""
  each, drawn, weighed = measured
  means = np.stack([family.mean for family in each])
  shares = family_shares(SIZES, 5)
  expected, unweighed = shares @ means, family_shares(SIZES) @ means
  known = sum(s**2 * f.variance / FEW for s, f in zip(shares, each, strict=True))
  away = lambda mean, other: np.linalg.norm(mean - other.mean)
  for ours in (drawn, weighed):
    error = np.sqrt(ours.variance / MANY + known)
    assert away(expected, ours) < 3 * error < 0.5 * away(unweighed, ours)


def test_a_loss_that_changes_in_training_is_weighed_and_measured_too():
  part = Examples(jnp.ones((1, 1)), jnp.ones((1, 1)))
  sampler = lambda key: Episode(part, part, {'component': jnp.int32(1)})
  loss = lambda key, params, episode: (params, {})
  learner = cnp(1)._replace(
    loss=loss, loss_at=lambda step, *given: (step * loss(*given)[0], {'step': step})
  )
  weighed = weigh_families(learner, [1, 4])
  value, metrics = weighed.loss_at(3, KEY, jnp.float32(2), sampler(KEY))
  assert value == 24 and metrics == {'step': 3}
  for draws in (3, 4, 5):  # of which two are computed at once
    measured = gradient_moments(
      weighed, jnp.float32(2), sampler, key=KEY, draws=draws, step=5, at_once=2
    )
    assert measured.mean.tolist() == [20] and measured.square == 400 and measured.variance == 0


def test_episodes_without_a_family_or_a_weight():
  learner = weigh_families(cnp(1)._replace(loss=lambda *given: (jnp.float32(1), {})), [1, 4])
  part = Examples(jnp.ones((1, 1)), jnp.ones((1, 1)))
  for info in ((), {'amplitude': 1}):
    with pytest.raises(ValueError, match=r'draw them by metakit\.episodes\.mixture'):
      learner.loss(KEY, {}, Episode(part, part, info))
  beyond = Episode(part, part, {'component': jnp.int32(2)})
  assert np.isnan(learner.loss(KEY, {}, beyond)[0])  # training then stops, and names the step


def test_a_mixture_cools_down_in_training_and_tests_are_of_all_families_alike():
  families = list(map(scaled, SCALES))
  source, keys = mixture(families, stages=cooldown(SIZES, 7)), jax.random.split(KEY, 4000)
  at = lambda step: jax.vmap(lambda key: source.schedule(step)(key).info['component'])(keys)
  early, last, late = jax.jit(jax.vmap(at))(jnp.array([0, 6, 7]))
  hot, cold = family_shares(SIZES, 5), family_shares(SIZES)
  assert follows(np.asarray(early), hot) > SMALLEST_P and follows(early, cold) < SMALLEST_P
  assert early.tolist() == last.tolist()
  assert follows(np.asarray(late), cold) > SMALLEST_P
  alike = jax.jit(jax.vmap(source))(keys).info['component']
  assert follows(np.asarray(alike), np.ones(3) / 3) > SMALLEST_P


def test_stages_begin_in_any_order_after_the_first_weights():
  families = list(map(scaled, SCALES))
  source = mixture(families, [1, 0, 0], stages={9: [0, 0, 1], 4: [0, 1, 0]})
  drawn = jax.jit(lambda step: source.schedule(step)(KEY).info['component'])
  assert [int(drawn(step)) for step in (0, 3, 4, 8, 9, 99)] == [0, 0, 1, 1, 2, 2]
  with pytest.raises(ValueError, match='a stage begins at step -1'):
    mixture(families, stages={-1: [1, 1, 1]})
  with pytest.raises(ValueError, match='one for each of 3 samplers'):
    mixture(families, stages={0: [1, 1]})
