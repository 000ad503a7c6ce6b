"""Transductive heads against their energies, their published updates in NumPy, and brute force."""

import functools

import jax
import numpy as np
import pytest

from metakit.heads import (
  alpha_tim,
  bd_cspn,
  laplacian_shot,
  paddle,
  pt_map,
  slk,
  soft_kmeans,
  tim,
  transductive_tuning,
)
from metakit.heads.alpha_tim import alpha_slope, tuned_alpha
from metakit.heads.common import weight_of
from metakit.heads.graph import assign, energy, neighbour_graph
from metakit.heads.slk import cluster
from metakit.heads.tim import information_slope, together
from metakit.types import Episode, Examples
from tests.heads.made import blobs, class_means, in_float64, outputs, softmax, squared, unit

EPISODE = blobs()
SUPPORT, QUERY, _ = EPISODE
ONE_HOT = np.eye(3)[SUPPORT.y]

graph_of = jax.jit(neighbour_graph, static_argnums=2)


@in_float64
def test_the_graph_joins_nearest_neighbours():
  """By brute force; a point of weight 0 is not there."""
  x, weight = QUERY.x, np.array([1.0, 1, 0, 1, 1, 1, 1, 1, 1])
  found = np.asarray(graph_of(x, weight, 2))
  expected = np.zeros((9, 9))
  for p in np.flatnonzero(weight):
    others = [q for q in np.flatnonzero(weight) if q != p]
    for q in sorted(others, key=lambda q: np.square(x[p] - x[q]).sum())[:2]:
      expected[p, q] += 0.5
      expected[q, p] += 0.5
  np.testing.assert_array_equal(found, expected)


@in_float64
def test_more_neighbours_than_points_are_all_of_them():
  found = graph_of(QUERY.x, np.ones(9), 50)
  np.testing.assert_array_equal(found, 1 - np.eye(9))


@in_float64
def test_assignments_end_where_no_small_change_lowers_the_energy():
  """The gradient of E with respect to logits is zero there, for a graph that is not definite."""
  rng = np.random.default_rng(0)
  cost, graph = rng.normal(size=(9, 3)), np.asarray(graph_of(QUERY.x, np.ones(9), 2))
  assert np.linalg.eigvalsh(graph)[0] < -0.5
  total = lambda logits: energy(jax.nn.log_softmax(logits), cost, graph, strength=2.0)

  @jax.jit
  def slope():
    log_z = assign(cost, graph, 2.0, log_z=jax.nn.log_softmax(-cost), steps=3000)
    return jax.grad(total)(log_z)

  assert np.abs(slope()).max() < 1e-6


@pytest.mark.parametrize('kind', [pytest.param('means', marks=pytest.mark.slow), 'modes'])
@in_float64
def test_the_energy_never_rises(kind):
  """1,000 random episodes, each update of assignments and of prototypes."""
  episodes = [blobs(seed, spread=2.0) for seed in range(1000)]
  support, query = (
    Examples(np.stack([e[i].x for e in episodes]), np.stack([e[i].y for e in episodes]))
    for i in (0, 1)
  )
  run = jax.jit(
    jax.vmap(
      lambda s, q: cluster(s, q, 3, strength=1.5, neighbours=3, kind=kind, steps=10, bound_steps=3)[
        1
      ]
    )
  )
  energies = np.asarray(run(support, query))
  assert energies.shape == (1000, 20)
  rise = np.diff(energies, axis=1) / np.abs(energies[:, :1])
  assert rise.max() < 1e-12
  assert rise[:, :3].min() < -1e-3  # it moves


@in_float64
def test_the_energy_is_that_of_the_paper():
  """Recomputed term by term from the assignments."""
  options = dict(strength=0.7, neighbours=3, kind='means', steps=1, bound_steps=4)
  log_z, energies = jax.jit(functools.partial(cluster, ways=3, **options))(SUPPORT, QUERY)
  z = np.concatenate([ONE_HOT, np.exp(log_z)])
  x = np.concatenate([SUPPORT.x, QUERY.x])
  graph = np.asarray(graph_of(x, np.ones(len(x)), 3))
  points = (z.T @ x) / z.sum(0)[:, None]

  def total(points):
    entropy = (z * np.log(np.where(z > 0, z, 1))).sum()
    affinity = np.einsum('pq,pk,qk->', graph, z, z)
    inside = np.einsum('pq,pk,qk->', graph[:6, :6], z[:6], z[:6])  # of the support: a constant
    return (z * squared(x, points)).sum() + entropy - 0.35 * (affinity - inside)

  expected = [total(class_means(SUPPORT)), total(points)]
  np.testing.assert_allclose(energies, expected, rtol=1e-9)


