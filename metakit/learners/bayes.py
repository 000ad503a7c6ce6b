"""The Bayes predictor of a class of functions: what no learner can beat, as a learner.

Under squared error the best prediction is the posterior mean of y. It is exact (but for a variance
of the noise below float32's rounding, see `variance_of`) for a mixture of Gaussians over weights
(ridge regression for a single one: Bishop, Pattern Recognition and Machine Learning, 2006, section
3.3), for a list of hypotheses (dMMSE in Raventos et al. 2023, arXiv:2306.15063) and for a Gaussian
process (Rasmussen and Williams 2006, eq. 2.25), and for mixtures of these, each in proportion to
its evidence.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metakit.episodes.categorical import CategoricalTasks
from metakit.episodes.functions import FunctionClass, Gaussians, Hypotheses, Prior, Process
from metakit.objectives import cross_entropy, squared_error
from metakit.types import (
  Episode,
  Examples,
  Fitted,
  Key,
  MetaLearner,
  Metrics,
  Objective,
  Params,
  presence,
)


def bayes(
  function_class: FunctionClass, noise: float, objective: Objective = squared_error
) -> MetaLearner:
  """Predicts the posterior mean.

  Args:
    function_class: of metakit.episodes.functions; its `priors` are the prior.
    noise: standard deviation of the noise on y. Noise that rounding hides counts as what it hides
      (`variance_of`); without noise and with a single Gaussian the mean is that of minimum norm.
    objective: of `loss`.

  Returns:
    A MetaLearner without parameters. Weights of examples count as there (above 0) or absent.

  Raises:
    ValueError: if the class has no known posterior or the noise is no standard deviation; in
      `adapt`, if y has more than one output.
  """
  if not (math.isfinite(noise) and noise >= 0):
    raise ValueError(f'noise={noise} is no standard deviation; use noise>=0')
  priors = function_class.priors
  if priors is None:
    raise ValueError(
      f'no exact reference is known for the class {function_class.name}; compare with learners, or '
      'use a class that has one (dense, sparse, sign_vectors up to dim=16, gaussian_mixture, ...)'
    )
  only = priors[0][1] if len(priors) == 1 and not noise else None

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    del key, params  # nothing is drawn and nothing was learned
    check_one_output(support)
    return support.x, support.y[:, 0], presence(support)

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    seen, y, present = fitted
    with jax.default_matmul_precision('highest'):  # fewer bits than the noise floor assumes
      if isinstance(only, Gaussians) and len(only.mean) == 1:
        return _minimum_norm(only, seen, y, present, x)[:, None]
      variance = variance_of(noise, [prior for _, prior in priors], seen, present)
      each = [posterior(prior, variance, seen, y, present, x) for _, prior in priors]
      log_weight = jnp.asarray([log_weight for log_weight, _ in priors])
      stacked = Posterior(*(jnp.stack(parts) for parts in zip(*each, strict=True)))
      return _mix(log_weight, stacked).mean[:, None]

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    return objective(predict(adapt(key, params, episode.support), episode.query.x), episode.query)

  return MetaLearner(lambda key, episode: {}, adapt, predict, loss, 'inductive')


def bayes_categorical(prior: CategoricalTasks) -> MetaLearner:
  """Predicts with the Bayes mixture of a discrete prior over classification tasks.

  Args:
    prior: of metakit.episodes.categorical.

  Returns:
    A MetaLearner without parameters, whose outputs are log-probabilities of the classes.
  """

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    del key, params  # nothing is drawn and nothing was learned
    each = jnp.einsum('ni,tic->tnc', support.x, prior.log_probability)
    said = jnp.take_along_axis(each, support.y[None, :, None], axis=2)[..., 0]  # [tasks, examples]
    evidence = jnp.where(presence(support), said, 0).sum(1)
    return jax.nn.log_softmax(prior.log_weight + evidence)

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    each = jnp.einsum('ni,tic->tnc', x, prior.log_probability)
    return jax.nn.logsumexp(fitted[:, None, None] + each, axis=0)

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    outputs = predict(adapt(key, params, episode.support), episode.query.x)
    return cross_entropy(outputs, episode.query)

  return MetaLearner(lambda key, episode: {}, adapt, predict, loss, 'inductive')


def check_one_output(support: Examples) -> None:
  """Raises ValueError unless y is [examples, 1]."""
  if support.y.ndim != 2 or support.y.shape[1] != 1:
    raise ValueError(
      f'y of shape {support.y.shape}; the references predict one output [examples, 1]'
    )


ROUNDING = 8  # units in the last place of the sum of variances: what a factorisation loses


def variance_of(
  noise: float, priors: Sequence[Prior], x: jax.Array, present: jax.Array
) -> jax.Array:
  """Returns the variance of the noise on y that posteriors are computed with, [].

  That of the noise, or what is lost by rounding if that is more: ROUNDING units in the last place
  of the variances of all y under the prior, which for 40 examples of dense(20) is 8e-4 in float32.

  Args:
    noise: standard deviation.
    priors: the floor is that of the widest.
    x: [n, inputs].
    present: [n] bool.
  """
  spread = jnp.stack([jnp.where(present, _variances(prior, x), 0).sum() for prior in priors]).max()
  lost = ROUNDING * jnp.finfo(spread.dtype).eps * spread
  return jnp.maximum(noise**2, jnp.maximum(lost, jnp.finfo(spread.dtype).tiny))  # without examples


def _variances(prior: Prior, x: jax.Array) -> jax.Array:
  """The variance of y at each of x [n] (the widest Gaussian's), of a list the mean square."""
  if isinstance(prior, Process):
    return jax.vmap(lambda one: prior.kernel(one[None], one[None])[0, 0])(x)
  if isinstance(prior, Gaussians):
    return (jnp.square(prior.basis(x)) @ prior.variance.T).max(1)
  return jnp.exp(prior.log_weight) @ jnp.square(prior.weights @ prior.basis(x).T)


class Posterior(NamedTuple):
  """What a prior says after the support.

  Attributes:
    mean: [queries], the posterior mean of y.
    log_evidence: [], log p(y of the support), up to a constant that is the same for all priors.
  """

  mean: jax.Array
  log_evidence: jax.Array


def posterior(
  prior: Prior,
  variance: jax.typing.ArrayLike,
  x: jax.Array,
  y: jax.Array,
  present: jax.Array,
  asked: jax.Array,
) -> Posterior:
  """Returns the posterior at `asked` [queries, inputs].

  Args:
    prior: of a function class.
    variance: of the noise.
    x: [n, inputs].
    y: [n].
    present: [n] bool.
    asked: [queries, inputs].
  """
  if isinstance(prior, Process):
    covariance, across = prior.kernel(x, x), prior.kernel(asked, x)
    return _condition(covariance, across, y, jnp.zeros(len(asked)), present, variance)
  if isinstance(prior, Gaussians):
    return _mix(prior.log_weight, component_posteriors(prior, variance, x, y, present, asked))
  return _list(prior, prior.basis(x), prior.basis(asked), y, present, variance)


def component_posteriors(
  prior: Gaussians,
  variance: jax.typing.ArrayLike,
  x: jax.Array,
  y: jax.Array,
  present: jax.Array,
  asked: jax.Array,
) -> Posterior:
  """Returns what each component of a mixture says, as `posterior`; means are [components, queries].

  The posterior weights of the components are softmax(prior.log_weight + log_evidence).
  """
  basis, asked_basis = prior.basis(x), prior.basis(asked)
  return jax.vmap(_one_gaussian, (0, 0, *5 * (None,)))(
    prior.mean, prior.variance, basis, asked_basis, y, present, variance
  )


def _one_gaussian(mean, spread, basis, asked, y, present, variance) -> Posterior:
  covariance, across = (basis * spread) @ basis.T, (asked * spread) @ basis.T
  return _condition(covariance, across, y - basis @ mean, asked @ mean, present, variance)


def _condition(covariance, across, residual, asked_mean, present, variance) -> Posterior:
  """Conditions a Gaussian on residual [n] + noise; absent rows are independent and say nothing."""
  pairs = present[:, None] & present
  noise = jnp.where(present, variance, 1.0)
  factor = jnp.linalg.cholesky(jnp.where(pairs, covariance, 0) + jnp.diag(noise))
  residual = jnp.where(present, residual, 0)
  white = jax.scipy.linalg.solve_triangular(factor, residual, lower=True)
  solved = jax.scipy.linalg.solve_triangular(factor, white, lower=True, trans=1)
  evidence = -0.5 * jnp.square(white).sum() - jnp.log(jnp.diagonal(factor)).sum()
  return Posterior(asked_mean + jnp.where(present, across, 0) @ solved, evidence)


def _minimum_norm(prior: Gaussians, x, y, present, asked) -> jax.Array:
  """The limit of no noise: of all weights that fit the support, the likeliest."""
  deviation = jnp.sqrt(prior.variance[0])
  basis = jnp.where(present[:, None], prior.basis(x), 0)
  residual = jnp.where(present, y - basis @ prior.mean[0], 0)
  weights = prior.mean[0] + deviation * (jnp.linalg.pinv(basis * deviation) @ residual)
  return prior.basis(asked) @ weights


def _list(prior: Hypotheses, basis, asked, y, present, variance) -> Posterior:
  errors = jnp.where(present, y - prior.weights @ basis.T, 0)  # [hypotheses, n]
  evidence = -0.5 * jnp.square(errors).sum(-1) / variance
  evidence -= 0.5 * present.sum() * jnp.log(variance)
  return _mix(prior.log_weight, Posterior(prior.weights @ asked.T, evidence))


def _mix(log_weight: jax.Array, each: Posterior) -> Posterior:
  total = log_weight + each.log_evidence
  return Posterior(jax.nn.softmax(total) @ each.mean, jax.nn.logsumexp(total))
