"""Kinds of attention. Each has a state, from which it can go on with later tokens.

An attention is a function of two kinds of tokens. Tokens that are *read* follow one another, and
later tokens see them. Tokens that are *asked* are questions: a question sees some of the tokens
read and itself, and no other token sees it.

    attend(read, asked, seen, present, state) -> (outputs [read + asked, heads, features], state)

- `seen` [asked] is the number of tokens read here that a question sees. It also sees all tokens of
  the state.
- `present` [read] bool is False for padding, which no token sees.
- `state` holds what later tokens can know of the tokens read so far; None at the start.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metakit.platforms import target_platform


class Heads(NamedTuple):
  """The projections of some tokens: query, key and value, each [tokens, heads, features].

  Attributes:
    query: what a token looks for.
    key: what it is found by.
    value: what it then gives.
    gates: [tokens, heads, gates], how far it changes a memory (metakit.networks.memories).
  """

  query: jax.Array
  key: jax.Array
  value: jax.Array
  gates: Any = None


Attention = Callable[[Heads, Heads, jax.Array, jax.Array, Any], tuple[jax.Array, Any]]


class Cache(NamedTuple):
  """The state of softmax attention: all keys and values.

  Attributes:
    key: [tokens, heads, features].
    value: [tokens, heads, features].
    present: [tokens] bool.
  """

  key: jax.Array
  value: jax.Array
  present: jax.Array


def softmax_attention(causal: bool = True) -> Attention:
  """Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, eq. 1).

  It is written out here for two reasons: fused kernels have no second derivative, and the function
  of jax.nn rounds float64 to float32 in its softmax.

  Args:
    causal: True if a token read sees itself and the tokens before it; False if it sees all tokens
      that are read with it.
  """

  def attend(read: Heads, asked: Heads, seen: jax.Array, present: jax.Array, state: Any):
    cache = _append(state, Cache(read.key, read.value, present))
    order = jnp.arange(cache.present.shape[0]) - (cache.present.shape[0] - present.shape[0])
    last = (
      jnp.arange(present.shape[0]) if causal else jnp.full(present.shape[0], present.shape[0] - 1)
    )
    before = order <= last[:, None]  # [read, cached + read]
    outputs = _softmax_average(read.query, cache, before & cache.present)
    answers = _softmax_average(asked.query, cache, (order < seen[:, None]) & cache.present, asked)
    return jnp.concatenate([outputs, answers]), cache

  return attend


def fused_attention() -> Attention:
  """The same as `softmax_attention()`, by jax.nn.dot_product_attention.

  On an NVIDIA GPU in float16 or bfloat16 this is cuDNN's kernel. It has no second derivative, and
  needs heads of 8, 16, ... or 256 features. Elsewhere XLA's form runs. float64 is rounded to
  float32 inside.
  """

  def attend(read: Heads, asked: Heads, seen: jax.Array, present: jax.Array, state: Any):
    cache = _append(state, Cache(read.key, read.value, present))
    order = jnp.arange(cache.present.shape[0]) - (cache.present.shape[0] - present.shape[0])
    last = jnp.concatenate([jnp.arange(present.shape[0]), seen - 1])
    before = (order <= last[:, None]) & cache.present  # [read + asked, cached + read]
    itself = jnp.concatenate(
      [jnp.zeros((present.shape[0], seen.shape[0]), bool), jnp.eye(seen.shape[0], dtype=bool)]
    )
    query = jnp.concatenate([read.query, asked.query])
    key, value = (
      jnp.concatenate(pair) for pair in ((cache.key, asked.key), (cache.value, asked.value))
    )
    mask = jnp.concatenate([before, itself], axis=1)
    fits = query.dtype in (jnp.float16, jnp.bfloat16) and query.shape[-1] in range(8, 257, 8)
    implementation: Any = 'cudnn' if fits and target_platform() == 'gpu' else 'xla'
    fused = partial(jax.nn.dot_product_attention, implementation=implementation)
    outputs = fused(_even(query), _even(key), _even(value), mask=_even(_even(mask).T).T[None])
    return outputs[: query.shape[0]], cache

  return attend


def _even(rows: jax.Array) -> jax.Array:
  """Adds a row of zeros to an odd number of rows, since cuDNN's gradient needs an even number."""
  return jnp.pad(rows, [(0, len(rows) % 2), *[(0, 0)] * (rows.ndim - 1)])


