"""Borders of the bar distribution, also of priors whose targets repeat."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from metakit.data.arrays import arrays
from metakit.densities import bar, borders_of, objective_of
from metakit.densities.bar import borders_between
from metakit.episodes import few_shot, sinusoid
from metakit.sources import as_source
from metakit.types import Episode, Examples


def test_borders_are_quantiles_midway_between_targets():
  y = np.random.default_rng(0).permutation(np.arange(12.0))
  assert borders_between(y, 4) == (0.0, 2.5, 5.5, 8.5, 11.0)


def test_buckets_have_equal_shares_of_the_targets():
  y = np.random.default_rng(0).normal(size=100_000)
  borders = borders_between(y, 10)
  assert len(borders) == 11
  np.testing.assert_allclose(borders[1:-1], stats.norm.ppf(np.arange(1, 10) / 10), atol=0.02)


@pytest.mark.parametrize(
  ('y', 'borders'),
  [
    ([0.0] * 8 + [1.0, 2.0], (0.0, 0.5, 2.0)),  # an atom at the lower end
    ([-2.0, -1.0] + [0.0] * 8, (-2.0, -0.5, 0.0)),  # at the upper
    ([-1.0] + [0.0] * 8 + [4.0], (-1.0, -0.5, 2.0, 4.0)),  # in the middle: a bucket of its own
    ([0.0, 1.0] * 5, (0.0, 0.5, 1.0)),
    (np.repeat(np.arange(8.0), 2), (0.0, 1.5, 3.5, 5.5, 7.0)),  # between, as if they did not repeat
  ],
)
def test_no_bucket_has_the_width_0_whatever_repeats(y, borders):
  assert borders_between(np.array(y), 4) == borders


def test_there_are_never_more_buckets_than_asked_for():
  random = np.random.default_rng(0)
  for buckets in (2, 3, 10):
    for _ in range(50):
      y = random.integers(0, 12, 40) * random.choice([1.0, 1e-6, 1e6])
      borders = np.array(borders_between(y, buckets))
      assert 3 <= len(borders) <= buckets + 1 and (np.diff(borders) > 0).all()
      assert borders[0] == np.float32(y.min()) and borders[-1] == np.float32(y.max())


@pytest.mark.parametrize(
  ('y', 'said'),
  [
    ([1.0, np.nan, np.inf], '2 of 3 targets are NaN or infinite; clean the data first'),
    ([2.0] * 5, 'all 5 targets are 2.0; a density needs targets that differ'),
    ([1.0, 1 + 1e-12], 'targets from 1.0 to 1.000000000001 are too close for float32'),
  ],
)
def test_targets_without_a_density_are_refused(y, said):
  with pytest.raises(ValueError, match=said):
    borders_between(np.array(y), 4)


def test_borders_are_a_pure_function_of_a_source():
  assert borders_of(sinusoid(), 8) == borders_of(sinusoid(), 8)
  with pytest.raises(ValueError, match='buckets=1 are too few'):
    borders_of(sinusoid(), 1)


def test_absent_targets_do_not_count_and_classes_are_refused():
  def sampler(key):
    y = jax.random.uniform(key, (4, 1)).at[3].set(jnp.nan)
    part = Examples(jnp.zeros((4, 1)), y, jnp.array([1.0, 1.0, 1.0, 0.0]))
    return Episode(part, part)

  assert borders_of(as_source(sampler), 2)[1] == pytest.approx(0.5, abs=0.03)
  table = arrays(np.zeros((4, 1), np.float32), np.array([0, 0, 1, 1]))
  with pytest.raises(ValueError, match='targets are classes; a density is for a regression'):
    borders_of(few_shot(table, ways=2, shots=1, queries=1))


def test_ends_are_halves_of_normals_with_half_of_their_mass_in_the_bucket():
  ours, logits = bar([-4.0, -1.0, 1.0, 2.0]), jnp.log(jnp.array([0.2, 0.5, 0.3]))
  with jax.enable_x64(True):
    y = jnp.array([-4.0, -1.0, 1.0, 2.0])
    found = jax.jit(ours.cdf)(logits.astype(jnp.float64), y)
  np.testing.assert_allclose(found, [0.1, 0.2, 0.7, 0.85], atol=1e-7)


def test_the_loss_is_the_log_probability_of_a_bucket_less_the_log_of_its_width():
  logits = jnp.array([[0.0, 1.0, -1.0]])
  loss, metrics = objective_of(bar([-4.0, -1.0, 1.0, 2.0]))(
    logits, Examples(None, jnp.zeros((1, 1)))
  )
  assert float(loss) == pytest.approx(-(1 - np.log(np.exp([0, 1, -1]).sum()) - np.log(2)), rel=1e-6)
  assert set(metrics) == {'loss', 'squared_error'}


@pytest.mark.parametrize(
  ('borders', 'said'),
  [
    ([0.0, 1.0], 'make no 2 buckets'),
    ([0.0, 1.0, 1.0], 'each larger than the one before'),
    ([0.0, 1.0, np.inf], 'must be finite'),
  ],
)
def test_borders_without_sense_are_refused(borders, said):
  with pytest.raises(ValueError, match=said):
    bar(borders)


def test_several_networks_together_are_their_mixture():
  ours = bar([-4.0, -1.0, 1.0, 2.0])
  logits = jnp.array([[0.0, 1.0, -1.0], [2.0, 0.0, 0.5]])

  def both(y):
    pooled = ours.pool(logits[:, None])[0]
    return ours.cdf(pooled, y), ours.cdf(logits, y).mean()

  np.testing.assert_allclose(*jax.jit(both)(jnp.array(0.3)), rtol=1e-6)
