"""Priors over functions in a form for which the posterior is known (metakit.learners.bayes)."""

from collections.abc import Callable
from typing import NamedTuple

import jax

Basis = Callable[[jax.Array], jax.Array]  # x [n, inputs] -> features [n, features]


class Gaussians(NamedTuple):
  """The prior y = basis(x) w, w from a mixture of Gaussians with diagonal covariance.

  Attributes:
    basis: x [n, inputs] -> [n, features].
    log_weight: [components], of the mixture, normalised.
    mean: [components, features].
    variance: [components, features]; 0 where a weight is its mean for certain.
  """

  basis: Basis
  log_weight: jax.Array
  mean: jax.Array
  variance: jax.Array


class Hypotheses(NamedTuple):
  """The prior y = basis(x) w, w one of a list.

  Attributes:
    basis: x [n, inputs] -> [n, features].
    log_weight: [hypotheses], normalised.
    weights: [hypotheses, features].
  """

  basis: Basis
  log_weight: jax.Array
  weights: jax.Array


class Process(NamedTuple):
  """The prior of a Gaussian process with mean 0.

  Attributes:
    kernel: (x [n, inputs], x [m, inputs]) -> covariances [n, m].
  """

  kernel: Callable[[jax.Array, jax.Array], jax.Array]


Prior = Gaussians | Hypotheses | Process
