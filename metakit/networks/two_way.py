"""A transformer over the cells of a table: attention over columns, then over rows.

Noah Hollmann et al., Accurate predictions on small data with a tabular foundation model, Nature
637, 2025 (TabPFN v2), in the small form of Alexander Pfefferle et al., nanoTabPFN, 2025,
arXiv:2511.03634. A block lets the cells of a row see one another, then the cells of a column see
those of training rows, then applies a perceptron to each cell. The output of a row is decoded from
its target cells.

Deviations: there is one column for each target, and for each class, where the papers have one for
all classes. All share their weights, and so do all columns of features. There are no vectors of
columns' positions or identities. So the order of rows, of columns and of classes cannot matter, and
parameters know no numbers of them. (The papers draw such vectors at random, to tell apart columns
whose values are distributed alike. Here columns are told apart by what they say of the targets.)
The last block computes target cells alone, which changes no output.
"""

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from metakit.models import Cells, TableModel, check_dtype
from metakit.platforms import target_platform
from metakit.types import Key, Params

ATTENTIONS = 'softmax', 'fused'
NORMS = 'pre', 'post'


FEW = 16  # columns, among which attention is faster without matrix products


def attend(query: jax.Array, key: jax.Array, value: jax.Array, *, seen: jax.Array) -> jax.Array:
  """Scaled dot-product attention in many places at once; 0 where nothing is seen.

  Args:
    query: [places, heads, asked, features].
    key: [places, heads, read, features].
    value: as key.
    seen: [read] bool.

  Returns:
    [places, heads, asked, features].
  """
  wide = jnp.promote_types(query.dtype, jnp.float32)
  query = query / query.shape[-1] ** 0.5
  read = key.shape[2]  # no number where a program is exported for any number of rows
  if isinstance(read, int) and read <= FEW and target_platform() == 'cpu':
    scores = (query[:, :, :, None] * key[:, :, None]).sum(-1, dtype=wide)
    weights, total = _weights(scores, seen)
    outputs = (weights.astype(value.dtype)[..., None] * value[:, :, None]).sum(3, dtype=wide)
  else:
    scores = jnp.einsum('phnf,phmf->phnm', query, key, preferred_element_type=wide)
    weights, total = _weights(scores, seen)
    outputs = jnp.einsum('phnm,phmf->phnf', weights.astype(value.dtype), value)
  return (outputs / total).astype(value.dtype)


