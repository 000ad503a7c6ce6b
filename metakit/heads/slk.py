"""Clustering as transductive inference: SLK-means and SLK-mean-shift.

Imtiaz Masud Ziko, Malik Boudiaf, Jose Dolz, Eric Granger, Ismail Ben Ayed, Transductive Few-Shot
Learning: Clustering is All You Need?, 2021, arXiv:2106.09516. Implemented: block-coordinate descent
of the Laplacian-regularised clustering energy over prototypes and assignments, the support rows
staying at their labels. Deviations: steps with inertia (metakit.heads.graph), so that the energy
never rises; numbers of steps are fixed.
"""

from typing import Any

import jax
import jax.numpy as jnp

from metakit.heads.common import (
  ABSENT,
  centred,
  check_positive,
  check_ways,
  class_means,
  means,
  members,
  squared_distances,
  transductive_head,
  weight_of,
)
from metakit.heads.graph import assign, energy, neighbour_graph
from metakit.objectives import cross_entropy
from metakit.types import Examples, MetaLearner, Objective, Params

KINDS = ('means', 'modes')


def slk(
  ways: int,
  strength: float = 0.5,
  neighbours: int = 3,
  *,
  kind: str = 'means',
  steps: int = 20,
  bound_steps: int = 20,
  centre: bool = True,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Clusters support and queries together, neighbours drawn to the same class.

  Args:
    ways: classes of an episode.
    strength: lambda, the strength of the graph; 0 is soft k-means.
    neighbours: number of neighbours of each example in the graph.
    kind: 'means' (cost |x - m|^2) or 'modes' (mean-shift: minus a Gaussian kernel, whose variance
      is the mean squared distance of neighbours).
    steps: updates of the prototypes.
    bound_steps: updates of the assignments before each.
    centre: whether queries are shifted so that their mean is that of the support.
    objective: the loss if it is meta-trained.

  Raises:
    ValueError: for an unknown kind, or numbers that make no sense.

  >>> from metakit.learners import embedded
  >>> from metakit.networks import conv4
  >>> embedded(conv4(), slk(ways=5, kind='modes')).protocol
  'transductive'
  """
  if kind not in KINDS:
    raise ValueError(f'kind={kind!r} is unknown; use one of {", ".join(KINDS)}')
  if strength < 0:
    raise ValueError(f'strength={strength} is negative; use 0 for no graph')
  check_ways(ways)
  check_positive(neighbours=neighbours, steps=steps, bound_steps=bound_steps)

  def infer(params: Params, support: Examples, query: Examples) -> jax.Array:
    del params
    if centre:
      query = centred(support, query)
    log_z, _ = cluster(
      support,
      query,
      ways,
      strength=strength,
      neighbours=neighbours,
      kind=kind,
      steps=steps,
      bound_steps=bound_steps,
    )
    return log_z

  return transductive_head(infer, objective=objective)


def cluster(
  support: Examples,
  query: Examples,
  ways: int,
  *,
  strength: float,
  neighbours: int,
  kind: str,
  steps: int,
  bound_steps: int,
) -> tuple[jax.Array, jax.Array]:
  """Returns log assignments [queries, ways] and the energy before and after each step.

  The energies [2 steps] are those after each update of the assignments and of the prototypes.
  """
  x = jnp.concatenate([support.x, query.x])
  weight = jnp.concatenate([weight_of(part, x.dtype) for part in (support, query)])
  count, member = support.x.shape[0], members(support, ways)
  graph = neighbour_graph(x, weight, neighbours)
  among, to_support = graph[count:, count:], graph[count:, :count] @ jnp.sign(member)
  points, present = class_means(support, ways)
  scale = spread(x, graph) if kind == 'modes' else None

  def costs(points: jax.Array) -> jax.Array:
    away = squared_distances(x, points)
    cost = away if scale is None else -jnp.exp(-away / (2 * scale))
    return jnp.where(present, cost, -ABSENT)

  def total(log_z: jax.Array, points: jax.Array) -> jax.Array:
    cost = costs(points)
    support_cost = jnp.where(member > 0, member * cost[:count], 0).sum()
    pulled = cost[count:] - strength * to_support
    return support_cost + energy(log_z, pulled, among, strength=strength, weight=weight[count:])

  def step(carry: Any, _: None) -> Any:
    log_z, points = carry
    log_z = assign(
      costs(points)[count:], among, strength, log_z=log_z, steps=bound_steps, linear=to_support
    )
    before = total(log_z, points)
    z = jnp.concatenate([member, jnp.exp(log_z) * weight[count:, None]])
    pull = z if scale is None else z * -jnp.where(present, costs(points), 0)
    points = means(pull, x)
    return (log_z, points), jnp.stack([before, total(log_z, points)])

  first = jax.nn.log_softmax(-costs(points)[count:])
  (log_z, _), energies = jax.lax.scan(step, (first, points), length=steps)
  return log_z, energies.ravel()


def spread(x: jax.Array, graph: jax.Array) -> jax.Array:
  """Returns the mean squared distance of neighbours; 1 where all are equal: no scale is known."""
  away = (graph * squared_distances(x, x)).sum() / jnp.maximum(graph.sum(), 1e-12)
  return jnp.where(away > 0, away, 1)
