"""The exact posterior of the targets of a class of functions, as densities.

Its mean is that of metakit.learners.bayes, which says for which priors it is known. After some
examples a target has a normal distribution under each component of the prior: a Gaussian over
weights (Bishop, Pattern Recognition and Machine Learning, 2006, eq. 3.58), a function of a list, or
a Gaussian process (Rasmussen and Williams 2006, eq. 2.26). Its density is the mixture of these,
each in proportion to its evidence. No learner has a smaller expected -log p.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from metakit.builder import meta_learner
from metakit.densities import mixture, mixture_parameters, objective_of
from metakit.episodes.functions import FunctionClass, Process
from metakit.learners.bayes import check_one_output, component_posteriors, variance_of
from metakit.types import Density, Examples, Fitted, Key, MetaLearner, Params, presence

LEAST = 1e-6  # deviation of a component; that of the noise is larger
MOST = 4096  # components: each example has as many densities


def bayes_density(function_class: FunctionClass, noise: float) -> MetaLearner:
  """Predicts the posterior density of each target under a known prior, the best there is.

  Args:
    function_class: one of metakit.episodes.functions; its `priors` are the prior.
    noise: standard deviation of the noise on y, above 0.

  Returns:
    A MetaLearner without parameters. Its outputs are those of `posterior_density`. Weights of
    examples count as there (above 0) or absent.

  Raises:
    ValueError: if the class has no known posterior, one of too many components, or there is no
      noise: a target that is known for certain has no density.

  >>> from metakit.episodes.functions import dense
  >>> learner, x = bayes_density(dense(1), noise=1.0), jnp.array([[1.0]])
  >>> support, density = Examples(x, jnp.array([[2.0]])), posterior_density(dense(1))
  >>> adapted = lambda key: learner.predict(learner.adapt(key, {}, support), x)
  >>> variance = jax.jit(lambda key: density.variance(adapted(key)))
  >>> f'{variance(jax.random.key(0))[0]:.2f}'  # half of it is of the weight, and 1 of the noise
  '1.50'
  """
  if not (math.isfinite(noise) and noise > 0):
    raise ValueError(
      f'noise={noise}: the density of a target without noise is infinite; use noise>0'
    )
  density = posterior_density(function_class)
  priors = function_class.priors
  assert priors is not None

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    del key, params  # nothing is drawn and nothing was learned
    check_one_output(support)
    return support.x, support.y[:, 0], presence(support)

  def predict(fitted: Fitted, x: jax.Array | None) -> jax.Array:
    seen, y, present = fitted
    known: dict[str, Any] = {'y': y, 'present': present, 'asked': x, 'noise': noise**2}
    with jax.default_matmul_precision('highest'):
      variance = variance_of(noise, [prior for _, prior in priors], seen, present=present)
      each = [component_posteriors(prior, variance, seen, **known) for _, prior in priors]
    mean, variance = (jnp.concatenate([getattr(p, n) for p in each]) for n in ('mean', 'variance'))
    weights = [
      log_weight + _log_weight(prior) + posterior.log_evidence
      for (log_weight, prior), posterior in zip(priors, each, strict=True)
    ]
    parts = jnp.broadcast_to(jnp.concatenate(weights), mean.shape), mean, jnp.sqrt(variance)
    return mixture_parameters(*(part.T for part in parts), least=LEAST)

  def prefixes(key: Key, params: Params, support: Examples) -> jax.Array:
    return predict(adapt(key, params, support), None)

  return meta_learner(
    lambda key, episode: {}, adapt, predict, objective=objective_of(density), prefixes=prefixes
  )


def posterior_density(function_class: FunctionClass) -> Density:
  """Returns the family that the posterior of a class of functions belongs to.

  Raises:
    ValueError: if the class has no known posterior, or one of more than MOST components.

  >>> from metakit.episodes.functions import gaussian_mixture
  >>> posterior_density(gaussian_mixture(3)).size  # two components
  6
  """
  if function_class.priors is None:
    raise ValueError(f'no exact posterior is known for the class {function_class.name}')
  sizes = [
    1 if isinstance(prior, Process) else len(prior.log_weight) for _, prior in function_class.priors
  ]
  if sum(sizes) > MOST:
    raise ValueError(
      f'the posterior of the class {function_class.name} has {sum(sizes):,} components, more than '
      f'{MOST:,}; use fewer inputs, or metakit.learners.bayes for its mean'
    )
  return mixture(sum(sizes), least=LEAST)


def _log_weight(prior: Any) -> jax.Array:
  """Returns the logarithm of each component's weight, [components, 1]."""
  return jnp.zeros((1, 1)) if isinstance(prior, Process) else prior.log_weight[:, None]