def test_without_a_graph_slk_is_soft_k_means():
  """Assignments and means in turn, support rows at their labels."""
  points = class_means(SUPPORT)
  for _ in range(5):
    z = softmax(-squared(QUERY.x, points))
    member = np.concatenate([ONE_HOT, z])
    x = np.concatenate([SUPPORT.x, QUERY.x])
    points = member.T @ x / member.sum(0)[:, None]
  found = outputs(slk(3, 0.0, steps=5, bound_steps=1, centre=False), EPISODE)
  np.testing.assert_allclose(np.exp(found), z, rtol=1e-9)


def test_soft_kmeans_is_equation_3():
  points = class_means(SUPPORT)
  for _ in range(2):
    z = softmax(-squared(QUERY.x, points))
    x, member = np.concatenate([SUPPORT.x, QUERY.x]), np.concatenate([ONE_HOT, z])
    points = member.T @ x / member.sum(0)[:, None]
  found = outputs(soft_kmeans(3, 2), EPISODE)
  np.testing.assert_allclose(found, -squared(QUERY.x, points), rtol=1e-9)


def test_distractors_are_left_to_a_cluster_at_the_origin():
  """Support examples labelled -1; equations 4 and 5 with a length scale r of 2."""
  labels = np.where(np.arange(6) % 2, SUPPORT.y, -1).astype(np.int32)
  support = SUPPORT._replace(y=np.concatenate([labels, np.arange(3, dtype=np.int32)]))
  support = support._replace(x=np.concatenate([SUPPORT.x, class_means(SUPPORT)]))
  known = support.y >= 0
  one_hot = np.eye(3)[np.maximum(support.y, 0)] * known[:, None]
  points = one_hot.T @ support.x / one_hot.sum(0)[:, None]
  nothing = -np.square(support.x).sum(1, keepdims=True) / 4 - np.log(2)
  z = softmax(np.concatenate([-squared(support.x, points), nothing], axis=1))[:, :3]
  member = one_hot + z * ~known[:, None]
  points = member.T @ support.x / member.sum(0)[:, None]
  head = soft_kmeans(3, 1, distractors=True, queries=False)
  found = outputs(head, EPISODE._replace(support=support), {'log_scale': np.log(2.0)})
  np.testing.assert_allclose(found, -squared(QUERY.x, points), rtol=1e-9)


def rectified():
  """BD-CSPN's shifted queries and prototypes, by loops."""
  z = QUERY.x + SUPPORT.x.mean(0) - QUERY.x.mean(0)
  first = class_means(SUPPORT)
  label = (unit(z) @ unit(first).T).argmax(1)
  points = []
  for k in range(3):
    rows = np.concatenate([SUPPORT.x[SUPPORT.y == k], z[label == k]])
    share = softmax(10 * unit(rows) @ unit(first[k]))
    points.append(share @ rows)
  return z, np.stack(points)


def test_bd_cspn_rectifies_prototypes():
  z, points = rectified()
  np.testing.assert_allclose(outputs(bd_cspn(3), EPISODE), 10 * unit(z) @ unit(points).T, rtol=1e-9)


def test_laplacian_shot_starts_from_rectified_prototypes_and_follows_the_graph():
  """One published update, all queries at once."""
  z, points = rectified()
  graph = np.asarray(graph_of(z.astype(np.float32), np.ones(9), 2))
  cost = squared(z, points)
  step = 0.5 * graph @ softmax(-cost) - cost
  found = outputs(laplacian_shot(3, 0.5, 2, steps=1), EPISODE)
  np.testing.assert_allclose(np.exp(found), softmax(step), rtol=1e-6)


