"""LaplacianShot.

Imtiaz Masud Ziko, Jose Dolz, Eric Granger, Ismail Ben Ayed, Laplacian Regularized Few-Shot
Learning, ICML 2020, arXiv:2006.15486. Implemented: eq. 1 with fixed prototypes (rectified, section
4.2, or the class means) and the graph of nearest neighbours among the queries; the bound updates of
algorithm 1, as many as in the released code (20, fewer where the energy changes by less than a
millionth; bound_update in github.com/imtiazziko/LaplacianShot).
"""

import jax
import jax.numpy as jnp

from metakit.heads.bd_cspn import rectified
from metakit.heads.common import (
  ABSENT,
  check_positive,
  check_ways,
  class_means,
  product,
  squared_distances,
  transductive_head,
  weight_of,
)
from metakit.heads.graph import energy, neighbour_graph
from metakit.objectives import cross_entropy
from metakit.types import Examples, MetaLearner, Objective, Params

STILL = 1e-6  # updates stop at a change of the energy below this share of it


def laplacian_shot(
  ways: int,
  strength: float = 0.5,
  neighbours: int = 3,
  *,
  rectify: bool = True,
  steps: int = 20,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Nearest prototypes, where neighbouring queries pull one another to the same class.

  Args:
    ways: classes of an episode.
    strength: lambda, the strength of the graph; 0 is nearest prototypes.
    neighbours: number of neighbours of each query in the graph.
    rectify: True shifts the queries and takes the prototypes of BD-CSPN; False takes class means.
    steps: the most updates of the assignments.
    objective: the loss if it is meta-trained.

  Raises:
    ValueError: for numbers that make no sense.

  >>> support = Examples(jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([0, 1]))
  >>> head = laplacian_shot(ways=2, strength=1.0, neighbours=2, rectify=False)
  >>> answer = jax.jit(lambda x: head.predict(head.adapt(jax.random.key(0), {}, support), x))
  >>> x = jnp.array([[0.9, 0.1], [0.55, 0.45], [0.45, 0.55], [0.4, 0.6], [0.4, 0.6]])
  >>> answer(x).argmax(-1).tolist()  # the second is nearer to class 0, but its neighbours are not
  [0, 1, 1, 1, 1]
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
    return bound_updates(cost, graph, strength, steps=steps, weight=query.weight)

  return transductive_head(infer, objective=objective)


def bound_updates(
  cost: jax.Array,
  graph: jax.Array,
  strength: float,
  *,
  steps: int,
  weight: jax.Array | None = None,
) -> jax.Array:
  """Returns log assignments [n, ways] after the published updates of all points at once.

  The updates stop when the energy no longer changes, so the assignments are a fixed point. This
  takes a few steps. metakit.heads.graph.assign, which never raises the energy, may take hundreds.

  Args:
    cost: [n, ways].
    graph: [n, n].
    strength: strength of the graph.
    steps: the most updates.
    weight: [n]; points of weight 0 do not count.
  """
  level = lambda log_z: energy(
    log_z, cost, graph, strength=strength, weight=1.0 if weight is None else weight
  )

  def step(carry, number):
    log_z, before, going = carry
    moved = jax.nn.log_softmax(strength * product(graph, jnp.exp(log_z)) - cost)
    after = jax.lax.stop_gradient(level(moved))
    log_z = jnp.where(going, moved, log_z)
    going &= (number < 2) | (jnp.abs(after - before) > STILL * jnp.abs(before))
    return (log_z, after, going), None

  first = jax.nn.log_softmax(-cost)
  start = first, jax.lax.stop_gradient(level(first)), jnp.bool_(True)
  return jax.lax.scan(step, start, jnp.arange(steps))[0][0]
