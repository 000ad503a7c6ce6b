"""Soft assignments in which neighbours in a graph agree: Laplacian-regularised clustering.

Imtiaz Masud Ziko, Eric Granger, Ismail Ben Ayed, Scalable Laplacian K-modes, NeurIPS 2018,
arXiv:1810.13044. The energy of assignments z on the simplex, with costs a and a graph W, is

  E(z) = sum_p z_p . (a_p + log z_p) - strength/2 sum_pq w_pq z_p . z_q

The published update is z_p <- softmax(-a_p + strength sum_q w_pq z_q), for all points at once. It
lowers E if W has no negative eigenvalues. A graph of neighbours has some, but W + D has none, where
D holds the degrees d_p = sum_q w_pq. With c_p = strength d_p, the update

  z_p <- softmax((-a_p + strength sum_q w_pq z_q + c_p log z_p) / (1 + c_p))

has the same fixed points and lowers E for every W: by Pinsker's inequality c KL(z | z_now) is at
least c/2 |z - z_now|^2, which bounds what the linearisation of the last term leaves out.
"""

import jax
import jax.numpy as jnp

from metakit.heads.common import product, squared_distances

FAR = 1e30  # further than any point


def neighbour_graph(x: jax.Array, weight: jax.Array, neighbours: int) -> jax.Array:
  """Returns the graph [n, n] of nearest neighbours: (W + W') / 2, w_pq = 1 if q is one of p's.

  Args:
    x: [n, features].
    weight: [n]; points of weight 0 have no neighbours and are none.
    neighbours: how many a point has, itself not counted; all others, if there are fewer.
  """
  present = weight > 0
  pair = present[:, None] & present & ~jnp.eye(x.shape[0], dtype=bool)
  away = jnp.where(pair, squared_distances(x, x), FAR)
  _, nearest = jax.lax.top_k(-away, jax.core.min_dim(neighbours, x.shape[0] - 1))
  directed = jax.nn.one_hot(nearest, x.shape[0], dtype=x.dtype).sum(1) * pair
  return (directed + directed.T) / 2


def energy(
  log_z: jax.Array,
  cost: jax.Array,
  graph: jax.Array,
  *,
  strength: float,
  weight: jax.Array | float = 1.0,
) -> jax.Array:
  """Returns E(z) of log z [n, ways] (see above); points of weight 0 do not count."""
  z = jnp.exp(log_z) * jnp.sign(jnp.broadcast_to(weight, log_z.shape[0]))[:, None]
  return (z * (cost + log_z)).sum() - strength / 2 * (z * product(graph, z)).sum()


def assign(
  cost: jax.Array,
  graph: jax.Array,
  strength: float,
  *,
  log_z: jax.Array,
  steps: int,
  linear: jax.Array | float = 0.0,
) -> jax.Array:
  """Returns log z [n, ways] after steps that each lower the energy.

  Args:
    cost: a, [n, ways].
    graph: W, [n, n], symmetric and not negative.
    strength: strength of the graph.
    log_z: where to start.
    steps: how many steps are taken.
    linear: [n, ways], what is added to W z for neighbours with fixed assignments (the support).
  """
  inertia = strength * graph.sum(1, keepdims=True)

  def step(log_z: jax.Array, _: None) -> tuple[jax.Array, None]:
    pull = strength * (product(graph, jnp.exp(log_z)) + linear)
    return jax.nn.log_softmax((pull - cost + inertia * log_z) / (1 + inertia)), None

  return jax.lax.scan(step, log_z, length=steps)[0]
