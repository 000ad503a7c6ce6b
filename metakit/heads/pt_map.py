"""PT-MAP: power transform, and assignments by optimal transport.

Yuqing Hu, Vincent Gripon, Stéphane Pateux, Leveraging the Feature Distribution in Transfer-based
Few-Shot Learning, ICANN 2021, arXiv:2006.03806. Implemented: the power transform (section 3.2) with
each set centred and brought to unit length, and algorithm 1: Sinkhorn's assignments of balanced
queries to class centres, which move towards the means of what they are assigned.
"""

from functools import partial

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
from metakit.heads.solve import at_minimum, descend
from metakit.linear_algebra import one_by_one
from metakit.objectives import cross_entropy
from metakit.types import Examples, MetaLearner, Objective, Params

LARGEST = 1e30  # bound of Sinkhorn's factors; sums of them then stay finite in float32
NEWTON_STEPS, NEWTON_TOLERANCE = 50, 1e-4  # the most steps of an assignment; usually it takes few


def pt_map(
  ways: int,
  steps: int = 20,
  rate: float = 0.2,
  *,
  regularisation: float = 10.0,
  sinkhorn_steps: int = 30,
  power: float = 0.5,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Assigns the same number of queries to every class.

  Args:
    ways: classes of an episode.
    steps: updates of the class centres.
    rate: alpha, how far a centre moves.
    regularisation: lambda, what squared distances are multiplied by.
    sinkhorn_steps: steps of the first assignment before Newton's method completes it. Later
      assignments start where the one before ended. The authors' code takes only Sinkhorn's steps,
      up to 1,000, until rows change by less than 1e-6. The assignment is the same if so many
      suffice.
    power: beta; 1 leaves features as they are.
    objective: the loss if it is meta-trained.

  Raises:
    ValueError: for numbers that make no sense.

  >>> from metakit.learners import pretrained
  >>> from metakit.networks import resnet12
  >>> learner = pretrained(resnet12(), pt_map(ways=5), num_classes=64)
  >>> learner.protocol  # it needs all queries of an episode together
  'transductive'
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

    def assigned(points: jax.Array, log_v: jax.Array | None) -> tuple[jax.Array, jax.Array]:
      cost = jnp.where(present, regularisation * squared_distances(query.x, points), -ABSENT)
      if log_v is None:
        log_v = sinkhorn(cost, rows, columns, steps=sinkhorn_steps)
      return transport(cost, rows, columns, start=log_v)

    def step(carry, _: None):
      points, share, log_v = carry
      points += rate * (means(jnp.concatenate([member, share]), x) - points)
      return (points, *assigned(points, log_v)), None  # starts at the factors of the step before

    (_, shares, _), _ = jax.lax.scan(step, (points, *assigned(points, None)), length=steps)
    shares = shares / jnp.maximum(rows, 1e-12)[:, None]
    return jnp.where(present, jnp.log(jnp.maximum(shares, 1e-30)), ABSENT)

  return transductive_head(infer, objective=objective)


def prepared(examples: Examples, power: float) -> Examples:
  """Returns features raised to a power, then centred and brought to unit length.

  The power is that of the size of a feature; its sign is kept.
  """
  weight = weight_of(examples, examples.x.dtype)[:, None]
  z = unit(jnp.sign(examples.x) * (jnp.abs(examples.x) + 1e-6) ** power)
  # If all vectors are equal, only rounding is left, which must not become a direction.
  return examples._replace(x=unit(z - means(weight, z), 1e-6))


def transport(
  cost: jax.Array, rows: jax.Array, columns: jax.Array, *, start: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns the plan [n, m] of entropic optimal transport, and log v [m].

  The plan is diag(u) exp(-cost) diag(v). Its rows have the sums `rows` exactly, and its columns the
  sums `columns` up to rounding. Newton's method minimises a convex function of log v, whose slope
  is what the columns lack (Marco Cuturi, Gabriel Peyré, A Smoothed Dual Approach for Variational
  Wasserstein Problems, SIAM J. Imaging Sci. 2016, arXiv:1503.02533, section 3). Sinkhorn's method
  would take more steps the surer the assignments are.

  Args:
    cost: [n, m], divided by the strength of the entropy already.
    rows: [n] sums; 0 leaves a row out.
    columns: [m] sums, of the same total; 0 leaves a column out.
    start: log v, see sinkhorn.
  """
  cost = cost - cost.min(-1, keepdims=True)  # the plan stays the same: u takes up the difference
  log_v = at_minimum(
    partial(_dual, cost, rows, columns),
    _solved(*jax.lax.stop_gradient((cost, rows, columns, start))),
    # Where all assignments are sure, the curvature is nothing but rounding.
    jnp.finfo(cost.dtype).eps * rows.sum(),
  )
  share = jax.nn.softmax(jnp.where(columns > 0, log_v - cost, ABSENT))
  return rows[:, None] * share, log_v


def _dual(cost: jax.Array, rows: jax.Array, columns: jax.Array, log_v: jax.Array) -> jax.Array:
  present = columns > 0
  free = jax.nn.logsumexp(jnp.where(present, log_v - cost, ABSENT), axis=-1)
  # A common shift of all log v changes nothing, and neither does that of an absent column. These
  # are set to 0.
  idle = jnp.square(jnp.where(present, log_v, 0).sum()) / len(columns)
  idle += jnp.where(present, 0, jnp.square(log_v)).sum()
  return (rows * free).sum() - (columns * log_v).sum() + idle


@one_by_one  # under vmap every task would take as many steps as the slowest one
def _solved(cost: jax.Array, rows: jax.Array, columns: jax.Array, start: jax.Array) -> jax.Array:
  return descend(
    partial(_dual, cost, rows, columns), start, NEWTON_STEPS, tolerance=NEWTON_TOLERANCE
  )


def sinkhorn(cost: jax.Array, rows: jax.Array, columns: jax.Array, *, steps: int) -> jax.Array:
  """Returns log v [m], of mean 0, after steps that each scale rows and then columns.

  Marco Cuturi, Sinkhorn Distances, NeurIPS 2013, arXiv:1306.0895. Args as `transport`.
  """
  kernel, present = jnp.exp(cost.min(-1, keepdims=True) - cost), columns > 0
  some = lambda total: jnp.where(total > 1e-30, total, 1)  # its inverse is finite

  def step(v: jax.Array, _: None) -> tuple[jax.Array, None]:
    u = jnp.minimum(rows / some(product(kernel, v)), LARGEST)
    return jnp.minimum(columns / some(product(kernel.T, u)), LARGEST), None

  v, _ = jax.lax.scan(step, jnp.ones_like(columns), length=steps)
  log_v = jnp.log(jnp.where(v > 0, v, 1))
  return jnp.where(present, log_v - log_v.sum() / jnp.maximum(present.sum(), 1), 0)
