"""How good predicted densities are: nats, CRPS, and how often intervals hold the target."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from metakit.absent import blanked
from metakit.densities.density import by_number
from metakit.estimates import NORMAL_95, Estimate
from metakit.objectives import summable, weighted_mean
from metakit.types import Episode, Key, MetaLearner, Metrics, Objective, Params

LEVELS = tuple(round(0.05 * k, 2) for k in range(1, 20))  # of central intervals
RESAMPLES = 1000


def judge_density(
  learner: MetaLearner, objective: Objective, params: Params, key: Key, episode: Episode
) -> Metrics:
  """Returns the metrics of the query set, and how good the density of each target is by itself.

  Beside the metrics of the objective these are 'nats', log p of a target; 'crps', in units of y;
  and 'coverage' [levels], the share of targets within the central interval of each of LEVELS.

  Raises:
    ValueError: for an objective that is of no density.

  >>> import jax
  >>> from metakit.densities import gaussian, objective_of
  >>> from metakit.types import Examples
  >>> learner = MetaLearner(None, lambda *_: None, lambda _, x: jnp.zeros((len(x), 2)), None)
  >>> queries = Examples(jnp.zeros((2, 1)), jnp.array([[0.0], [9.0]]))
  >>> parts = learner, objective_of(gaussian()), {}, 0, Episode(None, queries)
  >>> measured = jax.jit(lambda: judge_density(*parts))()
  >>> f'{measured["coverage"][-1]:.1f}'  # one of the two is very improbable
  '0.5'
  """
  density = objective.density
  if density is None:
    raise ValueError('this objective is of no density; use one such as --objective=gaussian')
  fitted = learner.adapt(key, params, episode.support)
  outputs = learner.predict(fitted, blanked(episode.query).x)
  metrics = objective(outputs, episode.query)[1]
  outputs, query = summable(outputs, episode.query)
  parameters, y = by_number(outputs, density.size), jnp.asarray(query.y, outputs.dtype)
  mean = lambda values: weighted_mean(values.mean(-1), query.weight)
  off = jnp.abs(2 * density.cdf(parameters, y) - 1)  # the level of the interval that ends in y
  coverage = jnp.stack([mean((off <= level) * 1.0) for level in LEVELS])
  scores = {
    'nats': mean(density.log_density(parameters, y)),
    'crps': mean(density.crps(parameters, y)),
  }
  return {**metrics, **scores, 'coverage': coverage}


def calibration_error(coverage: Any, levels: Any = LEVELS) -> Estimate:
  """Returns the mean over levels of how far the coverage of all episodes is from the level.

  The interval is by resampling episodes. The error is never negative. So for a learner that is
  calibrated it is above 0 by chance, by about its interval.

  Args:
    coverage: [episodes, levels], the share of the targets of each episode.
    levels: [levels].

  >>> f'{calibration_error([[0.5, 1.0], [0.3, 0.8]], [0.5, 0.8]).mean:.2f}'  # 0.4 and 0.9
  '0.10'
  """
  values, wanted = np.asarray(coverage, np.float64), np.asarray(levels, np.float64)
  error = lambda means: np.abs(means - wanted).mean(-1)
  generator, episodes = np.random.default_rng(0), len(values)
  shares = generator.multinomial(episodes, np.full(episodes, 1 / episodes), RESAMPLES) / episodes
  spread = float(error(shares @ values).std())
  return Estimate(float(error(values.mean(0))), NORMAL_95 * spread, episodes)
