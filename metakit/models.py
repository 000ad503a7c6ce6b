"""Model: a network as two pure functions, and the bridges from Flax Linen and Flax NNX.

Flax is imported only when one of the bridges is used, since its import would be a third of the time
of `import metakit`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from metakit.batch_statistics import pool_statistics
from metakit.inputs import as_array, as_float, shape_of
from metakit.roles import WEIGHT, Roles, partition
from metakit.types import Key, Params

if TYPE_CHECKING:
  from flax import linen as nn
  from flax import nnx


class StoredStatistics(NamedTuple):
  """The test-time form of a network that normalises by the statistics of its batch.

  Attributes:
    apply: (params, *inputs) -> outputs, from the statistics that params hold. Rows do not influence
      one another.
    calibrate: (params, batches, weight, *more) -> params with statistics averaged over the batches
      [batches, examples, ...]. weight is [batches, examples] or None. `more` are further inputs of
      the network, the same for all batches.
  """

  apply: Callable[..., Any]
  calibrate: Callable[..., Params]


class Model(NamedTuple):
  """A network as pure functions.

  Attributes:
    init: (key, *inputs) -> params.
    apply: (params, *inputs, weight=None) -> outputs. `weight` [examples] matters only to networks
      whose examples influence one another (batch statistics): weight 0 means absent.
    stored: None if every output depends only on its own input. Otherwise the form of the network in
      which it does.
    roles: (params, *inputs) -> a tree like params that says what each array is (metakit.roles):
      'weight', 'norm' or 'constant'. None if all are weights.
    stochastic: True if `apply` (and stored.apply) also takes `key`, which it draws from (dropout).
      Learners give a key only in training, another one for each call. Without one nothing is drawn.
  """

  init: Callable[..., Params]
  apply: Callable[..., Any]
  stored: StoredStatistics | None = None
  roles: Roles | None = None
  stochastic: bool = False


# It is folded into a task's key to make the key that the network draws from. No training has so
# many steps.
DRAWS = 0x64726177


def draws_of(model: Model, key: Key) -> Key | None:
  """Returns the key that a network draws from when trained on a task; None if it draws nothing.

  Args:
    model: the network.
    key: key of the task; other things may be drawn from it.
  """
  return jax.random.fold_in(key, DRAWS) if model.stochastic else None


def drawing(apply: Callable[..., Any], key: Key | None, call: Any = None) -> Callable[..., Any]:
  """Returns an `apply` that draws from a key of `draws_of`.

  Args:
    apply: the `apply` of a Model.
    key: None for no draws, as at test time.
    call: number of the call within the task, [] int, if there are several.
  """
  if key is None:
    return apply
  return partial(apply, key=key if call is None else jax.random.fold_in(key, call))


class Reading(NamedTuple):
  """What a sequence model makes of some tokens.

  Attributes:
    outputs: [tokens, outputs] of the tokens read, each a function of the tokens up to itself.
    answers: [asked, outputs] of the questions.
    state: a pytree of all that later tokens can know of the tokens read so far.
  """

  outputs: jax.Array
  answers: jax.Array
  state: Any


class SequenceModel(NamedTuple):
  """A network over sequences, as pure functions of one sequence.

  Attributes:
    init: (key, tokens [tokens, features]) -> params.
    apply: (params, tokens [tokens, features], asked [asked, features], seen [asked] int,
      present=None, state=None) -> Reading. The tokens are read one after the other. `state` is that
      of an earlier Reading, from which the reading goes on; None at the start. `present` [tokens]
      bool is False for padding, which has no effect. asked[i] is a question that sees the first
      seen[i] of the tokens read here. No other token sees it.
    causal: True if a token sees nothing that comes after it. Otherwise tokens that are read
      together see one another.
    inspect: takes what apply takes; returns inner values of the network by name (the `sow` of
      Linen). None if the network shows none.
  """

  init: Callable[..., Params]
  apply: Callable[..., Reading]
  causal: bool = True
  inspect: Callable[..., Any] | None = None


class Cells(NamedTuple):
  """Rows of a table, as a TableModel reads them.

  Attributes:
    features: [rows, columns, channels], what is known of each cell.
    targets: [rows, targets, channels], what is known of each target.
    columns: [columns + targets] bool, False for padding, which has no effect.
    present: [rows] bool, False for padding; None for rows that are asked.
  """

  features: jax.Array
  targets: jax.Array
  columns: jax.Array
  present: jax.Array | None


class TableModel(NamedTuple):
  """A network over tables, as pure functions of one table.

  Attributes:
    init: (key, cells) -> params.
    apply: (params, cells, state=None) -> (outputs [rows, targets, outputs], state). Without a state
      rows are read: they see one another, and `state` is all that is known of them. With the state
      of an earlier call they are asked: each sees the rows that were read, and none of the others.
  """

  init: Callable[..., Params]
  apply: Callable[..., tuple[jax.Array, Any]]


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


# Integers are cast, since sums and distances of bytes would overflow.
identity = Model(init=lambda key, *inputs: {}, apply=lambda params, x, weight=None: as_float(x))


def from_linen(
  module: nn.Module,
  statistics_module: nn.Module | None = None,
  norms: Sequence[type[nn.Module]] = (),
  *,
  stochastic: bool = True,
) -> Model:
  """Makes a Model of a Linen module.

  Args:
    module: called as module(x) or, if its __call__ has such parameters, with weight=weight and with
      `train`, `training`, `is_training` or `deterministic` (metakit.linen_parts.TRAINING).
    statistics_module: the same network reading the stored 'statistics'; None if it has none.
    norms: classes of modules that normalise, beside those of Linen and of metakit.networks.
    stochastic: whether it may draw in training; False spares learners the keys.

  Returns:
    A Model whose params are the module's variables. 'params' are learned; 'statistics' (of
    metakit.networks.normalisation) are measured; all others, such as the batch_stats of
    nn.BatchNorm(use_running_average=True), are constants, without a gradient. (An optimizer that
    decays weights is to be masked from them.)

  Raises:
    ValueError: at init, if a call would change a constant; at apply, if it draws at test time, or
      for an input that is no array or not of the size of those at init.

  >>> from flax import linen as nn
  >>> model = from_linen(nn.Dense(5))
  >>> params = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 3)))
  >>> jax.eval_shape(model.apply, params, jnp.ones((7, 3))).shape
  (7, 5)
  """
  from metakit import linen_parts

  takes_weight = 'weight' in inspect.signature(type(module).__call__).parameters

  def run(module: nn.Module, params: Params, inputs: Any, key: Key | None, **options: Any) -> Any:
    inputs = [as_array(x) for x in inputs]
    with linen_parts.fitting(module, params, inputs):
      return linen_parts.run(module, params, inputs, key=key, **options)

  def init(key: Key, *inputs: Any) -> Params:
    return linen_parts.begin(module, key, [as_array(x) for x in inputs])

  def apply(params: Params, *inputs: Any, weight: Any = None, key: Key | None = None) -> Any:
    options = {'weight': weight} if takes_weight and weight is not None else {}
    return run(module, params, inputs, key, **options)

  def roles(params: Params, *inputs: Any) -> Any:
    return linen_parts.roles_of(module, norms, params, inputs=[as_array(x) for x in inputs])

  def calibrate(params: Params, batches: Any, weight: Any = None, *more: Any) -> Params:
    def measure(x, w):
      _, updated = run(module, params, (x, *more), None, weight=w, mutable=['statistics'])
      return updated['statistics']

    # Sequential, so that the memory is that of one batch.
    measured = jax.lax.map(lambda batch: measure(*batch), (batches, weight))
    return {**params, 'statistics': pool_statistics(measured)}

  def apply_stored(params: Params, *inputs: Any, weight: Any = None, key: Key | None = None) -> Any:
    del weight  # rows do not influence one another
    return run(cast('nn.Module', statistics_module), params, inputs, key)

  stored = None if statistics_module is None else StoredStatistics(apply_stored, calibrate)
  return Model(init, apply, stored, roles, stochastic)


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
    present = jnp.ones(tokens.shape[0], bool) if present is None else present
    return cast(Reading, module.apply(params, tokens, asked, seen, present, state))

  def inspect(params: Params, *inputs: Any) -> Any:
    return module.apply(params, *inputs, mutable=['intermediates'])[1]['intermediates']

  return SequenceModel(init, apply, causal, inspect)


def roles_of(model: Model, params: Params, *inputs: Any) -> Any:
  """Returns a tree like params that says what each array is; see Model.roles."""
  if model.roles is None:
    return jax.tree.map(lambda leaf: WEIGHT, params)
  return model.roles(params, *inputs)


def learned(model: Model, params: Params, *inputs: Any) -> tuple[Params, Params]:
  """Returns the params without constants, and the constants alone; None elsewhere.

  metakit.roles.combine puts them together again.
  """
  return partition(params, roles_of(model, params, *inputs))


def from_nnx(
  make: Callable[[nnx.Rngs], nnx.Module], norms: Sequence[type[nnx.Module]] = ()
) -> Model:
  """Makes a Model of an NNX module.

  Dropout draws in training, where it is not deterministic. nnx.BatchNorm normalises by its batch,
  and by stored statistics of training episodes at test time (Model.stored); with
  use_running_average=True its statistics are constants. Everything else that is not an nnx.Param is
  a constant too. A constant keeps the value that it has in a new module, and is not among the
  params.

  Args:
    make: rngs -> module.
    norms: classes of modules that normalise, beside those of NNX.

  Returns:
    A Model whose params are the module's nnx.Param state, and the nnx.BatchStat of layers that
    normalise by their batch.

  Raises:
    ValueError: if a constant depends on the key; at apply, if a call changes a constant, draws at
      test time, has examples of weight 0 in nnx.BatchNorm, or does not fit its inputs.

  >>> import jax
  >>> from flax import nnx
  >>> model = from_nnx(lambda rngs: nnx.Linear(3, 2, rngs=rngs))
  >>> params = model.init(jax.random.key(0), None)
  >>> model.apply(params, jax.numpy.ones((5, 3))).shape
  (5, 2)
  """
  from metakit import nnx_parts

  with jax.ensure_compile_time_eval():  # constants outlive the trace that a Model is made in
    parts = nnx_parts.take_apart(make, norms, jax.random.key(0))
    nnx_parts.check_constants(parts, make, norms)
  parts = parts._replace(params=None)

  def run(params: Params, inputs: Any, key: Key | None, **attributes: Any) -> Any:
    inputs = [as_array(x) for x in inputs]
    try:
      return nnx_parts.call(parts, params, inputs, key=key, **attributes)
    except TypeError as error:  # jax.lax raises it for shapes that do not fit
      reason = str(error).splitlines()[0]
      shape = shape_of(inputs[0])
      raise ValueError(f'the NNX module does not take inputs of shape {shape}: {reason}') from error

  def init(key: Key, *inputs: Any) -> Params:
    del inputs  # NNX modules know their shapes
    return nnx_parts.take_apart(make, norms, key).params

  def apply(params: Params, *inputs: Any, weight: Any = None, key: Key | None = None) -> Any:
    _check_weight(weight)
    return run(params, inputs, key, use_running_average=False)[0]

  def apply_stored(params: Params, *inputs: Any, weight: Any = None, key: Key | None = None) -> Any:
    del weight  # rows do not influence one another
    return run(params, inputs, key, use_running_average=True)[0]

  def calibrate(params: Params, batches: Any, weight: Any = None, *more: Any) -> Params:
    _check_weight(weight)
    # Without momentum a running average is the last batch's own.
    measuring = {'use_running_average': False, 'momentum': 0.0}
    measured = jax.lax.map(lambda x: run(params, (x, *more), None, **measuring)[1], batches)
    return nnx_parts.pooled(params, measured)

  def _check_weight(weight: Any) -> None:
    if weight is not None and parts.batch_norms:
      raise ValueError(
        'nnx.BatchNorm counts examples of weight 0, which are absent; use nnx.GroupNorm, '
        'nnx.LayerNorm, or a network of metakit.networks'
      )

  stored = StoredStatistics(apply_stored, calibrate) if parts.batch_norms else None
  roles = lambda params, *inputs: nnx_parts.roles_of(parts, params)
  return Model(init, apply, stored, roles, bool(jax.tree.leaves(parts.draws)))
