"""PT-MAP: power transform, and assignments by optimal transport.

Yuqing Hu, Vincent Gripon, Stéphane Pateux, Leveraging the Feature Distribution in Transfer-based
Few-Shot Learning, ICANN 2021, arXiv:2006.03806. Implemented: the power transform (section 3.2) with
each set centred and brought to unit length, and algorithm 1: Sinkhorn's assignments of balanced
queries to class centres, which move towards the means of what they are assigned.
"""

import jax
import jax.numpy as jnp

from metakit.heads.common import (
  ABSENT,
  check_positive,
  check_several,
  check_ways,
  class_means,
  means,
  members,
  product,
  squared_distances,
  transductive_head,
  unit,
  weight_of,
)
from metakit.objectives import cross_entropy
from metakit.types import Examples, MetaLearner, Objective, Params


def pt_map(
  ways: int,
  steps: int = 20,
  rate: float = 0.2,
  regularisation: float = 10.0,
  sinkhorn_steps: int = 30,
  power: float = 0.5,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Assigns as many queries to each class as to the others.

  Args:
    ways: classes of an episode.
    steps: updates of the class centres.
    rate: alpha, how far a centre moves.
    regularisation: lambda, what squared distances are multiplied by.
    sinkhorn_steps: of each assignment.
    power: beta; 1 leaves features as they are.
    objective: the loss if it is meta-trained.

  Raises:
    ValueError: for numbers that make no sense.
  """
  check_ways(ways)
  check_positive(
    steps=steps,
    rate=rate,
    regularisation=regularisation,
    sinkhorn_steps=sinkhorn_steps,
    power=power,
  )

  def infer(params: Params, support: Examples, query: Examples) -> jax.Array:
    del params
    check_several(query)
    support, query = (prepared(part, power) for part in (support, query))
    points, present = class_means(support, ways)
    member, rows = members(support, ways), weight_of(query, points.dtype)
    columns = rows.sum() * present / jnp.maximum(present.sum(), 1)
    x = jnp.concatenate([support.x, query.x])

    def plan(points: jax.Array) -> jax.Array:
      cost = jnp.where(present, regularisation * squared_distances(query.x, points), -ABSENT)
      return sinkhorn(cost, rows, columns, sinkhorn_steps)

    def step(points: jax.Array, _: None) -> tuple[jax.Array, None]:
      centre = means(jnp.concatenate([member, plan(points)]), x)
      return points + rate * (centre - points), None

    points, _ = jax.lax.scan(step, points, length=steps)
    shares = plan(points) / jnp.maximum(rows, 1e-12)[:, None]
    return jnp.where(present, jnp.log(jnp.maximum(shares, 1e-30)), ABSENT)

  return transductive_head(infer, objective=objective)


def prepared(examples: Examples, power: float) -> Examples:
  """Returns features with each power (of its size, the sign kept), centred, of unit length."""
  weight = weight_of(examples, examples.x.dtype)[:, None]
  z = unit(jnp.sign(examples.x) * (jnp.abs(examples.x) + 1e-6) ** power)
  # Of equal vectors only rounding is left, which is not made a direction.
  return examples._replace(x=unit(z - means(weight, z), 1e-6))


def sinkhorn(cost: jax.Array, rows: jax.Array, columns: jax.Array, steps: int) -> jax.Array:
  """Returns the plan [n, m] of entropic optimal transport.

  It is diag(u) exp(-cost) diag(v), with the sums `rows` exactly, and `columns` up to convergence
  (Cuturi 2013, arXiv:1306.0895).

  Args:
    cost: [n, m], divided by the strength of the entropy already.
    rows: [n] sums; 0 leaves a row out.
    columns: [m] sums, of the same total; 0 leaves a column out.
    steps: each scales rows and then columns.
  """
  kernel = jnp.exp(cost.min(-1, keepdims=True) - cost)  # the plan does not depend on such factors
  some = lambda total: jnp.where(total > 1e-30, total, 1)  # its inverse is finite

  def step(v: jax.Array, _: None) -> tuple[jax.Array, None]:
    u = rows / some(product(kernel, v))
    return columns / some(product(kernel.T, u)), None

  v, _ = jax.lax.scan(step, jnp.ones_like(columns), length=steps)
  u = rows / some(product(kernel, v))
  return u[:, None] * kernel * v
