"""How an NNX module is called as a pure network: its statistics, buffers and random numbers."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from metakit import roles
from metakit.batch_statistics import pool_statistics
from metakit.types import Key, Params

Path = tuple[Any, ...]
NORMS = nnx.BatchNorm, nnx.GroupNorm, nnx.InstanceNorm, nnx.LayerNorm, nnx.RMSNorm


class Parts(NamedTuple):
  """A module taken apart.

  Attributes:
    graph: what of it is no array.
    params: parameters, and statistics of batches.
    draws: states of its random generators.
    constants: all other arrays.
    batch_norms: paths of the layers that normalise by the statistics of their batch.
    norms: paths of all normalisation layers.
  """

  graph: Any
  params: Any
  draws: Any
  constants: Any
  batch_norms: frozenset[Path]
  norms: frozenset[Path]


def take_apart(
  make: Callable[[nnx.Rngs], nnx.Module], norms: Sequence[type[nnx.Module]], key: Key
) -> Parts:
  """Returns the parts of a module that `make` makes with a key."""
  module = make(nnx.Rngs(key))
  layers = [(path, node) for path, node in nnx.iter_graph(module) if isinstance(node, nnx.Module)]
  of_batch = frozenset(
    path
    for path, node in layers
    if isinstance(node, nnx.BatchNorm) and not node.use_running_average
  )
  normalising = frozenset(path for path, node in layers if isinstance(node, (*NORMS, *norms)))
  measured = lambda path, leaf: isinstance(leaf, nnx.BatchStat) and tuple(path[:-1]) in of_batch
  graph, *states = nnx.split(module, nnx.Any(nnx.Param, measured), nnx.RngState, ...)
  params, draws, constants = states
  return Parts(graph, params, draws, constants, of_batch, normalising)


def check_constants(
  parts: Parts, make: Callable[[nnx.Rngs], nnx.Module], norms: Sequence[type[nnx.Module]]
) -> None:
  """Raises ValueError for a constant that depends on the key, which no parameters would record."""
  constants = _flat(parts.constants)
  others = _flat(take_apart(make, norms, jax.random.key(1)).constants) if constants else {}
  drawn = [path for path, leaf in constants.items() if not np.array_equal(leaf, others[path])]
  if drawn:
    raise ValueError(
      f'the NNX module draws what is no nnx.Param from its key: {_names(drawn)}; make it an '
      'nnx.Param, or draw it from a key of its own'
    )


def call(
  parts: Parts, params: Params, inputs: Sequence[Any], *, key: Key | None, **attributes: Any
) -> tuple[Any, dict[Path, jax.Array]]:
  """Calls a module.

  Args:
    parts: parts of the module.
    params: its parameters.
    inputs: inputs of the call.
    key: what it draws from, as in training; None for no dropout.
    **attributes: attributes of the layers that normalise by the statistics of their batch.

  Returns:
    Its outputs, and its statistics after the call, by path.

  Raises:
    ValueError: if the call changes other state, or draws without a key.
  """
  draws = parts.draws if key is None else _seeded(parts.draws, key)
  # Variables made here: those made outside of a transformation cannot be changed within.
  params, draws, constants = jax.tree.map(lambda leaf: leaf, (params, draws, parts.constants))
  fixed = _flat(constants) | (_flat(draws) if key is None else {})
  module = nnx.merge(parts.graph, params, draws, constants)
  if key is None:
    module.set_attributes(deterministic=True, raise_if_not_found=False)
  for path, layer in nnx.iter_graph(module):
    if path in parts.batch_norms:
      layer.set_attributes(**attributes)
  outputs = module(*inputs)
  after = _flat(nnx.state(module))
  changed = [path for path, leaf in fixed.items() if after[path] is not leaf]
  if changed:
    raise ValueError(
      f'the NNX module changes {_names(changed)} in a call, which a pure network cannot keep; draw '
      'in nnx.Dropout alone, and leave out counters and running averages'
    )
  return outputs, {path: after[path] for path in after if path[:-1] in parts.batch_norms}


def pooled(params: Params, measured: dict[Path, jax.Array]) -> Params:
  """Returns parameters with the statistics of several batches, [batches, channels] by path."""
  values: dict[Path, jax.Array] = {}
  for layer in {path[:-1] for path in measured}:
    moments = {'mean': measured[*layer, 'mean'], 'var': measured[*layer, 'var']}
    values |= {(*layer, name): leaf for name, leaf in pool_statistics(moments).items()}
  flat = nnx.to_flat_state(params)
  fresh = [(path, leaf.replace(values.get(tuple(path), leaf[...]))) for path, leaf in flat]
  return nnx.from_flat_state(fresh)


def roles_of(parts: Parts, params: Params) -> Any:
  """Returns a tree like params of metakit.roles."""
  measured = lambda path: path[:-2] in parts.batch_norms and path[-2] in ('mean', 'var')
  return roles.assign(params, parts.norms, measured)


def _seeded(draws: Any, key: Key) -> Any:
  """Returns generators that start from a key, each from its own."""
  leaves, tree = jax.tree.flatten(draws)
  is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  fresh = [
    jax.random.fold_in(key, i) if is_key(leaf) else jnp.zeros_like(leaf)
    for i, leaf in enumerate(leaves)
  ]
  return jax.tree.unflatten(tree, fresh)


def _flat(state: Any) -> dict[Path, Any]:
  raw = lambda leaf: leaf.get_raw_value() if isinstance(leaf, nnx.Variable) else leaf
  return {tuple(path): raw(leaf) for path, leaf in nnx.to_flat_state(state)}


def _names(paths: Sequence[Path]) -> str:
  return ', '.join('.'.join(map(str, path)) for path in paths)