def test_laplacian_shot_ends_at_a_fixed_point():
  """75 queries, a strong graph: the labels are those of many more updates."""
  episode = blobs(5, 5, 1, [15] * 5, 8, 1.1)
  found, later = (outputs(laplacian_shot(5, 2.0, 3, steps=n), episode) for n in (20, 500))
  np.testing.assert_array_equal(found.argmax(1), later.argmax(1))
  np.testing.assert_allclose(np.exp(found), np.exp(later), atol=5e-3)


def shannon(p):
  return -(p * np.log(p)).sum(-1)


def tsallis(p):
  """The alpha-entropy of order 3."""
  return (1 - (p**3).sum(-1)) / 2


def information(points, entropy, weight, temperature=15.0):
  """The loss of TIM, equation 3, in NumPy; the entropy weighs 0.1 for single queries."""
  logits = lambda x: -temperature / 2 * squared(unit(x), points)
  fit = -np.log(softmax(logits(SUPPORT.x))[range(6), SUPPORT.y]).mean()
  p = softmax(logits(QUERY.x))
  single = (weight * entropy(p)).sum() / weight.sum()
  return 0.3 * fit - entropy(weight @ p / weight.sum()) + 0.1 * single


@pytest.mark.parametrize('entropy', [shannon, tsallis])
@in_float64
def test_the_slope_of_tim_is_that_of_equation_3(entropy):
  """By finite differences, where queries have weights."""
  rng = np.random.default_rng(0)
  weight = rng.uniform(0, 2, 9)
  support, query = (part._replace(x=unit(part.x)) for part in (SUPPORT, QUERY))
  points, away = class_means(support), rng.normal(size=(3, 5))
  weights = dict(support_weight=0.3, marginal_weight=1.0, conditional_weight=0.1)
  measure = None if entropy is shannon else lambda log_p: alpha_slope(log_p, 3.0)

  @jax.jit
  def slope(points):
    weighed, present = query._replace(weight=weight), np.ones(3, bool)
    rows, centred, _ = together(support, weighed, points, present=present)
    return information_slope(rows, temperature=15.0, entropy=measure, **weights)(centred)

  ahead, behind = (information(points + h * away, entropy, weight) for h in (1e-6, -1e-6))
  found = (np.asarray(slope(points)) * away).sum()
  np.testing.assert_allclose(found, (ahead - behind) / 2e-6, rtol=1e-7)


@pytest.mark.parametrize('solver', ['adm', pytest.param('gd', marks=pytest.mark.slow)])
def test_tim_lowers_its_loss(solver):
  """Both solvers, from the class means: the mutual information comes close to its bound."""
  p0 = softmax(outputs(tim(3, solver, 1, learning_rate=1e-9), EPISODE))
  p = softmax(outputs(tim(3, solver, 300, learning_rate=1e-2), EPISODE))
  mutual = lambda p: -(p.mean(0) * np.log(p.mean(0))).sum() + 0.1 * (p * np.log(p)).sum(1).mean()
  assert mutual(p) > mutual(p0) + 0.01
  assert mutual(p) > 0.95 * np.log(3)


def test_alternating_directions_are_proposition_1():
  """One round, by loops over classes."""
  s, z = unit(SUPPORT.x), unit(QUERY.x)
  w = class_means(SUPPORT._replace(x=s))
  p_s, p = softmax(-7.5 * squared(s, w)), softmax(-7.5 * squared(z, w))
  q = p**1.1 / np.sqrt((p**1.1).sum(0))
  q /= q.sum(1, keepdims=True)
  share, balance = 0.1 / 1.1, 6 / 9
  points = []
  for k in range(3):
    top = share * (ONE_HOT[:, k, None] * s + p_s[:, k, None] * (w[k] - s)).sum(0)
    top += balance * (q[:, k, None] * z + p[:, k, None] * (w[k] - z)).sum(0)
    points.append(top / (share * ONE_HOT[:, k].sum() + balance * q[:, k].sum()))
  found = outputs(tim(3, 'adm', 1), EPISODE)
  np.testing.assert_allclose(found, -7.5 * squared(z, np.stack(points)), rtol=1e-9)


def test_directions_alternate_alike_for_more_features_than_examples():
  """Where weights are coefficients of the examples. Features of zeros change nothing."""
  wide = [part._replace(x=np.pad(part.x, ((0, 0), (0, 20)))) for part in (SUPPORT, QUERY)]
  found, expected = (outputs(tim(3, 'adm', 3), e) for e in (Episode(*wide), EPISODE))
  np.testing.assert_allclose(found, expected, rtol=1e-9)


