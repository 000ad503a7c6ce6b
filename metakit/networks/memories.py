"""Attention whose state does not grow: matrices of each head, which tokens read and write.

Four ways to write. S [key features, value features] is the state, k, v, q are key, value and query
of a token, a, beta and d its gates:

- linear: S <- S + k v^T (Katharopoulos et al. 2020, arXiv:2006.16236, with the identity as feature
  map). In the dual form of Dai et al. 2023 (arXiv:2212.10559, eq. 7) this is the update of a linear
  layer by gradient descent.
- gated_linear: S <- diag(a) S + k v^T (Yang et al. 2024, arXiv:2312.06635, eq. 3).
- delta: S <- S + beta k (v - S^T k)^T, with keys of norm 1 (Schlag et al. 2021, arXiv:2102.11174,
  eq. 23; Yang et al. 2024, arXiv:2406.06484): what k recalls is replaced, not added to.
- diagonal_ssm: S[n, c] <- exp(-n d[c]) S[n, c] + k[n] v[c], n = 1, 2, ..., a diagonal state space
  whose steps depend on the token (Gu and Dao 2023, arXiv:2312.00752, with the rates fixed to those
  that they start from).

A token reads S^T q, its own writing included. All four go through the tokens in chunks: matrix
products within a chunk, a recurrence over chunks. So time and memory grow linearly with the tokens.
With chunk=1 it is the recurrence itself. States are float32 at least.

Questions (see metakit.networks.attention) are sorted in among the tokens that are read. They read
as if they wrote, and leave the state as it is.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metakit.networks.attention import Attention, Heads
from metakit.sizes import check_positive

# A gate of gated_linear is at least exp(-48 / chunk). So the products of a chunk stay far from the
# ends of the range of float32, and a few tokens still forget all.
RANGE = 48.0
TEMPERATURE = 16.0  # gates are sigmoid(x)^(1 / 16), near 1 at first (Yang et al. 2024, section 4.4)
SLOW = 4.0  # steps of diagonal_ssm are softplus(x - 4), 0.02 at first
EPSILON = 1e-6


class Tokens(NamedTuple):
  """What a chunk of tokens brings. Arrays are [tokens, heads, features]; gates by the kind."""

  query: jax.Array
  key: jax.Array
  value: jax.Array
  gates: jax.Array
  writes: jax.Array  # [tokens, 1, 1] bool


class Kind(NamedTuple):
  """A way to write.

  Attributes:
    gates: features of a head -> how many gates it has.
    prepare: (heads, chunk) -> Tokens, without `writes`, in float32 at least where sums are long.
    read: (Tokens [chunks, chunk, ...], state) -> (outputs [chunks, chunk, heads, features], state).
    normed: whether each output is divided by its root mean square over the features of a head.
  """

  gates: Callable[[int], int]
  prepare: Callable[..., tuple[jax.Array, ...]]
  read: Callable[[Tokens, jax.Array], tuple[jax.Array, jax.Array]]
  normed: bool = False


def memory_attention(kind: str, chunk: int = 16) -> Attention:
  """Attention with a state of fixed size; see the module.

  Args:
    kind: one of KINDS.
    chunk: tokens of a chunk. The result does not depend on it, up to rounding and the least gate
      of gated_linear, exp(-48 / chunk).

  Returns:
    An attention; its state is [heads, key features, value features].

  Raises:
    ValueError: for an unknown kind, or a chunk that is not positive.

  >>> import numpy as np
  >>> one = np.ones((2, 1, 1))  # two tokens, one head of one feature
  >>> nothing = Heads(*np.zeros((3, 0, 1, 1)))
  >>> attend = memory_attention('linear')
  >>> seen, present = np.zeros(0, int), np.ones(2, bool)
  >>> outputs, state = attend(Heads(one, one, one), nothing, seen, present, None)
  >>> outputs.ravel().tolist(), state.ravel().tolist()
  ([1.0, 2.0], [2.0])
  """
  if kind not in KINDS:
    raise ValueError(f'kind={kind!r} is unknown; use one of {", ".join(KINDS)}')
  check_positive(chunk=chunk)
  how = KINDS[kind]

  def attend(read: Heads, asked: Heads, seen: jax.Array, present: jax.Array, state: Any) -> Any:
    order, back = _merged(present.shape[0], seen)
    both = jax.tree.map(lambda *parts: jnp.concatenate(parts)[order], read, asked)
    writes = jnp.append(present, jnp.zeros(seen.shape[0], bool))[order]
    if state is None:
      shape = *read.key.shape[1:], read.value.shape[-1]
      state = _wide(jnp.zeros(shape, both.value.dtype))
    size = _size(order.shape[0], chunk)
    tokens = (*how.prepare(both, chunk), writes[:, None, None])
    outputs, state = how.read(Tokens(*(_cut(leaf, size) for leaf in tokens)), state)
    outputs = outputs.reshape(-1, *outputs.shape[2:])[: order.shape[0]][back]
    if how.normed:
      outputs *= jax.lax.rsqrt(jnp.square(outputs).mean(-1, keepdims=True) + EPSILON)
    return outputs.astype(both.value.dtype), state

  return attend


def gates_of(kind: str, features: int) -> int:
  """Returns how many gates a head of so many features has; 0 for other kinds of attention.

  >>> gates_of('delta', 32), gates_of('gated_linear', 32), gates_of('softmax', 32)
  (1, 32, 0)
  """
  return KINDS[kind].gates(features) if kind in KINDS else 0


def _merged(read: int, seen: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the order in which a question follows all that it sees, and its inverse."""
  if seen.shape[0] == 0:
    return jnp.arange(read), jnp.arange(read)
  order = jnp.argsort(jnp.append(2 * jnp.arange(read) + 1, 2 * seen))
  return order, jnp.argsort(order)


