"""Objectives against formulas, and rows of weight 0 that must not count at all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metakit.objectives import (
  classification,
  cross_entropy,
  density,
  regression,
  squared_error,
  weighted_mean,
)
from metakit.types import Examples

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(5, 3)).astype(np.float32)
LABELS = np.array([0, 2, 1, 1, 0])
TARGETS = RNG.normal(size=(5, 3)).astype(np.float32)
WEIGHT = np.array([1, 0, 1, 1, 0], np.float32)
OBJECTIVES = {'cross_entropy': (cross_entropy, LABELS), 'squared_error': (squared_error, TARGETS)}


def judged(objective, outputs, y, weight=None):
  """The loss and the metrics, by one program."""
  return jax.jit(lambda *given: objective(*given))(outputs, Examples(None, y, weight))


@functools.cache
def slope(objective):
  """Compiled: the loss and its gradient."""
  return jax.jit(jax.value_and_grad(lambda o, y, w: objective(o, Examples(None, y, w))[0]))


each = pytest.mark.parametrize(('objective', 'y'), OBJECTIVES.values(), ids=OBJECTIVES)


def test_cross_entropy_is_the_mean_negative_log_likelihood():
  probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
  loss, metrics = judged(cross_entropy, LOGITS, LABELS)
  np.testing.assert_allclose(loss, -np.log(probabilities[range(5), LABELS]).mean(), rtol=1e-6)
  np.testing.assert_allclose(metrics['loss'], loss)
  np.testing.assert_allclose(metrics['accuracy'], (LOGITS.argmax(1) == LABELS).mean())


def test_equal_logits_cost_log_ways():
  loss, _ = judged(cross_entropy, np.zeros((5, 3), np.float32), LABELS)
  np.testing.assert_allclose(loss, np.log(3), rtol=1e-6)


def test_squared_error_is_the_mean_over_examples_and_outputs():
  loss, metrics = judged(squared_error, LOGITS, TARGETS)
  np.testing.assert_allclose(loss, np.square(LOGITS - TARGETS).mean(), rtol=1e-6)
  assert metrics == {'loss': loss}


@each
@pytest.mark.parametrize('garbage', [1e9, np.inf, np.nan])
def test_rows_of_weight_0_do_not_count(objective, y, garbage):
  """Neither in the loss nor in its gradient."""
  kept = WEIGHT > 0
  outputs = np.where(kept[:, None], LOGITS, np.float32(garbage))
  loss, grads = slope(objective)(outputs, y, WEIGHT)
  expected, wanted = slope(objective)(LOGITS[kept], y[kept], None)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  np.testing.assert_allclose(np.asarray(grads)[kept], wanted, rtol=1e-6)
  if np.isfinite(garbage):
    assert not np.asarray(grads)[~kept].any()


@each
def test_no_row_left_costs_nothing(objective, y):
  loss, metrics = judged(objective, LOGITS, y, np.zeros(5, np.float32))
  assert loss == 0 and all(value == 0 for value in metrics.values())


def test_weighted_mean_is_the_weighted_mean():
  values, weight = RNG.normal(size=5), RNG.uniform(size=5)
  expected = np.average(values, weights=weight)
  np.testing.assert_allclose(weighted_mean(values, weight), expected, 1e-5)
  np.testing.assert_allclose(weighted_mean(values.astype(np.float32), None), values.mean(), 1e-5)


def test_targets_that_would_broadcast_are_refused():
  with pytest.raises(ValueError, match=r'\(5, 1\).*\(5,\).*\[examples, outputs\]'):
    squared_error(LOGITS[:, :1], Examples(None, TARGETS[:, 0]))


def test_what_is_not_finite_is_no_prediction():
  """argmax counts NaN as the largest; a class that a model rules out may have -inf."""
  broken = np.array([[np.nan, 0, 0], [0, np.nan, 0], [np.inf, 0, 0], [0, 1, -np.inf]], np.float32)
  _, metrics = judged(cross_entropy, broken, np.array([0, 1, 0, 1]))
  assert metrics['accuracy'] == 0.25


@pytest.mark.parametrize('weight', [None, np.ones(5, np.float32)])
def test_an_example_without_a_label_does_not_count(weight):
  kept = np.array([0, 2, 3])
  y = np.where(np.isin(np.arange(5), kept), LABELS, -1)
  loss, grads = slope(cross_entropy)(LOGITS, y, weight)
  expected, wanted = slope(cross_entropy)(LOGITS[kept], LABELS[kept], None)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  np.testing.assert_allclose(np.asarray(grads)[kept], wanted, rtol=1e-6)
  assert not np.asarray(grads)[[1, 4]].any()


@pytest.mark.parametrize('label', [-2, 3])
def test_labels_without_an_output_are_refused_where_they_are_known(label):
  with pytest.raises(ValueError, match=f'label {label} is none of the classes 0 to 2'):
    cross_entropy(LOGITS, Examples(None, np.array([0, 1, label, 0, 1])))


def test_errors_in_half_precision_are_summed_in_float32():
  """512 errors of 1 in bfloat16, which has no number between 256 and 258."""
  targets = (np.arange(4096)[:, None] % 2).astype(jnp.bfloat16)
  loss, _ = judged(squared_error, 0 * targets, targets)
  assert loss == 0.5


def gaussian_losses(outputs, y):
  mean, log_variance = jnp.split(outputs, 2, axis=-1)
  exponent = jnp.square(y - mean) / jnp.exp(log_variance)
  return 0.5 * (exponent + log_variance + jnp.log(2 * jnp.pi)).sum(-1)


def gaussian_divergence(outputs, reference):
  return jnp.square(outputs - reference).sum(-1)  # any: it is handed on


GAUSSIAN = density(
  gaussian_losses, 2, point=lambda o: jnp.split(o, 2, -1)[0], divergence=gaussian_divergence
)


def test_an_objective_says_what_its_outputs_are():
  kinds = [objective.kind for objective in (cross_entropy, squared_error, GAUSSIAN)]
  assert kinds == ['classification', 'regression', 'density']
  assert [o.outputs_per_target for o in (cross_entropy, squared_error, GAUSSIAN)] == [1, 1, 2]
  broken = np.array([[0, 2, 1], [np.nan, 0, 0]], np.float32)
  assert cross_entropy.point(broken).tolist() == [1, -1]
  np.testing.assert_array_equal(squared_error.point(LOGITS), LOGITS)


def test_what_several_networks_say_together_is_the_mean():
  """Of probabilities, which are no mean of logits, or of predictions."""
  members = 3 * RNG.normal(size=(4, 5, 3))
  probabilities = np.exp(members) / np.exp(members).sum(-1, keepdims=True)
  together = np.asarray(jax.nn.softmax(cross_entropy.pool(jnp.asarray(members, jnp.float32))))
  np.testing.assert_allclose(together, probabilities.mean(0), rtol=1e-5)
  np.testing.assert_allclose(squared_error.pool(members), members.mean(0))


def test_an_objective_of_ones_own_counts_rows_as_the_usual_ones_do():
  """Weights, missing labels and the accuracy are not its affair."""
  absolute = regression(lambda outputs, y: jnp.abs(outputs - y).sum(-1))
  loss, _ = judged(absolute, LOGITS, TARGETS, WEIGHT)
  np.testing.assert_allclose(loss, np.abs(LOGITS - TARGETS).sum(-1)[WEIGHT > 0].mean(), rtol=1e-6)
  twice = classification(lambda o, y: 2 * optax.softmax_cross_entropy_with_integer_labels(o, y))
  labels = np.where(np.arange(5) == 1, -1, LABELS)
  (double, ours), (single, theirs) = (
    judged(each, LOGITS, labels, WEIGHT) for each in (twice, cross_entropy)
  )
  np.testing.assert_allclose(double, 2 * single)
  assert ours['accuracy'] == theirs['accuracy'] and ours['loss'] == double


def test_a_density_is_the_mean_negative_log_likelihood_and_checks_its_outputs():
  outputs = np.concatenate([LOGITS, np.log(WEIGHT[:, None] + 1) * np.ones(3, np.float32)], 1)
  loss, _ = judged(GAUSSIAN, outputs, TARGETS)
  scale = np.sqrt(WEIGHT[:, None] + 1)
  normal = np.exp(-0.5 * ((TARGETS - LOGITS) / scale) ** 2) / (scale * np.sqrt(2 * np.pi))
  np.testing.assert_allclose(loss, -np.log(normal).sum(-1).mean(), rtol=1e-5)
  with pytest.raises(ValueError, match=r'\(5, 3\) for targets of shape \(5, 3\).*\(5, 6\)'):
    GAUSSIAN(LOGITS, Examples(None, TARGETS))
