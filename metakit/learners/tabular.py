"""Learning from a table in one forward pass, as prior-fitted networks do.

Noah Hollmann, Samuel Mueller, Katharina Eggensperger, Frank Hutter, TabPFN: A Transformer That
Solves Small Tabular Classification Problems in a Second, ICLR 2023, arXiv:2207.01848; the cells and
the two ways of attention are those of its version 2 (Hollmann et al., Nature 637, 2025). Trained on
tables of a prior (metakit.episodes.tables), the network approximates the posterior predictive
distribution of that prior.

A row is a vector of numbers, NaN for a missing cell. A cell is read as three numbers: its value,
normalised by mean and deviation of its column in the support and clipped; its rank among the cells
of the support, from -1 to 1; and whether it is missing. Only the support counts for mean, deviation
and rank. A column without any value in the support, or of one value alone, says nothing: it is
padding.

Deviations: ranks are read beside values, since one outlier makes all other normalised values alike.
Each class has a target column of its own: whether a row is of the class, less the share of the
class. So the numbers of classes cannot matter, and more classes than in training will do.

Changes in a task: what the network has read.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metakit.absent import known
from metakit.builder import meta_learner
from metakit.inputs import as_float
from metakit.learners.in_context import flat
from metakit.models import Cells
from metakit.networks.two_way import two_way
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Objective, Params

LOWEST = -1e4  # the logit of a class that does not occur; its probability is 0


class Columns(NamedTuple):
  """What is known of the columns of a support set.

  Attributes:
    values: [rows, columns], NaN where a cell is missing or its row absent.
    scale: [columns], the largest absolute value, so that no square is infinite.
    mean: [columns], of values / scale.
    deviation: [columns], of values / scale.
    informative: [columns] bool, False for padding.
  """

  values: jax.Array
  scale: jax.Array
  mean: jax.Array
  deviation: jax.Array
  informative: jax.Array


class Targets(NamedTuple):
  """What is known of the targets of a support set.

  Attributes:
    values: [rows, targets], 1 or 0 for classes, normalised values otherwise; None once read.
    mean: [targets], the shares of classes, or the mean of the targets.
    deviation: [targets], 1 for classes.
    occurring: [targets] bool, False for classes that do not occur.
  """

  values: jax.Array | None
  mean: jax.Array
  deviation: jax.Array
  occurring: jax.Array


def tabular(
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
  clip: float = 10.0,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Learns a table by reading it: a prior-fitted network over rows and columns.

  Args:
    num_outputs: the most classes, or the size of the regression targets. The parameters do not
      depend on it.
    width: size of the embedding of a cell.
    depth: blocks of the network.
    heads: attention heads; must divide width.
    hidden: units of the perceptrons; 2 * width by default.
    attention: 'softmax', or 'fused' for jax.nn.dot_product_attention, which is cuDNN's kernel on an
      NVIDIA GPU with dtype=bfloat16.
    norm: where the layers normalise, 'post' or 'pre'.
    remat: computes the activations of a block a second time in the backward pass, to save memory.
    dtype: type of the computation, such as 'bfloat16'; by default that of parameters and inputs.
    clip: the largest normalised value of a cell, in deviations of its column.
    objective: loss of the predictions of the queries. A 'regression' predicts in units of the
      targets. Parameters of a 'density' have the units of the targets as they are given, so give
      targets of mean 0 and deviation 1 in the support.

  Returns:
    A MetaLearner with a network of its own (metakit.networks.two_way). `adapt` reads the support
    once, and fitted hold what later rows need of it. So a query costs one row. A class that does
    not occur in the support has the logit -10,000.

  Raises:
    ValueError: if a size or clip is not positive, or an option is unknown; at init and adapt, for
      targets of another size.

  >>> learner = tabular(num_outputs=3, width=8, depth=1)
  >>> x = jnp.array([[0.1, jnp.nan], [0.9, 2.0]])  # a missing cell
  >>> episode = Episode(Examples(x, jnp.array([0, 1])), Examples(x, jnp.array([0, 1])))
  >>> params = jax.eval_shape(learner.init, jax.random.key(0), episode)
  >>> fitted = jax.eval_shape(learner.adapt, jax.random.key(1), params, episode.support)
  >>> jax.eval_shape(learner.predict, fitted, jnp.ones((7, 2))).shape
  (7, 3)
  """
  if not clip > 0:
    raise ValueError(f'clip={clip} must be positive; use 10 deviations, say')
  model = two_way(
    num_outputs * objective.outputs_per_target,
    width,
    depth,
    heads=heads,
    hidden=hidden,
    attention=attention,
    norm=norm,
    remat=remat,
    dtype=dtype,
  )

  def reading(support: Examples) -> tuple[Cells, Columns, Targets]:
    columns, targets = columns_of(support), targets_of(support, num_outputs, objective)
    features = cells_of(columns, columns.values, clip=clip)
    shown = jnp.stack(_channels(targets, targets.values, objective, unknown=False), axis=-1)
    there = jnp.concatenate([columns.informative, targets.occurring])
    return Cells(features, shown, there, known(support)), columns, targets

  def init(key: Key, episode: Episode) -> Params:
    return model.init(key, reading(episode.support)[0])

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    del key  # nothing is drawn
    cells, columns, targets = reading(support)
    return params, model.apply(params, cells)[1], columns, targets._replace(values=None)

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    params, state, columns, targets = fitted
    features = cells_of(columns, flat(x), clip=clip)
    middle = targets.mean if objective.classifies else jnp.zeros_like(targets.mean)
    unknown = jnp.broadcast_to(middle, (features.shape[0], *middle.shape))
    shown = jnp.stack(_channels(targets, unknown, objective, unknown=True), axis=-1)
    there = jnp.concatenate([columns.informative, targets.occurring])
    outputs, _ = model.apply(params, Cells(features, shown, there, None), state)
    return _answers(outputs, targets, objective)

  return meta_learner(init, adapt, predict, objective=objective)