def _size(tokens: Any, chunk: int) -> int:
  """Returns how many tokens a chunk has: one, where a program is for any number of tokens."""
  return min(chunk, max(tokens, 1)) if isinstance(tokens, int) else 1


def _cut(leaf: jax.Array, size: int) -> jax.Array:
  """Returns [tokens, ...] as [chunks, size, ...], filled up with tokens that write nothing."""
  if size > 1 or leaf.shape[0] == 0:
    missing = -len(leaf) % size if len(leaf) else size
    leaf = jnp.pad(leaf, [(0, missing), *[(0, 0)] * (leaf.ndim - 1)])
  return leaf.reshape(-1, size, *leaf.shape[1:])


def _wide(array: jax.Array) -> jax.Array:
  return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _linear(heads: Heads, chunk: int) -> tuple[jax.Array, ...]:
  key = heads.key / heads.key.shape[-1]
  return heads.query, key, heads.value, jnp.zeros_like(_wide(key))


def _gated(heads: Heads, chunk: int) -> tuple[jax.Array, ...]:
  log_gates = jax.nn.log_sigmoid(_wide(heads.gates)) / TEMPERATURE
  key = heads.key / heads.key.shape[-1] ** 0.5
  return heads.query, key, heads.value, jnp.maximum(log_gates, -RANGE / chunk)


def _delta(heads: Heads, chunk: int) -> tuple[jax.Array, ...]:
  unit = lambda x: x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + EPSILON)
  query, key = (unit(_wide(each)) for each in (heads.query, heads.key))
  return query, key, heads.value, jax.nn.sigmoid(_wide(heads.gates))


def _diagonal(heads: Heads, chunk: int) -> tuple[jax.Array, ...]:
  steps = jax.nn.softplus(_wide(heads.gates) - SLOW)
  return heads.query, heads.key / heads.key.shape[-1] ** 0.5, heads.value, steps


