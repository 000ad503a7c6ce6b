"""Pseudo-classes: mixtures of two classes are classes of their own, in the training of the base.

Can Peng, Kun Zhao, Tianren Wang, Meng Li, Brian C. Lovell, Few-Shot Class-Incremental Learning from
an Open-Set Perspective, ECCV 2022, arXiv:2208.00147 (class augmentation): any two of K classes make
one of K (K - 1) / 2 further classes, whose examples are mixtures of theirs in about equal shares.
They leave room between the base classes, which later classes need.
"""

from typing import Any

import jax
import jax.numpy as jnp

from metakit.absent import UNLABELLED
from metakit.inputs import as_float
from metakit.types import Examples, Key

SHARES = 0.4, 0.6  # of the first class, uniform in between


def pair_count(classes: int) -> int:
  """Returns how many pseudo-classes there are.

  >>> pair_count(4)
  6
  """
  return classes * (classes - 1) // 2


def pair_number(first: Any, second: Any, classes: int) -> Any:
  """Returns the numbers of pairs of two classes, whatever their order: 0 to pair_count - 1.

  Args:
    first: integers from 0 to classes - 1.
    second: integers of the same shape, other ones.
    classes: how many there are.

  >>> [int(pair_number(*pair, 3)) for pair in ((0, 1), (0, 2), (1, 2), (2, 1))]
  [0, 1, 2, 2]
  """
  low, high = jnp.minimum(first, second), jnp.maximum(first, second)
  return low * (2 * classes - low - 1) // 2 + high - low - 1


def mixed_pairs(key: Key, examples: Examples, classes: int) -> Examples:
  """Mixes each example with another one, drawn at random; none is drawn twice.

  Args:
    key: names the pairs and the shares.
    examples: labelled from 0 to classes - 1.
    classes: how many there are.

  Returns:
    As many examples. x are the mixtures, in float; y the numbers of their pairs (`pair_number`),
    and -1 with the weight 0 where both are of one class, or one of them does not count.

  >>> examples = Examples(jnp.array([[0.0], [1.0]]), jnp.array([0, 1]))
  >>> mixed = jax.jit(mixed_pairs, static_argnums=2)(jax.random.key(0), examples, 2)
  >>> mixed.y.tolist(), [0.4 <= x <= 0.6 for x in mixed.x[:, 0].tolist()]
  ([0, 0], [True, True])
  """
  order_key, share_key = jax.random.split(key)
  count = len(examples.y)
  order = jax.random.permutation(order_key, count)
  # Its neighbour on a random circle, so that no example meets itself.
  partner = jnp.zeros(count, jnp.int32).at[order].set(jnp.roll(order, 1))
  low, high = SHARES
  share = jax.random.uniform(share_key, (count,), jnp.float32, low, high)
  x = as_float(examples.x)
  share = share.reshape(-1, *[1] * (x.ndim - 1))
  y = jnp.asarray(examples.y)
  other = y[partner]
  known = (y != other) & (y >= 0) & (other >= 0)
  weight = known * 1.0
  if examples.weight is not None:
    present = jnp.asarray(examples.weight)
    weight *= present * present[partner]
  number = jnp.where(weight > 0, pair_number(y, other, classes), UNLABELLED)
  return Examples(share * x + (1 - share) * x[partner], number, weight)
