"""Minibatches of the examples of a task, for inner loops."""

from typing import Any

import jax
import jax.numpy as jnp

from metakit.types import Examples, Key


def minibatch(key: Key, examples: Examples, step: Any, *, size: int) -> Examples:
  """Returns the examples of an inner step: all in a random order, then in another, and so on.

  Absent examples (of weight 0) are drawn where there are fewer than `size` others, and only there.

  Args:
    key: key of the task.
    examples: examples of the task.
    step: number of the step, [] int.
    size: examples of a step; all, if there are no more.
  """
  count = len(examples.x)
  size = min(size, count)
  weight = None if examples.weight is None else jnp.asarray(examples.weight)
  present = count if weight is None else jnp.maximum((weight > 0).sum(), 1)
  taken = jnp.minimum(size, present)
  place = step * taken + jnp.arange(size)
  first = place[0] // present  # how many times all have been drawn; the step may begin another

  def order(number: Any) -> jax.Array:
    rows = jax.random.permutation(jax.random.fold_in(key, number), count)
    return rows if weight is None else rows[jnp.argsort(weight[rows] == 0, stable=True)]

  orders = jnp.stack([order(first), order(first + 1)])
  rows = orders[jnp.minimum(place // present - first, 1), place % present]
  drawn = jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], examples)
  if weight is None:
    return drawn
  return drawn._replace(weight=jnp.where(jnp.arange(size) < taken, drawn.weight, 0))