def _read_gated(tokens: Tokens, state: jax.Array) -> tuple[jax.Array, jax.Array]:
  """S <- diag(a) S + k v^T. With log a = 0 it is linear attention."""
  query, key, value, log_gates, writes = tokens
  own = (_wide(query) * key).sum(-1, keepdims=True) * value
  query = query * jnp.exp(log_gates)
  key, log_gates = jnp.where(writes, key, 0), jnp.where(writes, log_gates, 0)
  after = jnp.cumsum(log_gates, axis=1)
  before, whole = after - log_gates, after[:, -1]
  query = query * jnp.exp(before)
  scores = jnp.tril(jnp.einsum('cthf,cjhf->chtj', query, key * jnp.exp(-after)), -1)
  written = jnp.einsum('cjhf,cjhg->chfg', key * jnp.exp(whole[:, None] - after), value)

  def step(state: jax.Array, chunk: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    kept, added = chunk
    return kept[..., None] * state + added, state

  state, starts = jax.lax.scan(step, state, (jnp.exp(whole), written.astype(state.dtype)))
  outputs = own + jnp.einsum('chtj,cjhg->cthg', scores, value)
  return outputs + jnp.einsum('cthf,chfg->cthg', query, starts), state


def _read_delta(tokens: Tokens, state: jax.Array) -> tuple[jax.Array, jax.Array]:
  """S <- S + beta k (v - S^T k)^T, in the form of Yang et al. 2024 (arXiv:2406.06484, section 3.2).

  Within a chunk S_t = S_0 + sum_j k_j u_j^T. The u solve a triangular system.
  """
  query, key, value, beta, writes = tokens
  recalled = beta * (query * key).sum(-1, keepdims=True)
  own, query = recalled * value, query - recalled * key
  beta = jnp.where(writes, beta, 0)
  by_head = lambda x: jnp.swapaxes(x, 1, 2)  # [chunks, heads, chunk, ...]
  right = by_head(beta * jnp.concatenate([value, key], axis=-1))
  query, key, beta = map(by_head, (query, key, beta))
  system = jnp.tril(beta * jnp.einsum('chtf,chjf->chtj', key, key), -1)
  solved = jax.scipy.linalg.solve_triangular(
    system + jnp.eye(system.shape[-1], dtype=system.dtype), right, lower=True, unit_diagonal=True
  )
  values, keys = jnp.split(solved, [value.shape[-1]], axis=-1)

  def step(state: jax.Array, chunk: tuple[jax.Array, ...]) -> tuple[jax.Array, Any]:
    key, values, keys = chunk
    updates = values - keys @ state
    return state + jnp.swapaxes(key, -1, -2) @ updates, (state, updates)

  state, (starts, updates) = jax.lax.scan(step, state, (key, values, keys))
  scores = jnp.tril(jnp.einsum('chtf,chjf->chtj', query, key), -1)
  return own + by_head(query @ starts + scores @ updates), state


def _read_diagonal(tokens: Tokens, state: jax.Array) -> tuple[jax.Array, jax.Array]:
  """S[n, c] <- exp(-n d[c]) S[n, c] + k[n] v[c]: no product of matrices, so tokens in parallel."""
  rates = jnp.arange(1, tokens.key.shape[-1] + 1, dtype=state.dtype)[:, None]

  # What happens within a chunk is computed again in the backward pass. Its states would be larger
  # than all else.
  @jax.checkpoint
  def step(state: jax.Array, chunk: Tokens) -> tuple[jax.Array, jax.Array]:
    query, key, value, steps, writes = chunk
    kept = jnp.exp(-rates * steps[..., None, :])  # [chunk, heads, key features, value features]
    added = (key[..., None] * value[..., None, :]).astype(state.dtype)
    writes = writes[..., None]
    factors, sums = jax.lax.associative_scan(
      lambda one, other: (one[0] * other[0], one[1] * other[0] + other[1]),
      (jnp.where(writes, kept, 1), jnp.where(writes, added, 0)),
    )
    states = factors * state + sums
    before = jnp.concatenate([state[None], states[:-1]])
    return states[-1], jnp.einsum('thf,thfg->thg', query, kept * before + added)

  state, outputs = jax.lax.scan(step, state, tokens)
  return outputs, state


KINDS = {
  'linear': Kind(lambda features: 0, _linear, _read_gated),
  'gated_linear': Kind(lambda features: features, _gated, _read_gated, normed=True),
  'delta': Kind(lambda features: 1, _delta, _read_delta),
  'diagonal_ssm': Kind(lambda features: features, _diagonal, _read_diagonal, normed=True),
}
