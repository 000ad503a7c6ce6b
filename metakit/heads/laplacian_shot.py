"""LaplacianShot.

Imtiaz Masud Ziko, Jose Dolz, Eric Granger, Ismail Ben Ayed, Laplacian Regularized Few-Shot
Learning, ICML 2020, arXiv:2006.15486. Implemented: eq. 1 with fixed prototypes (rectified, section
4.2, or the class means) and the graph of nearest neighbours among the queries; the bound updates of
algorithm 1, with inertia (metakit.heads.graph).
"""

import jax
import jax.numpy as jnp

from metakit.heads.bd_cspn import rectified
from metakit.heads.common import (
  ABSENT,
  check_positive,
  check_ways,
  class_means,
  squared_distances,
  transductive_head,
  weight_of,
)
from metakit.heads.graph import assign, neighbour_graph
from metakit.objectives import cross_entropy
from metakit.types import Examples, MetaLearner, Objective, Params


def laplacian_shot(
  ways: int,
  strength: float = 0.5,
  neighbours: int = 3,
  rectify: bool = True,
  steps: int = 50,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Nearest prototypes, with neighbouring queries drawn to the same class.

  Args:
    ways: classes of an episode.
    strength: lambda, of the graph; 0 is nearest prototypes.
    neighbours: of each query in the graph.
    rectify: whether prototypes are those of BD-CSPN, and queries shifted, rather than class means.
    steps: updates of the assignments.
    objective: the loss if it is meta-trained.

  Raises:
    ValueError: for numbers that make no sense.
  """
  check_ways(ways)
  check_positive(neighbours=neighbours, steps=steps)
  if strength < 0:
    raise ValueError(f'strength={strength} is negative; use 0 for no graph')

  def infer(params: Params, support: Examples, query: Examples) -> jax.Array:
    del params
    points, present = class_means(support, ways)
    if rectify:
      query, points = rectified(support, query, ways)
    graph = neighbour_graph(query.x, weight_of(query, query.x.dtype), neighbours)
    cost = jnp.where(present, squared_distances(query.x, points), -ABSENT)
    return assign(cost, graph, strength, jax.nn.log_softmax(-cost), steps)

  return transductive_head(infer, objective=objective)
