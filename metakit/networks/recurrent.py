"""Recurrent networks: LSTM (Hochreiter and Schmidhuber 1997) and GRU (Cho et al. 2014)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from metakit.models import Reading, SequenceModel, check_dtype
from metakit.types import Key, Params

CELLS = {'lstm': nn.OptimizedLSTMCell, 'gru': nn.GRUCell}


class Step(nn.Module):
  """One token through all layers. Attributes: see `recurrent`."""

  num_outputs: int
  width: int
  depth: int
  cell: str
  dtype: Any

  @nn.compact
  def __call__(self, states: Any, token: jax.Array) -> tuple[Any, jax.Array]:
    x = nn.Dense(self.width, dtype=self.dtype)(token)
    after = []
    for layer in range(self.depth):
      make = partial(CELLS[self.cell], gate_fn=_wide(nn.sigmoid), activation_fn=_wide(nn.tanh))
      cell = make(self.width, dtype=self.dtype)
      before = states[layer] if states else _start(cell, x.shape, token.dtype)
      state, x = cell(before, x)
      after.append(state)
    return tuple(after), nn.Dense(self.num_outputs, dtype=self.dtype)(x)


def _wide(function: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
  # bfloat16 has no number between 0.996 and 1. A gate that should slowly forget over hundreds of
  # tokens would be rounded to 1, and forget nothing.
  return lambda x: function(x.astype(jnp.promote_types(x.dtype, jnp.float32)))


def _start(cell: nn.RNNCellBase, shape: tuple[int, ...], dtype: Any) -> Any:
  # The state has the type of the tokens. Where products are bfloat16, a sum over many tokens then
  # loses nothing.
  state = cell.initialize_carry(jax.random.key(0), shape)
  return jax.tree.map(lambda leaf: jnp.zeros_like(leaf, dtype), state)


def recurrent(
  num_outputs: int,
  width: int = 128,
  depth: int = 1,
  *,
  cell: str = 'lstm',
  remat: bool = False,
  dtype: str | None = None,
) -> SequenceModel:
  """A recurrent network (LSTM or GRU) that reads sequences: a SequenceModel.

  Args:
    num_outputs: outputs of each token.
    width: units of each layer.
    depth: layers.
    cell: 'lstm' or 'gru'.
    remat: to save memory, computes what happens within a token a second time in the backward pass.
      This is done for tokens that are read, not for questions.
    dtype: type of the matrix products, 'bfloat16' for instance; by default that of parameters and
      inputs. Gates and state are float32 at least.

  Returns:
    A SequenceModel. Its state is that of each layer, and does not grow with the tokens read.

  Raises:
    ValueError: if a size is not positive, or the cell or dtype is unknown.

  >>> model, tokens = recurrent(num_outputs=5, width=16), jax.ShapeDtypeStruct((7, 3), 'float32')
  >>> params = jax.eval_shape(model.init, jax.random.key(0), tokens)
  >>> model.causal, sum(leaf.size for leaf in jax.tree.leaves(params))
  (True, 2261)
  """
  if min(num_outputs, width, depth) < 1:
    raise ValueError(f'num_outputs={num_outputs}, width={width} and depth={depth} must be positive')
  if cell not in CELLS:
    raise ValueError(f'cell={cell!r} is unknown; use one of {", ".join(CELLS)}')
  check_dtype(dtype)
  step = Step(num_outputs, width, depth, cell, dtype)

  def init(key: Key, tokens: jax.Array) -> Params:
    return step.init(key, (), tokens[0])

  def apply(
    params: Params,
    tokens: jax.Array,
    asked: jax.Array,
    seen: jax.Array,
    present: jax.Array | None = None,
    state: Any = None,
  ) -> Reading:
    present = jnp.ones(tokens.shape[0], bool) if present is None else present
    if state is None:
      state = _zeros(step, params, tokens)

    def read(before: Any, token: tuple[jax.Array, jax.Array]) -> Any:
      after, output = step.apply(params, before, token[0])
      after = jax.tree.map(lambda a, b: jnp.where(token[1], a, b), after, before)
      return after, (output, after)

    prefixes = jax.tree.map(lambda s: s[None], state)  # after 0, 1, ... tokens
    outputs = jnp.zeros((0, num_outputs), dtype or tokens.dtype)
    if tokens.shape[0]:  # without jit, lax.scan refuses to go over nothing
      body = jax.checkpoint(read, prevent_cse=False) if remat else read
      _, (outputs, states) = jax.lax.scan(body, state, (tokens, present))
      prefixes = jax.tree.map(lambda *parts: jnp.concatenate(parts), prefixes, states)

    def answer(number: jax.Array, token: jax.Array) -> Any:
      return step.apply(params, jax.tree.map(lambda s: s[number], prefixes), token)[1]

    answers: Any = jax.vmap(answer)(seen, asked)
    return Reading(outputs, answers, jax.tree.map(lambda s: s[-1], prefixes))

  return SequenceModel(init, apply)


def _zeros(step: Step, params: Params, tokens: jax.Array) -> Any:
  token = jax.ShapeDtypeStruct(tokens.shape[1:], tokens.dtype)
  states, _ = jax.eval_shape(step.apply, params, (), token)
  return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), states)
