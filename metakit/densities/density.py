"""Density: a family of distributions of one number, whose parameters are outputs of a learner."""

from typing import NamedTuple, Protocol

import jax

from metakit import objectives
from metakit.types import Objective


class OfValue(Protocol):
  """A function of the parameters and of a number: a target, or a probability."""

  def __call__(self, parameters: jax.Array, value: jax.Array, /) -> jax.Array: ...


class OfParameters(Protocol):
  """A function of the parameters alone."""

  def __call__(self, parameters: jax.Array, /) -> jax.Array: ...


class Density(NamedTuple):
  """A family of distributions of one number, as functions of its parameters.

  All functions take parameters [..., size] and, where they take one, a value that broadcasts
  against [...]. They return [...].

  Attributes:
    name: the name in specs and records.
    size: how many parameters a distribution has.
    log_density: (parameters, y) -> log p(y), in nats.
    mean: parameters -> E[y].
    variance: parameters -> Var[y].
    cdf: (parameters, y) -> P(Y <= y).
    quantile: (parameters, level) -> the y with cdf(y) = level, for a level in (0, 1).
    divergence: (parameters, reference) -> KL(reference || parameters), in nats.
    crps: (parameters, y) -> the continuous ranked probability score, in units of y: the integral
      over t of (cdf(t) - [y <= t])^2 (Gneiting and Raftery 2007, JASA 102, eq. 20).
    expected_improvement: (parameters, best) -> E[max(y - best, 0)], in units of y.
    pool: parameters [members, ..., size] -> those [..., size] of the member of the family that is
      nearest to the mixture of all, in equal shares. None if that is not known.
  """

  name: str
  size: int
  log_density: OfValue
  mean: OfParameters
  variance: OfParameters
  cdf: OfValue
  quantile: OfValue
  divergence: OfValue
  crps: OfValue
  expected_improvement: OfValue
  pool: OfParameters | None = None


def objective_of(density: Density) -> Objective:
  """Returns the objective that judges outputs as parameters of a density of each target.

  A target of several numbers has so many independent distributions: its outputs
  [examples, numbers * size] hold the parameters of the first number, then those of the second, and
  so on. The loss is -log p in nats a number, and the point prediction is the mean.

  >>> import jax.numpy as jnp
  >>> from metakit.densities import gaussian
  >>> from metakit.types import Examples
  >>> objective = objective_of(gaussian())
  >>> loss, metrics = objective(jnp.zeros((3, 2)), Examples(x=None, y=jnp.zeros((3, 1))))
  >>> f'{loss:.3f}'  # a deviation of log 2 and a bit
  '0.554'
  """
  apart = lambda outputs: outputs.reshape(*outputs.shape[:-1], -1, density.size)

  def losses(outputs: jax.Array, y: jax.Array) -> jax.Array:
    return -density.log_density(apart(outputs), y).mean(-1)

  def divergence(outputs: jax.Array, reference: jax.Array) -> jax.Array:
    return density.divergence(apart(outputs), apart(reference)).mean(-1)

  def pool(outputs: jax.Array) -> jax.Array:
    assert density.pool is not None
    return density.pool(apart(outputs)).reshape(outputs.shape[1:])

  point = lambda outputs: density.mean(apart(outputs))
  return objectives.density(
    losses,
    density.size,
    point=point,
    divergence=divergence,
    pool=None if density.pool is None else pool,
  )
