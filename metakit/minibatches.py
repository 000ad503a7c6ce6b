"""Minibatches of the examples of a task, for inner loops."""

from collections.abc import Callable
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
  return _drawn(examples, step, size, _order_of(key, examples))


def minibatches(key: Key, examples: Examples, steps: int, *, size: int) -> Examples:
  """Returns the examples of steps 0, 1, ... of `minibatch`, on a leading axis.

  Each order is made once, and all are side by side. That is several times faster.
  """
  orders = jax.vmap(_order_of(key, examples))(jnp.arange(steps + 1))
  draw = lambda step: _drawn(examples, step, size, lambda number: orders[number])
  return jax.vmap(draw)(jnp.arange(steps))


def _order_of(key: Key, examples: Examples) -> Callable[[Any], jax.Array]:
  """Returns a function: number of an order -> rows [examples], absent ones at the end."""
  weight = None if examples.weight is None else jnp.asarray(examples.weight)

  def order(number: Any) -> jax.Array:
    rows = jax.random.permutation(jax.random.fold_in(key, number), len(examples.x))
    return rows if weight is None else rows[jnp.argsort(weight[rows] == 0, stable=True)]

  return order


def _drawn(examples: Examples, step: Any, size: int, order: Callable[[Any], jax.Array]) -> Examples:
  count = len(examples.x)
  size = min(size, count)
  weight = None if examples.weight is None else jnp.asarray(examples.weight)
  present = count if weight is None else jnp.maximum((weight > 0).sum(), 1)
  taken = jnp.minimum(size, present)
  place = step * taken + jnp.arange(size)
  first = place[0] // present  # how many times all have been drawn; the step may begin another
  orders = jnp.stack([order(first), order(first + 1)])
  rows = orders[jnp.minimum(place // present - first, 1), place % present]
  drawn = jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], examples)
  if weight is None:
    return drawn
  return drawn._replace(weight=jnp.where(jnp.arange(size) < taken, drawn.weight, 0))
