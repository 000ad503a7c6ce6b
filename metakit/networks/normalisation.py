"""Normalisation layers without hidden state.

'batch' normalises by the statistics of the examples of the call. So a prediction depends on the
other examples: it is transductive. Once the statistics of training batches are stored, it no longer
does. `Model.stored` (metakit.models) holds that form.

The stored statistics are averaged over batches after training ("precise batch norm", Wu and
Johnson, Rethinking "Batch" in BatchNorm, 2021, arXiv:2105.07576). No moving average is kept during
training, so training needs no state beside the parameters.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from metakit.networks.linear import transposes
from metakit.networks.pooling import max_pool

Moments = tuple[jax.Array, jax.Array]
NORMS = ('batch', 'group', 'layer', 'none')
EPSILON = 1e-5


def check_norm(norm: str) -> None:
  """Raises ValueError for an unknown norm."""
  if norm not in NORMS:
    raise ValueError(f'norm={norm!r} is unknown; use one of {", ".join(NORMS)}')


class BatchNorm(nn.Module):
  """Batch normalisation (Ioffe and Szegedy 2015, arXiv:1502.03167) over all axes but the last.

  Attributes:
    stored: uses the stored variables 'statistics', not the moments of the call.
    pool: 2x2 max-pooling follows. It is done before the normalisation is applied, since only a
      fourth of the numbers is left to normalise then. Where the scale is negative, the smallest
      number of a window is taken. The result is the same.
  """

  stored: bool = False
  pool: bool = False

  @nn.compact
  def __call__(
    self, x: jax.Array, weight: jax.Array | None = None, moments: Moments | None = None
  ) -> jax.Array:
    channels = x.shape[-1]
    scale = self.param('scale', nn.initializers.ones, (channels,), jnp.float32)
    bias = self.param('bias', nn.initializers.zeros, (channels,), jnp.float32)
    mean = self.variable('statistics', 'mean', jnp.zeros, (channels,), jnp.float32)
    var = self.variable('statistics', 'var', jnp.ones, (channels,), jnp.float32)
    if self.stored:
      moments = mean.value, var.value
    elif moments is None:
      moments = _moments(precise(x), weight)
    if self.is_mutable_collection('statistics') and not self.is_initializing():
      mean.value, var.value = moments
    factor = jax.lax.rsqrt(moments[1] + EPSILON) * scale
    x = max_pool(x, scale) if self.pool else x
    rows = x.size // channels
    spread = lambda v: _spread(v.astype(x.dtype), rows=rows)
    y = x.reshape(rows, channels) * spread(factor) + spread(bias - moments[0] * factor)
    return y.reshape(x.shape)


def precise(x: jax.Array) -> jax.Array:
  """Casts types that are less precise than float32 to float32."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _moments(x: jax.Array, weight: jax.Array | None) -> Moments:
  """Mean and variance per channel; examples of weight 0 are absent."""
  mean, centred, weighted, total = _centred(x, weight)
  return mean, _total(centred * weighted, rows=centred.shape[0]) / total


def covariances(x: jax.Array, weight: jax.Array | None) -> Moments:
  """Mean [channels] and covariances [channels, channels] over all axes but the last."""
  mean, centred, weighted, total = _centred(precise(x), weight)
  return mean, centred.T @ weighted / total


def _centred(x: jax.Array, weight: jax.Array | None) -> tuple[jax.Array, ...]:
  """Returns the means of the channels, the centred rows, these times their weights, and the total
  weight."""
  flat = x.reshape(-1, x.shape[-1])
  rows = flat.shape[0]
  if weight is None:
    mean = _total(flat, rows=rows) / rows
    centred = flat - _spread(mean, rows=rows)
    return mean, centred, centred, jnp.asarray(rows, x.dtype)
  weight = jnp.repeat(weight, rows // x.shape[0])[:, None]
  total = jnp.maximum(weight.sum(), jnp.finfo(x.dtype).tiny)  # all may be absent
  mean = _total(flat * weight, rows=rows) / total
  centred = flat - _spread(mean, rows=rows)
  return mean, centred, centred * weight, total


def _broadcast(v: jax.Array, *, rows: int) -> jax.Array:
  return jnp.broadcast_to(v[..., None, :], (*v.shape[:-1], rows, v.shape[-1]))


def _sum_by_product(x: jax.Array, *, rows: int) -> jax.Array:
  """Sums by a product with ones, which on a CPU is ten times as fast as a sum over these axes."""
  ones = jnp.ones((*x.shape[:-2], 1, rows), x.dtype)
  return jnp.squeeze(jnp.matmul(ones, x), -2)


# `_total` sums [..., rows, channels] over rows; `_spread` copies [..., channels] to each row.
_total, _spread = transposes(
  'total', lambda x, *, rows: x.sum(-2), _broadcast, cpu=(_sum_by_product, _broadcast)
)


class Norm(nn.Module):
  """One of NORMS by name; 'group' is one group per 8 channels (or more, to divide them evenly).

  Attributes:
    norm: 'batch', 'group', 'layer' or 'none'.
    stored: see BatchNorm.
    pool: 2x2 max-pooling follows.
  """

  norm: str = 'batch'
  stored: bool = False
  pool: bool = False

  @nn.compact
  def __call__(
    self, x: jax.Array, weight: jax.Array | None = None, moments: Moments | None = None
  ) -> jax.Array:
    """Normalises x. `moments` are the mean and variance of x [channels], if they are known."""
    if self.norm == 'batch':
      return BatchNorm(self.stored, self.pool)(x, weight, moments)
    if self.norm == 'group':  # Wu and He 2018, arXiv:1803.08494
      groups = math.gcd(x.shape[-1], max(1, x.shape[-1] // 8))
      x = nn.GroupNorm(groups, epsilon=EPSILON)(x)
    if self.norm == 'layer':  # over channels and positions, as for images in Ba et al. 2016
      x = nn.GroupNorm(1, epsilon=EPSILON)(x)
    return max_pool(x) if self.pool else x
