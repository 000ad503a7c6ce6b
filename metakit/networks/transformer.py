"""A transformer over a set or sequence of tokens, with a key/value cache.

Pre-norm blocks (Vaswani et al. 2017, arXiv:1706.03762; Xiong et al. 2020, arXiv:2002.04745), no
positional encoding: the order of the tokens matters only through the mask.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from metakit.models import Model, from_linen


def attention(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array) -> jax.Array:
  """Scaled dot-product attention (Vaswani et al. 2017, eq. 1) of each head.

  Written out because fused kernels have no second derivative, and jax.nn's rounds float64 to
  float32 in its softmax.

  Args:
    query: [n, heads, features].
    key: [m, heads, features].
    value: [m, heads, features].
    mask: [n, m] bool; which keys a query attends to. One without any attends to all alike.

  Returns:
    [n, heads, features].
  """
  wide = jnp.promote_types(query.dtype, jnp.float32)
  scores = jnp.einsum('nhf,mhf->hnm', query, key, preferred_element_type=wide)
  scores = jnp.where(mask, scores / query.shape[-1] ** 0.5, jnp.finfo(wide).min)
  weights = jax.nn.softmax(scores).astype(value.dtype)  # [heads, n, m]
  return jnp.einsum('hnm,mhf->nhf', weights, value)


class Transformer(nn.Module):
  """Attributes: see `transformer`."""

  num_outputs: int
  width: int
  depth: int
  heads: int
  hidden: int

  @nn.compact
  def __call__(self, tokens: jax.Array, mask: jax.Array, cache: Any = None) -> Any:
    x = nn.Dense(self.width)(tokens)  # [tokens, width]
    fresh = []
    for layer in range(self.depth):
      x, keys_values = self._attend(x, mask, None if cache is None else cache[layer])
      fresh.append(keys_values)
      y = nn.Dense(self.hidden)(nn.LayerNorm()(x))
      x = x + nn.Dense(self.width)(nn.gelu(y))
    return nn.Dense(self.num_outputs)(nn.LayerNorm()(x)), tuple(fresh)

  def _attend(self, x: jax.Array, mask: jax.Array, cache: Any) -> tuple[jax.Array, Any]:
    """One attention sub-layer; queries are x, keys and values are the cache followed by x."""
    shape = (len(x), self.heads, self.width // self.heads)
    y = nn.LayerNorm()(x)
    query, key, value = (nn.Dense(self.width)(y).reshape(shape) for _ in range(3))
    fresh = (key, value)
    if cache is not None:
      key, value = (jnp.concatenate(pair) for pair in zip(cache, fresh, strict=True))
    y = attention(query, key, value, mask)
    return x + nn.Dense(self.width)(y.reshape(len(x), self.width)), fresh


def transformer(
  num_outputs: int, width: int = 128, depth: int = 4, heads: int = 4, hidden: int | None = None
) -> Model:
  """A transformer as a Model of one sequence.

  Args:
    num_outputs: outputs of each token.
    width: size of the residual stream.
    depth: number of blocks.
    heads: attention heads; must divide width.
    hidden: units of the feed-forward layers; 4 * width by default.

  Returns:
    A Model with apply(params, tokens [n, features], mask [n, cached + n] bool, cache=None) ->
    (outputs [n, num_outputs], keys_values). `keys_values`, the keys and values of these tokens in
    each layer, is the `cache` of later calls; a mask row says what one token attends to.

  Raises:
    ValueError: if a size is not positive or heads does not divide width.
  """
  hidden = 4 * width if hidden is None else hidden
  if min(width, depth, heads, num_outputs, hidden) < 1:
    raise ValueError(
      f'num_outputs={num_outputs}, width={width}, depth={depth}, heads={heads} and '
      f'hidden={hidden} must be positive'
    )
  if width % heads:
    raise ValueError(f'heads={heads} does not divide width={width}; use a divisor of width')
  return from_linen(Transformer(num_outputs, width, depth, heads, hidden))
