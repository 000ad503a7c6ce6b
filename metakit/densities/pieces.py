"""Distributions of uniform pieces between edges, with a half of a normal at either end.

Both the bar distribution and the one of predicted quantiles are of this kind. In the first the
edges are fixed and the masses are predicted, in the second it is the reverse.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri
from jax.scipy.stats import norm

from metakit.types import Density, OfValue

HALF_NORMAL_MEAN = (2 / jnp.pi) ** 0.5  # of |z|, z standard normal
# The integral of (2 ndtr(-z))^2 over z > 0, which is the mean of the smaller of two |z|.
HALF_NORMAL_LEAST = (2 - 2**0.5) * HALF_NORMAL_MEAN


class Pieces(NamedTuple):
  """A distribution.

  Attributes:
    edges: [..., n], strictly rising.
    log_mass: [..., n + 1], the logarithm of the probability below the first edge, between each and
      the next, and above the last.
    left: [...], the deviation of the normal whose half is below the first edge.
    right: [...], the same above the last edge.
  """

  edges: jax.Array
  log_mass: jax.Array
  left: jax.Array
  right: jax.Array


def of_pieces(
  name: str,
  size: int,
  pieces_of: Callable[[jax.Array], Pieces],
  *,
  divergence: OfValue,
) -> Density:
  """Returns the density.

  Args:
    name: its name.
    size: how many parameters it has.
    pieces_of: parameters [..., size] -> Pieces.
    divergence: see metakit.types.Density.
  """
  of_value = lambda function: lambda parameters, y: function(pieces_of(parameters), jnp.asarray(y))
  return Density(
    name=name,
    size=size,
    log_density=of_value(log_density),
    mean=lambda parameters: mean(pieces_of(parameters)),
    variance=lambda parameters: variance(pieces_of(parameters)),
    cdf=of_value(cdf),
    quantile=of_value(quantile),
    divergence=divergence,
    crps=of_value(crps),
    expected_improvement=of_value(expected_improvement),
  )


def log_density(pieces: Pieces, y: jax.Array) -> jax.Array:
  """Returns log p(y). On an edge it is that of the piece above."""
  edges, log_mass, left, right = pieces
  place = (y[..., None] >= edges).sum(-1)
  uniform = -_at(_with_ends(jnp.log(jnp.diff(edges)), 0.0), place)
  half = lambda z, deviation: jnp.log(2) + norm.logpdf(z / deviation) - jnp.log(deviation)
  above = jnp.where(place == edges.shape[-1], half(y - edges[..., -1], right), uniform)
  within = jnp.where(place == 0, half(y - edges[..., 0], left), above)
  return _at(log_mass, place) + within


def cdf(pieces: Pieces, y: jax.Array) -> jax.Array:
  """Returns P(Y <= y)."""
  edges, log_mass, left, right = pieces
  mass, widths = jnp.exp(log_mass), jnp.diff(edges)
  shares = jnp.clip((y[..., None] - edges[..., :-1]) / widths, 0, 1)
  below = mass[..., 0] * 2 * ndtr(jnp.minimum(y - edges[..., 0], 0) / left)
  above = mass[..., -1] * (2 * ndtr(jnp.maximum(y - edges[..., -1], 0) / right) - 1)
  return below + (mass[..., 1:-1] * shares).sum(-1) + above


def quantile(pieces: Pieces, level: jax.Array) -> jax.Array:
  """Returns the y with cdf(y) = level; NaN for a level outside of 0 to 1."""
  edges, log_mass, left, right = pieces
  mass = jnp.exp(log_mass)
  below = jnp.cumsum(mass, -1)[..., :-1]  # P(Y <= edge)
  place = (level[..., None] >= below).sum(-1)
  start = _at(_with_ends(below, 0.0)[..., :-1], place)
  share = lambda part: jnp.clip(part / jnp.maximum(_at(mass, place), _tiny(mass)), 0, 1)
  within = share(level - start)
  inner = _at(_with_ends(edges, 0.0), place) + within * _at(_with_ends(jnp.diff(edges), 0.0), place)
  above = edges[..., -1] - right * ndtri(share(1 - level) / 2)
  inner = jnp.where(place == edges.shape[-1], above, inner)
  y = jnp.where(place == 0, edges[..., 0] + left * ndtri(within / 2), inner)
  return jnp.where((level >= 0) & (level <= 1), y, jnp.nan)


def mean(pieces: Pieces) -> jax.Array:
  """Returns E[Y]."""
  return (jnp.exp(pieces.log_mass) * _centres(pieces)).sum(-1)


def variance(pieces: Pieces) -> jax.Array:
  """Returns Var[Y]."""
  centres, ends = _centres(pieces), 1 - HALF_NORMAL_MEAN**2
  within = _both_ends(
    ends * pieces.left**2, jnp.square(jnp.diff(pieces.edges)) / 12, ends * pieces.right**2
  )
  around = jnp.square(centres - mean(pieces)[..., None])
  return (jnp.exp(pieces.log_mass) * (around + within)).sum(-1)


def expected_improvement(pieces: Pieces, best: jax.Array) -> jax.Array:
  """Returns E[max(Y - best, 0)]."""
  edges, log_mass, left, right = pieces
  low, high, mass = edges[..., :-1], edges[..., 1:], jnp.exp(log_mass)
  wanted = best[..., None]
  start = jnp.clip(wanted, low, high)  # of what counts of a piece
  inner = (high - start) * ((high + start) / 2 - wanted) / (high - low)
  z = (best - edges[..., -1]) / right
  over = jnp.maximum(z, 0)
  above = right * (2 * (norm.pdf(over) - over * ndtr(-over)) + jnp.maximum(-z, 0))
  z = jnp.maximum(edges[..., 0] - best, 0) / left  # Y = edge - left |Z|
  below = left * (z * (2 * ndtr(z) - 1) + 2 * norm.pdf(z) - HALF_NORMAL_MEAN)
  return mass[..., 0] * below + (mass[..., 1:-1] * inner).sum(-1) + mass[..., -1] * above


def crps(pieces: Pieces, y: jax.Array) -> jax.Array:
  """Returns E|Y - y| - E|Y - Y'| / 2, Y and Y' independent (Gneiting and Raftery 2007, eq. 21)."""
  distance = 2 * expected_improvement(pieces, y) + y - mean(pieces)
  return distance - _half_spread(pieces)


def _half_spread(pieces: Pieces) -> jax.Array:
  """Returns E|Y - Y'| / 2, the integral of cdf (1 - cdf)."""
  edges, log_mass, left, right = pieces
  mass = jnp.exp(log_mass)
  below, inside = jnp.cumsum(mass, -1)[..., :-2], mass[..., 1:-1]
  each = below * (1 - below) + inside * (1 - 2 * below) / 2 - jnp.square(inside) / 3
  end = lambda p, deviation: deviation * (HALF_NORMAL_MEAN * p - HALF_NORMAL_LEAST * p**2)
  return (jnp.diff(edges) * each).sum(-1) + end(mass[..., 0], left) + end(mass[..., -1], right)


