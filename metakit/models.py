"""Model: a network as two pure functions, and the bridges from Flax Linen and Flax NNX.

Flax is imported by who uses it: it would take a third of the time of `import metakit`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from metakit.types import Key, Params

if TYPE_CHECKING:
  from flax import linen as nn
  from flax import nnx


class StoredStatistics(NamedTuple):
  """The test-time form of a network that normalises by the statistics of its batch.

  Attributes:
    apply: (params, *inputs) -> outputs with the statistics stored in params; row by row.
    calibrate: (params, batches, weight, *more) -> params with the statistics averaged over the
      batches [batches, examples, ...]; weight [batches, examples] or None; `more` are the network's
      further inputs, the same for all batches.
  """

  apply: Callable[..., Any]
  calibrate: Callable[..., Params]


class Model(NamedTuple):
  """A network as pure functions.

  Attributes:
    init: (key, *inputs) -> params.
    apply: (params, *inputs, weight=None) -> outputs. `weight` [examples] matters only to networks
      whose examples influence one another (batch statistics): weight 0 means absent.
    stored: None if every output depends on its own input alone; otherwise how to make it so.
  """

  init: Callable[..., Params]
  apply: Callable[..., Any]
  stored: StoredStatistics | None = None


class Reading(NamedTuple):
  """What a sequence model makes of some tokens.

  Attributes:
    outputs: [tokens, outputs] of the tokens read, each a function of those up to itself.
    answers: [asked, outputs] of the tokens asked.
    state: a pytree: all that later tokens can know of the tokens read so far.
  """

  outputs: jax.Array
  answers: jax.Array
  state: Any


class SequenceModel(NamedTuple):
  """A network over sequences, as pure functions of one sequence.

  Attributes:
    init: (key, tokens [tokens, features]) -> params.
    apply: (params, tokens [tokens, features], asked [asked, features], seen [asked] int,
      present=None, state=None) -> Reading. The tokens are read one after the other, going on from
      `state` (of an earlier Reading; None at the start); `present` [tokens] bool is False for
      padding, which has no effect. asked[i] is answered as if it came after seen[i] of the tokens
      read here, and leaves no trace: no other token sees it.
    causal: whether a token sees nothing that comes after it; otherwise tokens that are read
      together see one another.
    inspect: like apply, returns what the network shows of its insides by name (the `sow` of Linen);
      None if it shows nothing.
  """

  init: Callable[..., Params]
  apply: Callable[..., Reading]
  causal: bool = True
  inspect: Callable[..., Any] | None = None


def check_dtype(dtype: str | None) -> None:
  """Raises ValueError unless dtype is None or names a floating-point type."""
  try:
    known = dtype is None or jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
  except TypeError:
    known = False
  if not known:
    raise ValueError(f'dtype={dtype!r} is no floating-point type; use bfloat16 or float32')


def embed_rows(model: Model) -> Callable[[Params, Any], Any]:
  """Returns the (params, x) -> outputs of `model` in which rows do not influence one another."""
  return model.stored.apply if model.stored else model.apply


def as_float(x: jax.Array) -> jax.Array:
  """Casts uint8 images to float32 in [0, 1], other integers to float32; floats pass unchanged."""
  if x.dtype == jnp.uint8:
    return x.astype(jnp.float32) / 255
  return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.float32)


# Integers are cast: sums and distances of bytes would wrap.
identity = Model(init=lambda key, *inputs: {}, apply=lambda params, x, weight=None: as_float(x))


def from_linen(module: nn.Module, statistics_module: nn.Module | None = None) -> Model:
  """Makes a Model of a Linen module.

  Args:
    module: called as module(x) or, if its __call__ has such a parameter, module(x, weight=weight).
      Its variables may be 'params' and, if it uses metakit.networks.normalisation, 'statistics'.
    statistics_module: the same network reading the stored 'statistics'; None if it has none.

  Returns:
    A Model whose params are the module's variables.

  Raises:
    ValueError: at init, if the module keeps other variables (nn.BatchNorm's batch_stats, say).
  """
  takes_weight = 'weight' in inspect.signature(type(module).__call__).parameters

  def init(key: Key, *inputs: Any) -> Params:
    variables = module.init(key, *inputs)
    unknown = set(variables) - {'params', 'statistics'}
    if unknown:
      raise ValueError(
        f'{type(module).__name__} keeps the variables {sorted(unknown)}, which a pure Model cannot '
        "update; use metakit.networks.normalisation, or a norm without state ('group', 'layer')"
      )
    return variables

  def apply(params: Params, *inputs: Any, weight: Any = None) -> Any:
    options = {'weight': weight} if takes_weight and weight is not None else {}
    return module.apply(params, *inputs, **options)

  if statistics_module is None:
    return Model(init, apply)

  def calibrate(params: Params, batches: Any, weight: Any = None, *more: Any) -> Params:
    def measure(x, w):
      _, updated = module.apply(params, x, *more, weight=w, mutable=['statistics'])
      return updated['statistics']

    # Sequential, so that the memory is that of one batch.
    measured = jax.lax.map(lambda batch: measure(*batch), (batches, weight))
    return {**params, 'statistics': pool_statistics(measured)}

  def apply_stored(params: Params, *inputs: Any, weight: Any = None) -> Any:
    del weight  # rows do not influence one another
    return statistics_module.apply(params, *inputs)

  return Model(init, apply, StoredStatistics(apply_stored, calibrate))


def sequence_from_linen(module: nn.Module, causal: bool = True) -> SequenceModel:
  """Makes a SequenceModel of a Linen module.

  Args:
    module: called as module(tokens, asked, seen, present, state), see SequenceModel; state is None
      at the start. It returns a Reading.
    causal: see SequenceModel.
  """

  def init(key: Key, tokens: jax.Array) -> Params:
    nothing = tokens[:0], jnp.zeros(0, jnp.int32)
    return module.init(key, tokens, *nothing, jnp.ones(len(tokens), bool), None)

  def apply(
    params: Params,
    tokens: jax.Array,
    asked: jax.Array,
    seen: jax.Array,
    present: jax.Array | None = None,
    state: Any = None,
  ) -> Reading:
    present = jnp.ones(len(tokens), bool) if present is None else present
    return cast(Reading, module.apply(params, tokens, asked, seen, present, state))

  def inspect(params: Params, *inputs: Any) -> Any:
    return module.apply(params, *inputs, mutable=['intermediates'])[1]['intermediates']

  return SequenceModel(init, apply, causal, inspect)


def learned(params: Params) -> tuple[list[jax.Array], Callable[[list[jax.Array]], Params]]:
  """Returns the arrays of a Model that are learned rather than measured ('statistics').

  Returns:
    The arrays, and a function that returns the parameters with others in their place.
  """
  found, tree = jax.tree_util.tree_flatten_with_path(params)
  own = ['statistics' not in jax.tree_util.keystr(path) for path, _ in found]

  def replaced(arrays: list[jax.Array]) -> Params:
    others = iter(arrays)
    leaves = [next(others) if mine else leaf for mine, (_, leaf) in zip(own, found, strict=True)]
    return jax.tree.unflatten(tree, leaves)

  return [leaf for mine, (_, leaf) in zip(own, found, strict=True) if mine], replaced


def pool_statistics(measured: Any) -> Any:
  """Pools per-batch moments: mean of means, and mean of variances plus variance of means."""
  if 'mean' in measured:
    mean, var = measured['mean'], measured['var']
    return {'mean': mean.mean(0), 'var': var.mean(0) + mean.var(0)}
  return {name: pool_statistics(child) for name, child in measured.items()}


def from_nnx(make: Callable[[nnx.Rngs], nnx.Module]) -> Model:
  """Makes a Model of an NNX module.

  Args:
    make: rngs -> module; all of the module's state must be nnx.Param.

  Returns:
    A Model whose params are the module's nnx.Param state.

  Raises:
    ValueError: if the module keeps state other than parameters.

  >>> import jax
  >>> from flax import nnx
  >>> model = from_nnx(lambda rngs: nnx.Linear(3, 2, rngs=rngs))
  >>> params = model.init(jax.random.key(0), None)
  >>> model.apply(params, jax.numpy.ones((5, 3))).shape
  (5, 2)
  """
  from flax import nnx

  graph, _, *rest = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))), nnx.Param, ...)
  others = [leaf for state in rest for leaf in nnx.to_flat_state(state)]
  if others:
    names = ', '.join(f'{".".join(map(str, path))} ({type(v).__name__})' for path, v in others)
    raise ValueError(
      f'the NNX module keeps state that is not nnx.Param: {names}; use layers without state '
      '(nnx.GroupNorm, nnx.LayerNorm)'
    )

  def init(key: Key, *inputs: Any) -> Params:
    del inputs  # NNX modules know their shapes
    return nnx.split(make(nnx.Rngs(key)), nnx.Param, ...)[1]

  def apply(params: Params, *inputs: Any, weight: Any = None) -> Any:
    del weight
    return nnx.merge(graph, params, *rest)(*inputs)

  return Model(init, apply)
