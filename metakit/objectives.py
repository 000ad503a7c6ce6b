"""Objectives: what a learner's outputs are judged by. (outputs, examples) -> (loss, metrics)."""

import jax
import jax.numpy as jnp
import optax

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
    outputs: logits [examples, ways].
    examples: y holds integer labels [examples].
  """
  outputs = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))  # to be summed over many
  losses = optax.softmax_cross_entropy_with_integer_labels(outputs, examples.y)
  hits = (outputs.argmax(-1) == examples.y).astype(outputs.dtype)
  loss = weighted_mean(losses, examples.weight)
  return loss, {'loss': loss, 'accuracy': weighted_mean(hits, examples.weight)}


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
  losses = jnp.square(outputs - examples.y).mean(-1)
  loss = weighted_mean(losses, examples.weight)
  return loss, {'loss': loss}