def _centres(pieces: Pieces) -> jax.Array:
  """Returns the mean of each part, [..., n + 1]."""
  edges, _, left, right = pieces
  middles = (edges[..., 1:] + edges[..., :-1]) / 2
  below = edges[..., 0] - left * HALF_NORMAL_MEAN
  return _both_ends(below, middles, edges[..., -1] + right * HALF_NORMAL_MEAN)


def _both_ends(first: jax.Array, inner: jax.Array, last: jax.Array) -> jax.Array:
  shape = jnp.broadcast_shapes(first.shape, inner.shape[:-1], last.shape)
  inner = jnp.broadcast_to(inner, (*shape, inner.shape[-1]))
  ends = (jnp.broadcast_to(end, shape)[..., None] for end in (first, last))
  return jnp.concatenate([next(ends), inner, next(ends)], axis=-1)


def _with_ends(inner: jax.Array, value: float) -> jax.Array:
  return jnp.pad(inner, [(0, 0)] * (inner.ndim - 1) + [(1, 1)], constant_values=value)


def _at(values: jax.Array, place: jax.Array) -> jax.Array:
  """Returns values[..., place], each with its own place; the shapes before broadcast."""
  shape = jnp.broadcast_shapes(values.shape[:-1], place.shape)
  values = jnp.broadcast_to(values, (*shape, values.shape[-1]))
  place = jnp.broadcast_to(place, shape)
  return jnp.take_along_axis(values, place[..., None], axis=-1)[..., 0]


def _tiny(values: jax.Array) -> float:
  return float(jnp.finfo(values.dtype).tiny)
