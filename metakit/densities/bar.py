"""The bar distribution: probabilities of buckets, with a half of a normal at either end.

Samuel Mueller, Noah Hollmann, Sebastian Pineda Arango, Josif Grabocka, Frank Hutter, Transformers
Can Do Bayesian Inference, ICLR 2022, arXiv:2112.10510, section 4 (the Riemann distribution). The
density of a target is the probability of its bucket, a softmax of the outputs, over the bucket's
width. The first and the last bucket are halves of normal distributions, with half of their mass
inside the bucket's width, so that no target has the density 0.

Borders are quantiles of the targets of the prior, midway between two of them (`borders_of`).
Deviation: where a target occurs so often that several quantiles are equal to it, it gets a bucket
of its own, whose borders are midway to its neighbours. In the authors' code such a target is
itself a border. No bucket has the width 0. A prior with such an atom has no density at it. The bar
distribution then spreads the probability of the atom over its bucket.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metakit.densities.pieces import Pieces, of_pieces
from metakit.keys import fixed_key, task_key
from metakit.sources import EpisodeSource, as_source, complete, on_host, read_rows
from metakit.types import Density, Sampler, presence

FEWEST = 2  # buckets, which are the two ends
MEDIAN = statistics.NormalDist().inv_cdf(0.75)  # of |z|, z standard normal
EPISODES, PER_BUCKET = 1000, 100  # episodes and targets a bucket that borders are taken from


def bar(borders: Sequence[float]) -> Density:
  """Returns the bar distribution, whose parameters are logits of its buckets.

  Args:
    borders: [buckets + 1], strictly rising, in units of y; see `borders_of`.

  Raises:
    ValueError: for borders that are not finite, do not rise, or make less than two buckets.

  >>> thirds = bar([0.0, 1.0, 2.0, 3.0])
  >>> f'{thirds.cdf(jnp.zeros(3), 1.5):.3f}'  # of equal logits, in the middle
  '0.500'
  """
  edges = np.asarray(borders, np.float64)
  if edges.ndim != 1 or len(edges) <= FEWEST:
    raise ValueError(f'borders of shape {edges.shape} make no {FEWEST} buckets; give more')
  if not (np.isfinite(edges).all() and (np.diff(edges) > 0).all()):
    raise ValueError('borders must be finite, and each larger than the one before')
  left, right = (edges[1] - edges[0]) / MEDIAN, (edges[-1] - edges[-2]) / MEDIAN

  def pieces(logits: jax.Array) -> Pieces:
    here = lambda value: jnp.asarray(value, logits.dtype)
    return Pieces(here(edges[1:-1]), jax.nn.log_softmax(logits), here(left), here(right))

  def divergence(logits: jax.Array, reference: jax.Array) -> jax.Array:
    log_p, log_q = jax.nn.log_softmax(logits), jax.nn.log_softmax(reference)
    return (jnp.exp(log_q) * (log_q - log_p)).sum(-1)  # the shapes within buckets are equal

  def pool(logits: jax.Array) -> jax.Array:
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0)  # which is the mixture itself

  return of_pieces('bar', len(edges) - 1, pieces, divergence=divergence)._replace(pool=pool)


def borders_of(source: Sampler, buckets: int = 100) -> tuple[float, ...]:
  """Returns the borders of buckets that the targets of some episodes fill evenly.

  It is a pure function of the source: the same episodes are drawn every time. Numbers of a target
  of several share their buckets.

  Args:
    source: training episodes of a regression.
    buckets: how many; there may be fewer if targets repeat.

  Raises:
    ValueError: for fewer than two buckets, targets of a classification, targets that are not
      finite, or ones that are all equal.

  >>> from metakit.episodes import sinusoid
  >>> borders = borders_of(sinusoid(), buckets=4)
  >>> len(borders), -5 <= borders[0] < borders[-1] <= 5
  (5, True)
  """
  return borders_between(targets_of(source, PER_BUCKET * buckets), buckets)


def targets_of(source: Sampler, targets: int) -> np.ndarray:
  """Returns the numbers of the targets of EPISODES episodes, or of more to have so many targets.

  Raises:
    ValueError: if they are classes.
  """
  source, root = as_source(source), fixed_key(0)
  plan = lambda i: source.plan(task_key(root, 0, i))
  shapes = jax.eval_shape(plan, 0)
  if any(jnp.issubdtype(part.y.dtype, jnp.integer) for part in shapes[:2]):
    raise ValueError('targets are classes; a density is for a regression')
  each = sum(math.prod(part.y.shape) for part in shapes[:2])
  episodes = max(EPISODES, -(-targets // each))

  @jax.jit
  def drawn(data: Any) -> Any:
    """The rows of x are left where they are, unless something changes whole episodes."""
    of = lambda i: complete(source, plan(i), data) if source.finish else plan(i)
    keep = lambda part: (part.y, presence(part))
    return jax.lax.map(lambda i: [keep(part) for part in of(i)[:2]], jnp.arange(episodes))

  if on_host(source) and source.finish:
    return _read(source, episodes)
  parts = jax.device_get(drawn(None if on_host(source) else source.data))
  return np.concatenate([y[there].ravel() for y, there in parts])


def _read(source: EpisodeSource, episodes: int) -> np.ndarray:
  """Returns targets of episodes whose rows the host reads before they are changed."""
  assert source.finish is not None
  found, root = [], fixed_key(0)
  for i in range(episodes):
    episode = source.finish(read_rows(source.plan(task_key(root, 0, i)), source.data))
    found += [np.asarray(part.y)[np.asarray(presence(part))].ravel() for part in episode[:2]]
  return np.concatenate(found)


def borders_between(targets: np.ndarray, buckets: int) -> tuple[float, ...]:
  """Returns borders such that about as many targets are in each bucket; see `borders_of`.

  They are float32 numbers. The outer ones are the smallest and the largest target.

  Args:
    targets: [targets] numbers.
    buckets: how many.

  Raises:
    ValueError: see `borders_of`.

  >>> borders_between(np.array([1.0, 2.0, 3.0, 4.0]), 2)
  (1.0, 2.5, 4.0)
  >>> borders_between(np.array([0.0, 0.0, 0.0, 0.0, 4.0]), 4)  # one target in place of three
  (0.0, 2.0, 4.0)
  """
  if buckets < FEWEST:
    raise ValueError(f'buckets={buckets} are too few; use {FEWEST} or more')
  y = np.sort(np.asarray(targets, np.float64).ravel())
  if lost := int((~np.isfinite(y)).sum()):
    raise ValueError(f'{lost} of {len(y):,} targets are NaN or infinite; clean the data first')
  values = np.unique(y)
  if len(values) < 2:
    raise ValueError(
      f'all {len(y):,} targets are {float(values[0]) if len(values) else "absent"}; a density '
      'needs targets that differ'
    )
  ranks = np.arange(1, buckets) * len(y) // buckets
  below, above = y[ranks - 1], y[ranks]
  between = (below + above)[below < above] / 2
  inner = np.concatenate([between, *_around(values, below[below == above])])
  borders = np.unique(np.array([values[0], *inner, values[-1]], np.float32))
  if len(borders) <= FEWEST:
    raise ValueError(
      f'targets from {values[0]} to {values[-1]} are too close for float32; scale them first'
    )
  return tuple(map(float, borders))


def _around(values: np.ndarray, atoms: np.ndarray) -> Iterator[np.ndarray]:
  """Yields borders beside targets that quantiles are equal to: above each, and below if it is two.

  Args:
    values: [values], all different targets, rising.
    atoms: [quantiles], some of them, each once for a quantile.
  """
  midway = (values[1:] + values[:-1]) / 2
  for atom, times in zip(*np.unique(atoms, return_counts=True), strict=True):
    place = int(np.searchsorted(values, atom))
    yield midway[place : place + 1]
    if times > 1 or place == len(midway):
      yield midway[max(place - 1, 0) : place]