def _weights(scores: jax.Array, seen: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns weights before they are normalised, which is cheaper after the average, and sums."""
  scores = jnp.where(seen, scores, jnp.finfo(scores.dtype).min)
  highest = jax.lax.stop_gradient(scores.max(-1, keepdims=True))
  weights = jnp.where(seen, jnp.exp(scores - highest), 0)
  total = weights.sum(-1, keepdims=True)
  return weights, jnp.where(total > 0, total, 1)  # 0 where nothing is seen


def attend_fused(
  query: jax.Array, key: jax.Array, value: jax.Array, *, seen: jax.Array
) -> jax.Array:
  """The same as `attend` by jax.nn.dot_product_attention, which rounds float64 to float32.

  On an NVIDIA GPU in half precision it is cuDNN's kernel, for heads of 8, 16, ... or 256 features.
  """
  fits = query.dtype in (jnp.float16, jnp.bfloat16) and query.shape[-1] in range(8, 257, 8)
  asked, read = query.shape[2], key.shape[2]
  # An even number of tokens, as cuDNN's gradient needs it; [places, tokens, heads, features].
  even = lambda t: jnp.pad(t.swapaxes(1, 2), [(0, 0), (0, t.shape[2] % 2), (0, 0), (0, 0)])
  query, key, value = even(query), even(key), even(value)
  mask = jnp.broadcast_to(jnp.pad(seen, (0, read % 2)), (1, 1, query.shape[1], key.shape[1]))
  implementation: Any = 'cudnn' if fits and target_platform() == 'gpu' else 'xla'
  fused = partial(jax.nn.dot_product_attention, implementation=implementation)
  outputs = fused(query, key, value, mask=mask)[:, :asked].swapaxes(1, 2)
  return jnp.where(seen.any(), outputs, 0)


class Block(nn.Module):
  """Attention over columns, attention over rows, a perceptron. Attributes: see `two_way`."""

  heads: int
  hidden: int
  attention: str
  norm: str
  dtype: Any

  @nn.compact
  def __call__(
    self, x: jax.Array, columns: jax.Array, present: Any, cache: Any, last: int | None = None
  ) -> Any:
    width = x.shape[-1]
    shape = self.heads, width // self.heads
    attention = attend_fused if self.attention == 'fused' else attend
    norm = lambda name: nn.LayerNorm(dtype=self.dtype, name=name)
    heads = lambda name, *many: nn.DenseGeneral((*many, *shape), dtype=self.dtype, name=name)
    merge = lambda name: nn.DenseGeneral(width, axis=(-2, -1), dtype=self.dtype, name=name)
    before = lambda name, x: norm(name)(x) if self.norm == 'pre' else x
    after = lambda name, x: norm(name)(x) if self.norm == 'post' else x

    # [places, tokens, heads, features] <-> [places, heads, tokens, features]
    turn = lambda x: x.swapaxes(-3, -2)
    z = before('column_norm', x)
    key, value = jnp.moveaxis(heads('column_keys', 2)(z), 2, 0)
    if last is not None:  # the other cells of the last block have no effect
      x, z = x[:, -last:], z[:, -last:]
    query = heads('column_queries')(z)
    attended = turn(attention(turn(query), turn(key), turn(value), seen=columns))
    x = after('column_norm', x + merge('column_outputs')(attended))

    across = lambda x: x.transpose(1, 2, 0, 3)  # to [columns, heads, rows, features]
    z = before('row_norm', x)
    if cache is None:
      key, value = jnp.moveaxis(heads('row_keys', 2)(z), 2, 0)
      cache = across(key), across(value), present
    key, value, seen = cache
    attended = attention(across(heads('row_queries')(z)), key, value, seen=seen)
    attended = attended.transpose(2, 0, 1, 3)
    x = after('row_norm', x + merge('row_outputs')(attended))

    dense = lambda name, size: nn.Dense(size, dtype=self.dtype, name=name)
    z = nn.gelu(dense('hidden', self.hidden)(before('norm', x)))
    return after('norm', x + dense('outputs', width)(z)), cache


class TwoWay(nn.Module):
  """Attributes: see `two_way`."""

  num_outputs: int
  width: int
  depth: int
  heads: int
  hidden: int
  attention: str
  norm: str
  remat: bool
  dtype: Any

  @nn.compact
  def __call__(self, cells: Cells, state: Any) -> Any:
    features, targets, columns, present = cells
    dense = lambda name, size: nn.Dense(size, dtype=self.dtype, name=name)
    parts = dense('features', self.width)(features), dense('targets', self.width)(targets)
    x, number, caches = jnp.concatenate(parts, axis=1), targets.shape[1], []
    block = nn.remat(Block, static_argnums=(5,)) if self.remat else Block
    for layer in range(self.depth):
      cache, last = None if state is None else state[layer], layer == self.depth - 1
      sizes = self.heads, self.hidden, self.attention, self.norm, self.dtype
      x, cache = block(*sizes, name=f'block_{layer}')(
        x, columns, present, cache, number if last else None
      )
      caches.append(cache)
    x = nn.LayerNorm(dtype=self.dtype, name='norm')(x) if self.norm == 'pre' else x
    x = nn.gelu(dense('hidden', self.hidden)(x))
    return dense('outputs', self.num_outputs // number)(x), tuple(caches)


def two_way(
  num_outputs: int,
  width: int = 96,
  depth: int = 3,
  *,
  heads: int = 4,
  hidden: int | None = None,
  attention: str = 'softmax',
  norm: str = 'post',
  remat: bool = False,
  dtype: str | None = None,
) -> TableModel:
  """A transformer over the cells of a table, along columns and along rows: a TableModel.

  Args:
    num_outputs: outputs of a row, for all its targets (or classes) together.
    width: size of the embedding of a cell.
    depth: number of blocks.
    heads: attention heads; must divide width.
    hidden: units of the perceptrons; 2 * width by default.
    attention: 'softmax', or 'fused' for jax.nn.dot_product_attention, which is cuDNN's kernel on an
      NVIDIA GPU with dtype=bfloat16.
    norm: where the layers normalise, 'post' or 'pre'.
    remat: computes the activations of a block a second time in the backward pass, to save memory.
    dtype: type of the computation, such as 'bfloat16'; by default that of parameters and inputs.

  Returns:
    A TableModel whose state is (keys, values [columns, heads, rows, features], present [rows]) of
    each block; the last one has target columns alone. The parameters depend on num_outputs only
    through the outputs of each target.

  Raises:
    ValueError: if a size is not positive, heads does not divide width, or an option is unknown; at
      init and apply, if the outputs are not as many for each target.

  >>> model = two_way(num_outputs=3, width=8, depth=1)
  >>> cells = Cells(jnp.ones((7, 5, 2)), jnp.ones((7, 3, 2)), jnp.ones(8, bool), jnp.ones(7, bool))
  >>> params = jax.eval_shape(model.init, jax.random.key(0), cells)
  >>> jax.eval_shape(model.apply, params, cells)[0].shape  # of each row and target
  (7, 3, 1)
  """
  hidden = 2 * width if hidden is None else hidden
  if min(width, depth, heads, num_outputs, hidden) < 1:
    raise ValueError(
      f'num_outputs={num_outputs}, width={width}, depth={depth}, heads={heads} and '
      f'hidden={hidden} must be positive'
    )
  if width % heads:
    raise ValueError(f'heads={heads} does not divide width={width}; use a divisor of width')
  for name, value, known in (('attention', attention, ATTENTIONS), ('norm', norm, NORMS)):
    if value not in known:
      raise ValueError(f'{name}={value!r} is unknown; use {" or ".join(known)}')
  check_dtype(dtype)
  module = TwoWay(num_outputs, width, depth, heads, hidden, attention, norm, remat, dtype)

  def init(key: Key, cells: Cells) -> Params:
    _check_targets(num_outputs, cells)
    return module.init(key, cells, None)

  def apply(params: Params, cells: Cells, state: Any = None) -> tuple[jax.Array, Any]:
    _check_targets(num_outputs, cells)
    return cast('tuple[jax.Array, Any]', module.apply(params, cells, state))

  return TableModel(init, apply)


def _check_targets(num_outputs: int, cells: Cells) -> None:
  targets = cells.targets.shape[1]
  if num_outputs % targets:
    raise ValueError(
      f'num_outputs={num_outputs} is not the same number for each of {targets} targets; use a '
      f'multiple of {targets}'
    )
