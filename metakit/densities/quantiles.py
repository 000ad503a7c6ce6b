"""Quantiles by the pinball loss.

Roger Koenker, Gilbert Bassett, Regression Quantiles, Econometrica 46, 1978. A learner predicts the
quantiles of some levels, and the loss of level a is a max(y - q, 0) + (1 - a) max(q - y, 0).

Predicted quantiles may cross. Outputs are sorted before anything else: Victor Chernozhukov, Ivan
Fernandez-Val, Alfred Galichon, Quantile and Probability Curves Without Crossing, Econometrica 78,
2010, show that sorted quantiles are never farther from the true ones. The other way is to add up
positive steps. Then a network without knowledge predicts quantiles that lie a step apart, whatever
the scale of y, and all quantiles above depend on the lowest.

Between two quantiles the probability is spread evenly. Beyond the outer ones it is a half of a
normal, whose density goes on where that of the next piece ends. So there is a density, too.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from metakit import objectives
from metakit.densities.density import by_number
from metakit.densities.gaussian import LEAST, check_least
from metakit.densities.pieces import HALF_NORMAL_MEAN, Pieces, expected_improvement, of_pieces
from metakit.types import Density, Objective


def quantiles(levels: Sequence[float], least: float = LEAST) -> Density:
  """Returns the distribution whose parameters are its quantiles, in any order.

  Its divergence is no relative entropy. It is that of the pinball loss: by how much the expected
  loss of some quantiles exceeds that of the reference, if the reference is right.

  Args:
    levels: [levels], strictly rising, between 0 and 1.
    least: how far apart two quantiles are at least, in units of y.

  Raises:
    ValueError: for fewer than two levels, others than these, or a distance that is not positive.

  >>> median = jax.jit(lambda parameters: quantiles([0.25, 0.5, 0.75]).quantile(parameters, 0.5))
  >>> f'{median(jnp.array([1.0, 0.0, 4.0])):.2f}'
  '1.00'
  """
  known = check_levels(levels)
  check_least(least)
  apart = least * (np.arange(len(known)) - (len(known) - 1) / 2)
  shares = np.diff(known, prepend=0.0, append=1.0)

  def pieces(parameters: jax.Array) -> Pieces:
    edges = jnp.sort(parameters) + jnp.asarray(apart, parameters.dtype)
    widths = jnp.diff(edges)
    end = lambda share, width, next_share: share * HALF_NORMAL_MEAN * width / next_share
    left = end(shares[0], widths[..., 0], shares[1])
    right = end(shares[-1], widths[..., -1], shares[-2])
    return Pieces(edges, jnp.log(jnp.asarray(shares, parameters.dtype)), left, right)

  def divergence(parameters: jax.Array, reference: jax.Array) -> jax.Array:
    true, of = pieces(reference), jax.vmap(expected_improvement, (None, -1), -1)
    mean = density.mean(reference)[..., None]

    def expected(edges: jax.Array) -> jax.Array:
      over = of(true, edges)  # E[max(y - q, 0)] of each q
      under = over + edges - mean
      return (known * over + (1 - known) * under).mean(-1)

    return 2 * (expected(pieces(parameters).edges) - expected(true.edges))

  density = of_pieces('quantile', len(known), pieces, divergence=divergence)
  return density


def pinball(levels: Sequence[float], least: float = LEAST) -> Objective:
  """Returns the objective of quantiles: the mean pinball loss of all levels, twice.

  Twice, since it then tends to the CRPS as levels fill the space between 0 and 1 (in units of y).

  Args:
    levels: see `quantiles`.
    least: see `quantiles`.

  >>> from metakit.types import Examples
  >>> objective, y = pinball([0.25, 0.5, 0.75], least=1e-6), Examples(None, jnp.ones((1, 1)))
  >>> loss = jax.jit(lambda outputs: objective(outputs, y)[0])(jnp.zeros((1, 3)))
  >>> f'{loss:.2f}'  # an error of 1 at each level
  '1.00'
  """
  density, known = quantiles(levels, least), check_levels(levels)
  apart = least * (np.arange(len(known)) - (len(known) - 1) / 2)

  def losses(outputs: jax.Array, y: jax.Array) -> jax.Array:
    predicted = jnp.sort(by_number(outputs, len(known))) + jnp.asarray(apart, outputs.dtype)
    error = y[..., None] - predicted
    return 2 * jnp.maximum(known * error, (known - 1) * error).mean((-1, -2))

  def divergence(outputs: jax.Array, reference: jax.Array) -> jax.Array:
    both = by_number(outputs, len(known)), by_number(reference, len(known))
    return density.divergence(*both).mean(-1)

  return objectives.density(
    losses,
    len(known),
    point=lambda outputs: density.mean(by_number(outputs, len(known))),
    divergence=divergence,
    family=density,
  )


def even_levels(number: int) -> tuple[float, ...]:
  """Returns so many levels, evenly spaced between 0 and 1.

  Raises:
    ValueError: for fewer than two.

  >>> even_levels(3)
  (0.25, 0.5, 0.75)
  """
  if number < 2:
    raise ValueError(f'levels={number} make no distribution; use 2 or more')
  return tuple((i + 1) / (number + 1) for i in range(number))


def check_levels(levels: Sequence[float]) -> np.ndarray:
  """Returns levels as an array; raises ValueError unless they rise and lie between 0 and 1."""
  known = np.asarray(levels, np.float64)
  if known.ndim != 1 or not ((known > 0) & (known < 1)).all():
    raise ValueError(f'levels={levels}: a level of a quantile is between 0 and 1; use 0.5, say')
  if len(known) < 2 or not (np.diff(known) > 0).all():
    raise ValueError(f'levels={levels}: give two or more, each larger than the one before')
  return known
