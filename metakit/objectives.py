"""Objectives: what a learner's outputs are judged by. (outputs, examples) -> (loss, metrics)."""

import jax
import jax.numpy as jnp
import optax

from metakit.absent import blanked, check_labels
from metakit.types import Examples, Metrics


def weighted_mean(values: jax.Array, weight: jax.Array | None) -> jax.Array:
  """Returns the mean of values [examples], weighted; rows of weight 0 do not count at all."""
  if weight is None:
    return values.mean()
  kept = jnp.where(weight > 0, values, 0)  # 0 * inf would be nan
  return (kept * weight).sum() / jnp.maximum(weight.sum(), jnp.finfo(values.dtype).tiny)


def cross_entropy(outputs: jax.Array, examples: Examples) -> tuple[jax.Array, Metrics]:
  """Mean cross-entropy in nats and accuracy as a fraction.

  Args:
    outputs: logits [examples, ways]. Where the largest is not finite, no class is predicted.
    examples: y holds integer labels [examples]; -1 for an example without one, which is left out.

  Raises:
    ValueError: for labels that are none of the classes, where they are known (outside jit).
  """
  check_labels(examples.y, outputs.shape[-1])
  outputs, examples = _summable(outputs, examples)
  y, mean = _labelled_mean(jnp.asarray(examples.y), examples.weight)
  losses = optax.softmax_cross_entropy_with_integer_labels(outputs, y)
  # argmax counts NaN as the largest: a learner that has broken down would name class 0.
  hits = (outputs.argmax(-1) == y) & jnp.isfinite(outputs.max(-1))
  loss = mean(losses)
  return loss, {'loss': loss, 'accuracy': mean(hits.astype(outputs.dtype))}


def _labelled_mean(y: jax.Array, weight: jax.Array | None):
  """Returns labels with 0 in place of -1, and the mean over the others."""
  there = y >= 0
  if weight is not None:
    weight = jnp.where(there, weight, 0)
    return jnp.maximum(y, 0), lambda values: weighted_mean(values, weight)

  def mean(values: jax.Array) -> jax.Array:
    others = len(y) / jnp.maximum(there.sum(dtype=values.dtype), 1)  # exactly 1 if all have one
    return jnp.where(there, values, 0).mean() * others

  return jnp.maximum(y, 0), mean


def squared_error(outputs: jax.Array, examples: Examples) -> tuple[jax.Array, Metrics]:
  """Mean squared error, averaged over examples and output dimensions.

  Args:
    outputs: predictions [examples, outputs].
    examples: y holds targets [examples, outputs].

  Raises:
    ValueError: if the shapes differ, which would otherwise broadcast to a wrong loss.
  """
  if outputs.shape != examples.y.shape:
    raise ValueError(
      f'predictions of shape {outputs.shape} but targets of shape {examples.y.shape}; give both as '
      '[examples, outputs]'
    )
  outputs, examples = _summable(outputs, examples)
  losses = jnp.square(outputs - examples.y).mean(-1)
  loss = weighted_mean(losses, examples.weight)
  return loss, {'loss': loss}


def _summable(outputs: jax.Array, examples: Examples) -> tuple[jax.Array, Examples]:
  """Outputs in float32 at least, to be summed over many, and 0 in the rows of weight 0.

  Their gradient is 0 then, which that of a NaN times 0 is not.
  """
  outputs = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
  rows = blanked(examples._replace(x=outputs))
  return rows.x, rows
