"""A transformer over a sequence or set of tokens. It can stop, and go on from its state later.

Pre-norm blocks (Vaswani et al. 2017, arXiv:1706.03762; Xiong et al. 2020, arXiv:2002.04745).
"""

from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from metakit.models import Reading, SequenceModel, check_dtype, sequence_from_linen
from metakit.networks.attention import (
  Attention,
  Heads,
  fused_attention,
  momentum_attention,
  softmax_attention,
)
from metakit.networks.memories import KINDS, gates_of, memory_attention

PROJECTIONS = 'projections'  # of a block: kernel [..., width, 3, heads, features], q, k and v


class Block(nn.Module):
  """Attention, then a perceptron. Attributes: see `transformer`."""

  attend: Attention
  heads: int
  hidden: int
  dtype: Any
  gates: int = 0

  @nn.compact
  def __call__(
    self, parts: tuple[jax.Array, jax.Array], state: Any, seen: Any, present: Any
  ) -> Any:
    read, x = parts[0].shape[0], jnp.concatenate(parts)
    width = x.shape[-1]
    dense = lambda size: nn.Dense(size, dtype=self.dtype)
    norm = lambda: nn.LayerNorm(dtype=self.dtype)
    shape = 3, self.heads, width // self.heads
    projections = nn.DenseGeneral(shape, dtype=self.dtype, name=PROJECTIONS)
    normed = norm()(x)
    heads = Heads(*jnp.moveaxis(projections(normed), 1, 0))  # each [tokens, heads, features]
    if self.gates:
      gates = nn.DenseGeneral((self.heads, self.gates), dtype=self.dtype, name='gates')
      heads = heads._replace(gates=gates(normed))
    heads_read, heads_asked = (
      jax.tree.map(itemgetter(part), heads) for part in (np.s_[:read], np.s_[read:])
    )
    attended, state = self.attend(heads_read, heads_asked, seen, present, state)
    self.sow('intermediates', 'heads', heads_asked)
    self.sow('intermediates', 'attended', attended[read:])
    x = x + dense(width)(attended.reshape(x.shape[0], width))
    x = x + dense(width)(nn.gelu(dense(self.hidden)(norm()(x))))
    return (x[:read], x[read:]), state


class Transformer(nn.Module):
  """Attributes: see `transformer`."""

  num_outputs: int
  width: int
  depth: int
  heads: int
  gates: int
  hidden: int
  attend: Attention
  positions: int
  scan: bool
  remat: bool
  dtype: Any

  @nn.compact
  def __call__(self, tokens: Any, asked: Any, seen: Any, present: Any, state: Any) -> Reading:
    begun, states = (jnp.zeros((), jnp.int32), None) if state is None else state
    time = begun + jnp.append(0, jnp.cumsum(present))  # [1 + tokens]; padding takes none
    embed = nn.Dense(self.width, dtype=self.dtype)
    x = embed(tokens), embed(asked)
    if self.positions:
      _check_length(len(tokens), self.positions)
      table = self.param(
        'positions', nn.initializers.normal(0.02), (self.positions + 1, self.width), jnp.float32
      )
      at = lambda place: (
        jnp.asarray(table, x[0].dtype).at[place].get(mode='fill', fill_value=jnp.nan)
      )
      x = x[0] + at(time[:-1]), x[1] + at(time[seen])
    block = nn.remat(Block, prevent_cse=not self.scan) if self.remat else Block
    sizes = self.attend, self.heads, self.hidden, self.dtype, self.gates
    if self.scan:
      layers = nn.scan(
        block,
        variable_axes={'params': 0, 'intermediates': 0},
        split_rngs={'params': True},
        in_axes=(0, nn.broadcast, nn.broadcast),
        length=self.depth,
      )
      x, states = layers(*sizes)(x, states, seen, present)
    else:
      fresh = []
      for layer in range(self.depth):
        x, after = block(*sizes)(x, jax.tree.map(itemgetter(layer), states), seen, present)
        fresh.append(after)
      states = jax.tree.map(lambda *s: jnp.stack(s), *fresh)
    head, norm = nn.Dense(self.num_outputs, dtype=self.dtype), nn.LayerNorm(dtype=self.dtype)
    outputs, answers = (head(norm(part)) for part in x)
    return Reading(outputs, answers, (time[-1], states))


