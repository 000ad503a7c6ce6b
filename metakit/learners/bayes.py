"""The Bayes predictor of a class of functions: what no learner can beat, as a learner.

Under squared error the best prediction is the posterior mean of y. It is exact (but for a variance
of the noise below float32's rounding, see `variance_of`) for a mixture of Gaussians over weights
(ridge regression for a single one: Bishop, Pattern Recognition and Machine Learning, 2006, section
3.3), for a list of hypotheses (dMMSE in Raventos et al. 2023, arXiv:2306.15063) and for a Gaussian
process (Rasmussen and Williams 2006, eq. 2.25), and for mixtures of these, each in proportion to
its evidence.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metakit.absent import known
from metakit.builder import meta_learner
from metakit.episodes.categorical import CategoricalTasks
from metakit.episodes.functions import FunctionClass, Gaussians, Hypotheses, Prior, Process
from metakit.linear_algebra import cholesky, solve_lower, solve_upper
from metakit.objectives import squared_error
from metakit.types import Examples, Fitted, Key, MetaLearner, Objective, Params, presence


def bayes(
  function_class: FunctionClass, noise: float, objective: Objective = squared_error
) -> MetaLearner:
  """Predicts the posterior mean, which is the best possible prediction under a known prior.

  Args:
    function_class: one of metakit.episodes.functions; its `priors` are the prior.
    noise: standard deviation of the noise on y. Noise that rounding hides counts as what it hides
      (`variance_of`); without noise and with a single Gaussian the mean is that of minimum norm.
    objective: objective of `loss`.

  Returns:
    A MetaLearner without parameters. Weights of examples count as there (above 0) or absent.

  Raises:
    ValueError: if the class has no known posterior or the noise is no standard deviation; in
      `adapt`, if y has more than one output.

  >>> from metakit.episodes.functions import dense
  >>> learner, x = bayes(dense(1), noise=1.0), jnp.array([[1.0]])
  >>> support = Examples(x, jnp.array([[2.0]]))
  >>> answer = jax.jit(lambda key: learner.predict(learner.adapt(key, {}, support), x))
  >>> f'{answer(jax.random.key(0))[0, 0]:.2f}'  # half of the 2 may be noise
  '1.00'
  """
  if not (math.isfinite(noise) and noise >= 0):
    raise ValueError(f'noise={noise} is no standard deviation; use noise>=0')
  priors = function_class.priors
  if priors is None:
    raise ValueError(
      f'no exact reference is known for the class {function_class.name}; compare with learners, or '
      'use a class that has one (dense, sparse, sign_vectors up to dim=20, gaussian_mixture, ...)'
    )
  only = None if noise else _single_gaussian([prior for _, prior in priors])

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    del key, params  # nothing is drawn and nothing was learned
    check_one_output(support)
    return support.x, support.y[:, 0], presence(support)

  def posterior_mean(fitted: Fitted, x: jax.Array | None) -> jax.Array:
    seen, y, present = fitted
    # The floor of the noise (variance_of) assumes products with all bits of float32.
    with jax.default_matmul_precision('highest'):
      variance = variance_of(noise, [prior for _, prior in priors], seen, present=present)
      each = [
        posterior(prior, variance, seen, y=y, present=present, asked=x) for _, prior in priors
      ]
      log_weight = jnp.asarray([log_weight for log_weight, _ in priors])
      stacked = Posterior(*(jnp.stack(parts) for parts in zip(*each, strict=True)))
      return _mix(log_weight, stacked).mean[:, None]

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    if only is None:
      return posterior_mean(fitted, x)
    seen, y, present = fitted
    with jax.default_matmul_precision('highest'):
      return _minimum_norm(only, seen, y, present, x)[:, None]

  def prefixes(key: Key, params: Params, support: Examples) -> jax.Array:
    return posterior_mean(adapt(key, params, support), None)

  return meta_learner(
    lambda key, episode: {},
    adapt,
    predict,
    objective=objective,
    prefixes=None if only else prefixes,
  )


def bayes_categorical(prior: CategoricalTasks) -> MetaLearner:
  """Predicts with the Bayes mixture of a discrete prior over classification tasks.

  Args:
    prior: a prior of metakit.episodes.categorical.

  Returns:
    A MetaLearner without parameters, whose outputs are log-probabilities of the classes.

  >>> tables = jnp.array([[[0.9, 0.1]], [[0.1, 0.9]]])  # two tasks, one input, two classes
  >>> learner = bayes_categorical(CategoricalTasks(jnp.log(jnp.array([0.5, 0.5])), jnp.log(tables)))
  >>> x, y = jnp.array([[1.0]]), jnp.array([0])
  >>> answer = jax.jit(lambda key: learner.predict(learner.adapt(key, {}, Examples(x, y)), x))
  >>> [f'{p:.2f}' for p in jnp.exp(answer(jax.random.key(0)))[0]]  # 0.9 * 0.9 + 0.1 * 0.1
  ['0.82', '0.18']
  """
  each_task = lambda x: jnp.einsum('ni,tic->tnc', x, prior.log_probability)

  def posterior_weight(support: Examples, count: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """[tasks, examples or 1], logarithms."""
    said = jnp.take_along_axis(each_task(support.x), support.y[None, :, None], axis=2)[..., 0]
    evidence = count(jnp.where(known(support), said, 0))
    return jax.nn.log_softmax(prior.log_weight[:, None] + evidence, axis=0)

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    del key, params  # nothing is drawn and nothing was learned
    return posterior_weight(support, _sum)

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    return jax.nn.logsumexp(fitted[..., None] + each_task(x), axis=0)

  def prefixes(key: Key, params: Params, support: Examples) -> jax.Array:
    del key, params
    return predict(posterior_weight(support, _sums_before), support.x)

  return meta_learner(lambda key, episode: {}, adapt, predict, prefixes=prefixes)


def check_one_output(support: Examples) -> None:
  """Raises ValueError unless y is [examples, 1]."""
  if support.y.ndim != 2 or support.y.shape[1] != 1:
    raise ValueError(
      f'y of shape {support.y.shape}; the references predict one output [examples, 1]'
    )


# What a factorisation loses by rounding, in units in the last place of the sum of variances.
ROUNDING = 8


def variance_of(
  noise: float, priors: Sequence[Prior], x: jax.Array, *, present: jax.Array
) -> jax.Array:
  """Returns the variance of the noise on each y that posteriors are computed with, [n].

  This is the variance of the noise, or what is lost by rounding if that is more. Lost are ROUNDING
  units in the last place of the summed variances of all y so far under the prior. For the 40th
  example of dense(20) this is 8e-4 in float32.

  Args:
    noise: standard deviation.
    priors: the floor is that of the widest.
    x: [n, inputs].
    present: [n] bool.
  """
  spreads = [jnp.where(present, _variances(prior, x), 0) for prior in priors]
  so_far = jnp.cumsum(jnp.stack(spreads), axis=1).max(0)
  lost = ROUNDING * jnp.finfo(so_far.dtype).eps * so_far
  return jnp.maximum(noise**2, jnp.maximum(lost, jnp.finfo(so_far.dtype).tiny))  # nothing so far


def _variances(prior: Prior, x: jax.Array) -> jax.Array:
  """Returns the prior variance of y at each of x [n].

  Of several Gaussians it is that of the widest. Of a list of functions it is the mean square.
  """
  if isinstance(prior, Process):
    return jax.vmap(lambda one: prior.kernel(one[None], one[None])[0, 0])(x)
  if isinstance(prior, Gaussians):
    return (jnp.square(prior.basis(x)) @ prior.variance.T).max(1)
  basis, likely = prior.basis(x), jnp.exp(prior.log_weight)
  # The values of all functions would take gigabytes, so this goes by the moments of their weights.
  # The barrier keeps XLA from computing these moments while it compiles.
  weights = jax.lax.optimization_barrier(prior.weights)
  moment = (weights.T * likely) @ weights
  return ((basis @ moment) * basis).sum(1)


class Posterior(NamedTuple):
  """What a prior says after some examples.

  Attributes:
    mean: [inputs], the posterior mean of y.
    log_evidence: log p(y of those examples), up to a constant that is the same for all priors;
      [1], or [inputs] where each input comes after other examples.
    variance: [inputs], the posterior variance of y, with that of its noise.
  """

  mean: jax.Array
  log_evidence: jax.Array
  variance: jax.Array


def posterior(
  prior: Prior,
  variance: jax.Array,
  x: jax.Array,
  *,
  y: jax.Array,
  present: jax.Array,
  asked: jax.Array | None,
  noise: float = 0.0,
) -> Posterior:
  """Returns the posterior at `asked` after all examples, or at each example after those before it.

  Args:
    prior: the prior of a function class.
    variance: variance of the noise, [n].
    x: [n, inputs].
    y: [n].
    present: [n] bool.
    asked: [queries, inputs]; None for the examples themselves.
    noise: variance of the noise on what is asked; the examples themselves have theirs.
  """
  one = _one(prior, variance, x, y=y, present=present, asked=asked, noise=noise)
  if isinstance(prior, Process):
    return one(())
  return _mix_in_parts(one, prior.log_weight, *_components(prior))


def component_posteriors(
  prior: Prior,
  variance: jax.Array,
  x: jax.Array,
  *,
  y: jax.Array,
  present: jax.Array,
  asked: jax.Array | None,
  noise: float = 0.0,
) -> Posterior:
  """Returns the `posterior` of each component of a mixture, [components, queries or 1].

  The posterior weights of the components are softmax(prior.log_weight + log_evidence[:, 0]). A
  Gaussian process is one component.
  """
  one = _one(prior, variance, x, y=y, present=present, asked=asked, noise=noise)
  if isinstance(prior, Process):
    return jax.tree.map(lambda leaf: leaf[None], one(()))
  components, at_once = _components(prior)
  return jax.lax.map(one, components, batch_size=at_once)


def _components(prior: Gaussians | Hypotheses) -> tuple[Any, int]:
  """Returns the components of a mixture, and how many are computed at once."""
  if isinstance(prior, Gaussians):
    return (prior.mean, prior.variance), GAUSSIANS_AT_ONCE
  return prior.weights, FUNCTIONS_AT_ONCE


def _one(prior: Prior, variance, x, *, y, present, asked, noise) -> Callable[[Any], Posterior]:
  """Returns a function: a component of a mixture -> its posterior."""
  examples = y, present, variance
  if isinstance(prior, Process):
    zero, covariance = jnp.zeros_like(y), prior.kernel(x, x)
    if asked is None:
      return lambda _: _condition(covariance, None, zero, jnp.zeros(()), *examples)
    of_asked = prior.kernel(asked, x), _variances(prior, asked), noise
    return lambda _: _condition(covariance, of_asked, zero, jnp.zeros(()), *examples)
  basis = prior.basis(x)
  asked_basis = None if asked is None else prior.basis(asked)
  if isinstance(prior, Gaussians):
    return lambda each: _one_gaussian(each[0], each[1], basis, asked_basis, noise, *examples)
  return lambda weights: _one_function(weights, basis, asked_basis, noise, *examples)


def _one_gaussian(mean, spread, basis, asked, noise, y, present, variance) -> Posterior:
  covariance, expected = (basis * spread) @ basis.T, basis @ mean
  if asked is None:
    return _condition(covariance, None, expected, expected, y, present, variance)
  of_asked = (asked * spread) @ basis.T, jnp.square(asked) @ spread, noise
  return _condition(covariance, of_asked, expected, asked @ mean, y, present, variance)


def _one_function(weights, basis, asked, noise, y, present, variance) -> Posterior:
  values = basis @ weights
  steps = -0.5 * (jnp.square(y - values) / variance + jnp.log(variance))
  steps = jnp.where(present, steps, 0)
  if asked is None:
    return Posterior(values, _sums_before(steps), variance)
  mean = asked @ weights
  return Posterior(mean, _sum(steps), jnp.full_like(mean, noise))


def _condition(covariance, of_asked, expected, asked_mean, y, present, variance) -> Posterior:
  """Conditions a Gaussian on y [n].

  `of_asked` is None for the examples themselves, or (covariance with the examples [queries, n],
  variance [queries], variance of the noise []).

  The first rows of the factor are those of the first examples, so that one factorisation serves
  all prefixes. Absent examples count as measured with so much noise that they say nothing.
  """
  drowned = jnp.trace(covariance) / jnp.finfo(covariance.dtype).eps ** 2 + 1
  noise = jnp.where(present, variance, drowned)
  factor = cholesky(covariance + jnp.diag(noise))
  news = jnp.where(
    present, solve_lower(factor, jnp.where(present, y - expected, 0)), 0
  )  # in deviations
  steps = jnp.where(present, -0.5 * jnp.square(news) - jnp.log(jnp.diagonal(factor)), 0)
  if of_asked is None:
    return Posterior(
      asked_mean + jnp.tril(factor, -1) @ news,
      _sums_before(steps),
      jnp.square(jnp.diagonal(factor)),
    )
  across, before, noise = of_asked
  across = jnp.where(present, across, 0)
  explained = jnp.square(solve_lower(factor, across.T)).sum(0)
  return Posterior(
    asked_mean + across @ solve_upper(factor, news),
    _sum(steps),
    jnp.maximum(before - explained, 0) + noise,
  )


def _sum(steps: jax.Array) -> jax.Array:
  return steps.sum(-1, keepdims=True)


def _sums_before(steps: jax.Array) -> jax.Array:
  """Returns the sum of all steps before each step.

  It is not cumsum(steps) - steps, in which rounding of a large step would hide all smaller ones.
  """
  return jnp.cumsum(jnp.zeros_like(steps).at[..., 1:].set(steps[..., :-1]), axis=-1)


# All at once would take gigabytes: sparse(20, 5) is a mixture of 15,504 Gaussians.
GAUSSIANS_AT_ONCE, FUNCTIONS_AT_ONCE = 64, 1024


def _mix_in_parts(one, log_weight: jax.Array, components: Any, at_once: int) -> Posterior:
  """Mixes the posteriors one(component) of all components, `at_once` at a time."""
  number = len(log_weight)
  if number <= at_once:
    return _mix(log_weight, jax.vmap(one)(components))
  padding = -number % at_once

  def in_parts(leaf: jax.Array, fill: float) -> jax.Array:
    ends = [(0, padding)] + [(0, 0)] * (leaf.ndim - 1)
    return jnp.pad(leaf, ends, constant_values=fill).reshape(-1, at_once, *leaf.shape[1:])

  parts = in_parts(log_weight, -jnp.inf), jax.tree.map(partial(in_parts, fill=0), components)
  each = jax.lax.map(lambda part: _mix(part[0], jax.vmap(one)(part[1])), parts)
  return _mix(jnp.zeros(len(each.mean)), each)


def _single_gaussian(priors: Sequence[Prior]) -> Gaussians | None:
  first, *more = priors
  return first if isinstance(first, Gaussians) and len(first.mean) == 1 and not more else None


def _minimum_norm(prior: Gaussians, x, y, present, asked) -> jax.Array:
  """Returns the limit without noise: the likeliest of all weights that fit the support."""
  deviation = jnp.sqrt(prior.variance[0])
  basis = jnp.where(present[:, None], prior.basis(x), 0)
  residual = jnp.where(present, y - basis @ prior.mean[0], 0)
  weights = prior.mean[0] + deviation * (jnp.linalg.pinv(basis * deviation) @ residual)
  return prior.basis(asked) @ weights


def _mix(log_weight: jax.Array, each: Posterior) -> Posterior:
  total = log_weight[:, None] + each.log_evidence
  weight = jax.nn.softmax(total, axis=0)
  mean = (weight * each.mean).sum(0)
  variance = (weight * (each.variance + jnp.square(each.mean - mean))).sum(0)
  return Posterior(mean, jax.nn.logsumexp(total, axis=0), variance)