@in_float64
def test_alpha_is_the_released_codes_for_as_many_shots():
  supports = [blobs(shots=shots).support for shots in (1, 3, 5, 9)]
  supports.append(SUPPORT._replace(weight=np.arange(6) < 3, y=np.arange(6) % 3))
  alphas = jax.jit(lambda: [tuned_alpha(support, 3) for support in supports])()
  assert [float(alpha) for alpha in alphas] == [2, 5, 7, 7, 2]


def test_alpha_tim_close_to_1_is_tim():
  weights = dict(support_weight=0.1, conditional_weight=0.1)
  found = outputs(alpha_tim(3, 1 + 1e-7, 50, learning_rate=0.01, **weights), EPISODE)
  expected = outputs(tim(3, 'gd', 50, learning_rate=0.01), EPISODE)
  np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_pt_map_is_algorithm_1():
  def prepared(x):
    z = unit(np.sign(x) * np.sqrt(np.abs(x) + 1e-6))
    return unit(z - z.mean(0))

  s, z = prepared(SUPPORT.x), prepared(QUERY.x)

  def transport(points):
    plan = np.exp(-10 * squared(z, points))
    for _ in range(3000):
      plan = plan / plan.sum(1, keepdims=True)
      plan = plan * 3 / plan.sum(0)
    return plan / plan.sum(1, keepdims=True)

  points = class_means(SUPPORT._replace(x=s))
  for _ in range(4):
    member = np.concatenate([ONE_HOT, transport(points)])
    centre = member.T @ np.concatenate([s, z]) / member.sum(0)[:, None]
    points = points + 0.2 * (centre - points)
  found = np.exp(outputs(pt_map(3, 4), EPISODE))
  np.testing.assert_allclose(found, transport(points), rtol=1e-6)


@pytest.mark.parametrize(
  ('scale', 'complexity'),
  [
    (True, None),
    (False, 2.0),
    pytest.param(True, 2.0, marks=pytest.mark.slow),
    pytest.param(False, None, marks=pytest.mark.slow),
  ],
)
def test_paddle_is_algorithm_1(complexity, scale):
  low, high = (QUERY.x.min(0), QUERY.x.max(0)) if scale else (0, 1)
  s, z = ((x - low) / (high - low) for x in (SUPPORT.x, QUERY.x))
  pull = 1 if complexity is None else complexity / len(z)
  points, size = class_means(SUPPORT._replace(x=s)), np.zeros(3)
  for _ in range(6):
    u = softmax(pull * size - squared(z, points) / 2)
    size = np.log(u.mean(0) + 1e-6)
    member = np.concatenate([ONE_HOT, u])
    points = member.T @ np.concatenate([s, z]) / member.sum(0)[:, None]
  expected = softmax(pull * size - squared(z, points) / 2)
  head = paddle(3, complexity, steps=6, scale=scale)
  np.testing.assert_allclose(np.exp(outputs(head, EPISODE)), expected, rtol=1e-6)


def test_transductive_tuning_descends_its_objective():
  """A first step of Adam changes each weight by the rate, against the sign of the slope."""
  s, z = unit(SUPPORT.x), unit(QUERY.x)
  kernel = 10 * unit(class_means(SUPPORT._replace(x=s)))

  def objective(kernel):
    p = softmax(z @ kernel.T)
    fit = -np.log(softmax(s @ kernel.T)[range(6), SUPPORT.y]).mean()
    return fit - (p * np.log(p)).sum(1).mean()

  slope = np.zeros_like(kernel)
  for place in np.ndindex(*kernel.shape):
    move = np.zeros_like(kernel)
    move[place] = 1e-6
    slope[place] = (objective(kernel + move) - objective(kernel - move)) / 2e-6
  found = outputs(transductive_tuning(3, 1, 0.01), EPISODE)
  np.testing.assert_allclose(found, z @ (kernel - 0.01 * np.sign(slope)).T, rtol=1e-4)


def test_weights_default_to_one():
  np.testing.assert_array_equal(weight_of(Examples(np.zeros((2, 1)), None)), np.ones(2))