def columns_of(support: Examples) -> Columns:
  """Returns what is known of the columns of a support set; infinite cells are missing ones."""
  x, present = flat(support.x), known(support)
  seen = present[:, None] & jnp.isfinite(x)
  number = jnp.maximum(seen.sum(0), 1).astype(x.dtype)
  mean = lambda values: jnp.where(seen, values, 0).sum(0) / number
  largest = jnp.where(seen, jnp.abs(x), 0).max(0, initial=0)
  scale = jnp.where(largest > 0, largest, 1)
  scaled = jnp.where(seen, x, 0) / scale
  middle = mean(scaled)
  deviation = jnp.sqrt(mean(jnp.square(scaled - middle)))
  infinite = jnp.inf
  lowest = jnp.where(seen, x, infinite).min(0, initial=infinite)
  highest = jnp.where(seen, x, -infinite).max(0, initial=-infinite)
  varied = (lowest < highest) | (seen.sum(0) < present.sum())
  values = jnp.where(seen, x, jnp.nan)
  deviation = jnp.where(lowest < highest, deviation, 0)
  return Columns(values, scale, middle, deviation, seen.any(0) & varied)


def cells_of(columns: Columns, x: jax.Array, *, clip: float) -> jax.Array:
  """Returns what is read of cells x [rows, columns]: [rows, columns, 3]."""
  there = jnp.isfinite(x)
  x = jnp.where(there, x, 0)
  spread = columns.deviation > 0
  away = (x / columns.scale - columns.mean) / jnp.where(spread, columns.deviation, 1)
  value = jnp.where(spread, jnp.clip(away, -clip, clip), 0)
  known = jnp.isfinite(columns.values)
  # Sums of comparisons with each row; NaN is neither below nor above.
  below = (columns.values[None] < x[:, None]).sum(1) - (columns.values[None] > x[:, None]).sum(1)
  rank = below / jnp.maximum(known.sum(0), 1).astype(x.dtype)
  seen = [jnp.where(there, value, 0), jnp.where(there, rank, 0), ~there]
  return jnp.stack([each.astype(x.dtype) for each in seen], axis=-1)


def targets_of(support: Examples, num_outputs: int, objective: Objective) -> Targets:
  """Returns what is known of the targets of a support set."""
  present, dtype = known(support), flat(support.x[:1]).dtype
  number = jnp.maximum(present.sum(), 1).astype(dtype)
  if objective.classifies:
    values = jax.nn.one_hot(support.y, num_outputs, dtype=dtype) * present[:, None]
    share = values.sum(0) / number
    return Targets(values, share, jnp.ones_like(share), share > 0)
  y = as_float(support.y)
  if y.ndim != 2 or y.shape[1] != num_outputs:
    raise ValueError(
      f'targets have shape {y.shape}; this learner has num_outputs={num_outputs}: give them as '
      f'[examples, {num_outputs}]'
    )
  y, everywhere = y.astype(dtype), jnp.ones(num_outputs, bool)
  if objective.kind == 'density':
    return Targets(y, jnp.zeros(num_outputs, dtype), jnp.ones(num_outputs, dtype), everywhere)
  mean = lambda values: jnp.where(present[:, None], values, 0).sum(0) / number
  middle = mean(y)
  deviation = jnp.sqrt(mean(jnp.square(y - middle)))
  deviation = jnp.where(deviation > 0, deviation, 1)
  return Targets((y - middle) / deviation, middle, deviation, everywhere)


def _channels(targets: Targets, values: Any, objective: Objective, *, unknown: bool) -> Any:
  """Returns what is read of targets, each [rows, targets]."""
  flag = jnp.full_like(values, unknown)
  if not objective.classifies:
    return [values, flag]
  return [values - targets.mean, jnp.broadcast_to(targets.mean, values.shape), flag]


def _answers(outputs: jax.Array, targets: Targets, objective: Objective) -> jax.Array:
  """Returns predictions of the outputs [rows, targets, outputs] of a network."""
  if objective.classifies:
    lowest = jnp.asarray(LOWEST, outputs.dtype)
    return jnp.where(targets.occurring, outputs[..., 0], lowest)
  if objective.kind == 'density':
    return outputs.reshape(outputs.shape[0], -1)
  return targets.mean + targets.deviation * outputs[..., 0]
