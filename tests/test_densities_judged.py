"""What is measured of densities: the exact posterior is calibrated, and surer ones are not."""

import jax.numpy as jnp
import numpy as np
import pytest

from metakit.densities import gaussian, objective_of
from metakit.densities.gaussian import raw_of
from metakit.episodes import functions as f
from metakit.evaluation import calibration_error, evaluate, judge_beside, judge_density
from metakit.evaluation.densities import LEVELS
from metakit.keys import roots
from metakit.learners.bayes_density import bayes_density, posterior_density
from metakit.objectives import squared_error

CLASS, NOISE = f.dense(2), 0.5
EXACT, OBJECTIVE = bayes_density(CLASS, NOISE), objective_of(posterior_density(CLASS))
TEST = {'source': f.functions(CLASS, 3, 16, noise=NOISE), 'root': roots(0).test, 'episodes': 600}


def surer(times):
  """Predicts the exact mean with a deviation that is so many times too small."""

  def predict(fitted, x):
    outputs = EXACT.predict(fitted, x)
    mean, variance = OBJECTIVE.density.mean(outputs), OBJECTIVE.density.variance(outputs)
    return jnp.stack([mean, raw_of(variance**0.5 / times, 1e-3)], axis=-1)

  return EXACT._replace(predict=predict, prefixes=None)


@pytest.fixture(scope='module')
def exact():
  return evaluate(EXACT, OBJECTIVE, {}, judge=judge_density, **TEST)


def test_intervals_of_the_exact_posterior_hold_what_they_say(exact):
  np.testing.assert_allclose(exact['coverage'].mean(0), LEVELS, atol=0.025)
  error = calibration_error(exact['coverage'])
  assert error.mean < 0.015 and 0 < error.ci95 < 0.02
  np.testing.assert_allclose(exact['nats'], -exact['loss'], rtol=1e-5)
  expected = 2 * np.sqrt(exact['squared_error'].mean()) / np.sqrt(4 * np.pi)  # of a normal density
  assert exact['crps'].mean() == pytest.approx(expected, rel=0.1)


def test_coverage_is_averaged_over_episodes_before_it_is_compared():
  """Two episodes that are off in opposite ways are calibrated together."""
  assert calibration_error([[0.0], [1.0]], [0.5]).mean == 0
  assert calibration_error([[0.0], [0.6]], [0.5]).mean == pytest.approx(0.2)


def test_a_learner_that_is_too_sure_has_a_calibration_error(exact):
  found = evaluate(surer(3.0), objective_of(gaussian()), {}, judge=judge_density, **TEST)
  assert calibration_error(found['coverage']).mean > 0.2
  np.testing.assert_allclose(found['squared_error'], exact['squared_error'], rtol=1e-3)
  # Of the true variance v and the predicted v / 9 the excess is (9 - 1) / 2 - log 3.
  assert (exact['nats'] - found['nats']).mean() == pytest.approx(4 - np.log(3), rel=0.15)


def test_a_reference_may_have_an_objective_of_its_own():
  judge = judge_beside(EXACT, OBJECTIVE)
  few = {**TEST, 'episodes': 100}
  found = evaluate(surer(1.0), objective_of(gaussian()), {}, judge=judge, **few)
  np.testing.assert_allclose(found['loss'], found['reference/loss'], atol=2e-3)
  np.testing.assert_allclose(
    found['difference'], found['loss'] - found['reference/loss'], atol=1e-5
  )


def test_numbers_have_no_coverage():
  with pytest.raises(ValueError, match='this objective is of no density'):
    evaluate(EXACT, squared_error, {}, judge=judge_density, **TEST)