def transformer(
  num_outputs: int,
  width: int = 128,
  depth: int = 4,
  *,
  heads: int = 4,
  hidden: int | None = None,
  attention: str = 'softmax',
  decay: float = 0.1,
  chunk: int = 16,
  positions: int = 0,
  scan: bool = False,
  remat: bool = False,
  dtype: str | None = None,
) -> SequenceModel:
  """A transformer that reads sequences, with one of several attentions: a SequenceModel.

  Args:
    num_outputs: outputs of each token.
    width: size of the residual stream.
    depth: number of blocks.
    heads: attention heads; must divide width.
    hidden: units of the feed-forward layers; 4 * width by default.
    attention: one of
      'softmax': causal;
      'fused': the same by jax.nn.dot_product_attention, which is cuDNN's kernel on an NVIDIA GPU
      with dtype=bfloat16. It has no second derivative;
      'set': tokens that are read together all see one another;
      'momentum': softmax with a decayed sum of earlier values;
      'linear', 'gated_linear', 'delta', 'diagonal_ssm': with a state that does not grow
      (metakit.networks.memories).
    decay: decay of 'momentum'.
    chunk: tokens that are read at once where the state does not grow; for speed alone.
    positions: tokens of the longest sequence. Each place has a learned vector, and so has a
      question after the last token. 0 for no such vectors: order then matters only through the
      causal mask.
    scan: compiles one block for all layers. The parameters of the blocks are then stacked.
    remat: computes the activations of a block a second time in the backward pass, to save memory.
    dtype: type of the computation, such as 'bfloat16'; by default that of parameters and inputs.

  Returns:
    A SequenceModel. Its state is the number of tokens read [] int32, and the attention states of
    all layers, stacked along a first axis. `inspect` shows the `heads` (query, key, value) of the
    questions in each block, and what they `attended` to [asked, heads, features].

  Raises:
    ValueError: if a size is not positive, heads does not divide width, or an option is unknown; at
      init and apply, if a sequence is longer than `positions`.

  >>> transformer(num_outputs=5).causal, transformer(num_outputs=5, attention='set').causal
  (True, False)
  """
  hidden = 4 * width if hidden is None else hidden
  if min(width, depth, heads, num_outputs, hidden) < 1:
    raise ValueError(
      f'num_outputs={num_outputs}, width={width}, depth={depth}, heads={heads} and '
      f'hidden={hidden} must be positive'
    )
  if width % heads:
    raise ValueError(f'heads={heads} does not divide width={width}; use a divisor of width')
  if positions < 0:
    raise ValueError(f'positions={positions} is negative; use 0 for none')
  check_dtype(dtype)
  attend = _attention(attention, decay, chunk)
  gates = gates_of(attention, width // heads)
  sizes = num_outputs, width, depth, heads, gates, hidden, attend, positions, scan, remat
  return sequence_from_linen(Transformer(*sizes, dtype), attention != 'set')


def _attention(name: str, decay: float, chunk: int) -> Attention:
  if name in ('softmax', 'set'):
    return softmax_attention(causal=name == 'softmax')
  if name == 'fused':
    return fused_attention()
  if name == 'momentum':
    return momentum_attention(decay)
  if name in KINDS:
    return memory_attention(name, chunk)
  raise ValueError(
    f'attention={name!r} is unknown; use softmax, fused, set, momentum, {", ".join(KINDS)}'
  )


def _check_length(tokens: int, positions: int) -> None:
  # Only the tokens of this call are counted here. How many the state holds is known on the device
  # alone; beyond the last position the outputs are NaN.
  if tokens > positions:
    raise ValueError(
      f'{tokens} tokens are more than positions={positions}; use network transformer with '
      f'positions>={tokens}, or positions=0'
    )
