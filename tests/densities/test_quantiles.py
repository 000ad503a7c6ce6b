"""The pinball loss: what it is minimal at, and levels that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import mean_pinball_loss

from metakit.densities import pinball, quantiles
from metakit.densities.quantiles import even_levels
from metakit.types import Examples

LEVELS = (0.1, 0.5, 0.8)
OUTPUTS = np.random.default_rng(0).normal(size=(6, 3))
Y = np.random.default_rng(1).normal(size=(6, 1))


def test_the_loss_is_that_of_sorted_quantiles():
  """Twice the mean over levels, as scikit-learn computes each."""
  loss, _ = pinball(LEVELS, least=1e-9)(jnp.asarray(OUTPUTS), Examples(None, jnp.asarray(Y)))
  ordered = np.sort(OUTPUTS, axis=1)
  each = [mean_pinball_loss(Y[:, 0], q, alpha=a) for a, q in zip(LEVELS, ordered.T, strict=True)]
  assert float(loss) == pytest.approx(2 * np.mean(each), rel=1e-5)


def test_the_order_of_outputs_does_not_matter_and_equal_ones_have_a_density():
  family, outputs = quantiles(LEVELS), jnp.array([2.0, 2.0, 2.0])
  assert np.isfinite(jax.jit(family.log_density)(outputs, 2.0))
  found = jax.jit(family.log_density)(jnp.asarray(OUTPUTS, jnp.float32), jnp.asarray(Y[:, 0]))
  turned = jax.jit(family.log_density)(jnp.asarray(OUTPUTS[:, ::-1]), jnp.asarray(Y[:, 0]))
  np.testing.assert_allclose(found, turned, rtol=1e-5)


@pytest.mark.parametrize(
  ('levels', 'said'),
  [
    ((0.0, 0.5), 'a level of a quantile is between 0 and 1'),
    ((0.5, 1.2), 'a level of a quantile is between 0 and 1'),
    ((0.5, float('nan')), 'a level of a quantile is between 0 and 1'),
    ((0.5, 0.5), 'each larger than the one before'),
    ((0.5,), 'give two or more'),
  ],
)
def test_levels_without_sense_are_refused(levels, said):
  with pytest.raises(ValueError, match=said):
    quantiles(levels)
  with pytest.raises(ValueError, match='levels=1 make no distribution'):
    even_levels(1)
