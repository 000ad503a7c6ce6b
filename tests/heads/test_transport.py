"""Optimal transport of the head pt_map: a linear program, finite differences, sure assignments."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linprog

from metakit.heads.common import ABSENT
from metakit.heads.pt_map import sinkhorn, transport
from tests.heads.made import blobs, class_means, in_float64, squared, unit

ROWS, COLUMNS = np.ones(6), np.array([1.0, 2, 3])


def plan_of(cost, rows, columns):
  given = cost, rows, columns
  return transport(*given, start=sinkhorn(*given, steps=10))[0]


@jax.jit
def planned(cost, rows, columns, other):
  """The plan, and the gradient of its product with another cost."""
  total = lambda cost: (plan_of(cost, rows, columns) * other).sum()
  return plan_of(cost, rows, columns), jax.grad(total)(cost)


@in_float64
def test_sinkhorn_is_the_optimal_transport():
  """The sums are right, and with little entropy the cost is the linear program's."""
  cost = np.random.default_rng(0).uniform(size=(6, 3))
  plan = np.asarray(planned(50 * cost, ROWS, COLUMNS, cost)[0])
  np.testing.assert_allclose(plan.sum(1), ROWS, rtol=1e-6)
  np.testing.assert_allclose(plan.sum(0), COLUMNS, rtol=1e-6)
  equal = np.concatenate([np.kron(np.eye(6), np.ones((1, 3))), np.tile(np.eye(3), (1, 6))])
  best = linprog(cost.ravel(), A_eq=equal, b_eq=np.concatenate([ROWS, COLUMNS])).fun
  assert best - 1e-9 < (plan * cost).sum() < best + 0.05


@in_float64
def test_a_plan_is_differentiated_by_its_optimality():
  """Where its cost moves, by central differences."""
  rng = np.random.default_rng(1)
  cost, other, direction = rng.normal(size=(3, 6, 3))
  slope = np.asarray(planned(3 * cost, ROWS, COLUMNS, other)[1])
  value = lambda t: (planned(3 * cost + t * direction, ROWS, COLUMNS, other)[0] * other).sum()
  numeric = (value(1e-4) - value(-1e-4)) / 2e-4
  np.testing.assert_allclose(numeric, (slope * direction).sum(), rtol=1e-6)


def test_gradients_are_finite_where_every_assignment_is_sure():
  """The squares of what is left vanish in float32; a class and a query are absent."""
  drawn = [blobs(seed, queries=(5, 5, 5), spread=0.1) for seed in range(12)]
  cost = [100 * squared(unit(query.x), class_means(support)) for support, query, _ in drawn]
  cost = np.float32(np.pad(cost, [(0, 0), (0, 0), (0, 1)], constant_values=-ABSENT))
  rows = np.float32(np.arange(15) != 2)
  columns = np.float32([14 / 3, 14 / 3, 14 / 3, 0])
  labels = np.stack([query.y for _, query, _ in drawn])

  @jax.jit
  @jax.vmap
  @jax.value_and_grad
  def loss(cost, labels):
    share = jnp.take_along_axis(plan_of(cost, rows, columns), labels[:, None], axis=1)
    return -jnp.log(jnp.maximum(share, 1e-30)).sum()

  assert all(np.isfinite(leaf).all() for leaf in loss(cost, labels))