def _append(state: Cache | None, fresh: Cache) -> Cache:
  return fresh if state is None else Cache(*map(jnp.concatenate, zip(state, fresh, strict=True)))


def _softmax_average(
  query: jax.Array, cache: Cache, mask: jax.Array, itself: Heads | None = None
) -> jax.Array:
  """Averages the values of the cache and, with `own`, each token's own value."""
  wide = _wide(query)
  score = lambda equation, key: jnp.einsum(equation, query, key, preferred_element_type=wide)
  scores = jnp.where(mask, score('nhf,mhf->hnm', cache.key), jnp.finfo(wide).min)
  if itself is not None:
    scores = jnp.append(scores, score('nhf,nhf->hn', itself.key)[..., None], axis=-1)
  weights = jax.nn.softmax(scores / query.shape[-1] ** 0.5).astype(cache.value.dtype)
  if itself is None:
    return jnp.einsum('hnm,mhf->nhf', weights, cache.value)
  others = jnp.einsum('hnm,mhf->nhf', weights[..., :-1], cache.value)
  return others + weights[..., -1].T[..., None] * itself.value


def _wide(array: jax.Array) -> Any:
  """Returns a type for sums over many tokens: float32 at least, since half precision loses them."""
  return jnp.promote_types(array.dtype, jnp.float32)


class Momentum(NamedTuple):
  """The state of attention with momentum.

  Attributes:
    cache: cache of softmax attention.
    average: [heads, features], the decayed sum of the values seen, in float32 at least.
  """

  cache: Cache
  average: jax.Array


def momentum_attention(decay: float) -> Attention:
  """Softmax attention plus a decayed sum of the values before.

  Damai Dai et al., Why Can GPT Learn In-Context?, Findings of ACL 2023, arXiv:2212.10559,
  section 5: the output of token t gains sum_{i < t} decay^(t - i) v_i, as gradient descent gains
  momentum.

  Args:
    decay: eta in the paper, between 0 (no momentum) and 1.

  Raises:
    ValueError: for another decay.
  """
  if not 0 <= decay < 1:
    raise ValueError(f'decay={decay} is not between 0 and 1; use one that is')
  softmax = softmax_attention()

  def attend(read: Heads, asked: Heads, seen: jax.Array, present: jax.Array, state: Any):
    if state is None:
      state = None, jnp.zeros(read.value.shape[1:], _wide(read.value))
    cache, before = state
    outputs, cache = softmax(read, asked, seen, present, cache)
    sums = _decayed_sums(read.value, present, decay, before)  # [1 + read, heads, features]
    after = jnp.concatenate([jnp.arange(present.shape[0]), seen])
    return outputs + sums[after].astype(outputs.dtype), Momentum(cache, sums[-1])

  return attend


def _decayed_sums(
  values: jax.Array, present: jax.Array, decay: float, before: jax.Array
) -> jax.Array:
  """Returns sum_{i < t} decay^(t - i) values[i] for t = 0 .. n; absent tokens are not counted."""
  time = jnp.append(0, jnp.cumsum(present)).astype(before.dtype)  # [1 + n]
  apart = time[:, None] - time[:-1]  # [1 + n, n]
  earlier = (jnp.arange(time.shape[0])[:, None] > jnp.arange(values.shape[0])) & present
  weights = jnp.where(earlier, decay ** jnp.where(earlier, apart, 0), 0)
  carried = (decay**time)[:, None, None] * before
  return carried + jnp.einsum('tn,nhf->thf', weights, values.astype(before.dtype))
