"""The prior over tables: its graph in NumPy, classes, targets, missing cells, padding, pools."""

import functools

import jax
import numpy as np

from metakit.episodes.causal_models import densely, draw_graph, propagate
from metakit.episodes.tables import (
  _labels,
  _target_draws,
  tables,
)

SIZES = {'rows': 24, 'columns': 4, 'queries': 8, 'least_rows': 6}
MANY = 512


IN_NUMPY = [
  lambda z: z,
  np.tanh,
  lambda z: np.maximum(z, 0),
  lambda z: np.sin(2 * z),
  lambda z: np.abs(z) - 0.8,
  lambda z: 2 * np.exp(-(z**2)) - 1,
  np.sign,
  lambda z: np.minimum(z**2, 4) - 1,
]


@functools.cache
def drawn(kind):
  source = tables(kind, classes=5, missing=0.5, **SIZES)
  keys = jax.random.split(jax.random.key(3), MANY)
  return jax.device_get(jax.jit(jax.vmap(source.plan))(keys))


def test_nodes_are_those_of_a_loop_over_the_graph():
  """Each node by itself, from those before it."""
  layers, nodes, rows = 3, 5, 9
  draw = jax.jit(draw_graph, static_argnums=(1, 2))
  graph, rng = draw(jax.random.key(1), layers, nodes), np.random.default_rng(0)
  causes, noise = (rng.normal(size=shape).astype('f') for shape in ((rows, nodes), (3, rows, 5)))
  found = jax.device_get(jax.jit(propagate)(graph, causes, noise))
  graph, before = jax.tree.map(lambda a: np.asarray(a, float), graph), np.asarray(causes, float)
  first = before
  assert (np.count_nonzero(graph.weight, axis=1) >= 1).all()  # each node has a cause
  for layer in range(layers):
    values = np.zeros((rows, nodes))
    for node in range(nodes):
      total = np.zeros(rows)
      for other in range(nodes):
        total += graph.weight[layer, other, node] * before[:, other]
        total += graph.skip[layer, other, node] * first[:, other]
      total = (total - total.mean()) / total.std()
      total = graph.scale[layer, node] * total + graph.bias[layer, node]
      act = IN_NUMPY[int(graph.activation[layer, node])]
      values[:, node] = act(total) + graph.noise[layer, node] * noise[layer, :, node]
    np.testing.assert_allclose(found[layer + 1], values, atol=1e-4)
    before = np.asarray(found[layer + 1], float)


def test_a_dense_network_reads_the_first_causes_alone():
  make = jax.jit(lambda key: densely(key, draw_graph(key, 3, 6), 4))
  graph = jax.device_get(make(jax.random.key(0)))
  assert (graph.weight[0, 4:] == 0).all() and (graph.skip == 0).all()
  assert (graph.weight[0, :4] != 0).all() and (graph.weight[1:] != 0).all()
  size = np.abs(graph.weight[0, :4]).mean(1)
  assert size.max() > 2 * size.min()  # some causes matter more


def test_direct_tables_show_all_that_the_target_depends_on():
  """Of one column: neighbours in it have like targets. Of more: they are drawn independently."""
  source = tables('regression', direct=1.0, missing=0.0, **SIZES)
  keys = jax.random.split(jax.random.key(3), MANY)
  direct = jax.device_get(jax.jit(jax.vmap(source.plan))(keys))
  (smooth, alike), (other_smooth, other_alike) = map(columns_of, (direct, drawn('regression')))
  assert smooth > other_smooth + 0.15 and alike < other_alike - 0.05


def columns_of(episodes):
  """Returns how much of a target its neighbours in the only column explain, in the mean over tables
  of one column, and the mean correlation of the first two columns of others."""
  x, y, weight = episodes.support.x, episodes.support.y[..., 0], episodes.support.weight
  smooth, alike = [], []
  for table, target, there, number in zip(x, y, weight > 0, episodes.info['columns'], strict=True):
    table, target = np.nan_to_num(table[there]), target[there]
    if number == 1:
      target = target[np.argsort(table[:, 0])]
      rest = target[1:-1] - (target[:-2] + target[2:]) / 2
      smooth.append(1 - min(rest.var() / target.var(), 2) / 1.5)  # 1.5 is that of noise
    elif (table[:, :2].std(0) > 0).all():
      alike.append(abs(np.corrcoef(table[:, 0], table[:, 1])[0, 1]))
  return np.mean(smooth), np.mean(alike)


def test_rows_columns_and_classes_are_padded():
  support, query, info = drawn('classification')
  number = support.weight.sum(1)
  assert number.min() == 6 and number.max() == 16  # least_rows to rows - queries
  assert (np.diff(support.weight) <= 0).all()
  padding = np.isnan(support.x).all(1) & np.isnan(query.x).all(1)
  assert set(info['columns']) == {1, 2, 3, 4} and set(info['ways']) == {2, 3, 4, 5}
  beyond = np.arange(4) >= info['columns'][:, None]
  np.testing.assert_array_equal(padding, beyond)  # a column of a table has some value
  assert (support.y < info['ways'][:, None]).all() and support.y.min() >= 0


def test_queries_of_classes_that_do_not_occur_do_not_count():
  support, query, _ = drawn('classification')
  some = 0
  for y, weight, asked, counts in zip(
    support.y, support.weight, query.y, query.weight, strict=True
  ):
    occurring = set(y[weight > 0])
    assert len(occurring) > 1
    np.testing.assert_array_equal(counts > 0, [label in occurring for label in asked])
    some += (counts == 0).any()
  assert 0 < some < MANY


def test_classes_are_of_unequal_shares_in_any_order():
  support, _, info = drawn('classification')
  two = support.y[info['ways'] == 2].mean(1)
  assert 0.4 < two.mean() < 0.6 and two.std() > 0.15


def test_cells_are_missing_in_a_share_of_the_tables():
  for kind in ('classification', 'regression'):
    support, query, info = drawn(kind)
    x = np.concatenate([support.x, query.x], axis=1)
    inside = np.arange(4) < info['columns'][:, None]
    share = (np.isnan(x) & inside[:, None]).any((1, 2)).mean()
    assert 0.2 < share < 0.5  # of the half that may, some draw none
  whole = tables(missing=0.0, **SIZES)
  x = np.asarray(jax.jit(jax.vmap(whole.plan))(jax.random.split(jax.random.key(0), 64)).support.x)
  assert (np.isnan(x).any(1) == np.isnan(x).all(1)).all()


def test_columns_are_numbers_or_few_categories():
  support, query, _ = drawn('classification')
  x = np.concatenate([support.x, query.x], axis=1)
  distinct = [len(np.unique(column[~np.isnan(column)])) for each in x for column in each.T]
  few = np.mean([2 <= number <= 8 for number in distinct if number])
  assert 0.2 < few < 0.8 and max(distinct) == 24


def test_targets_of_a_regression_are_normalised_by_the_support_and_no_column():
  support, query, _ = drawn('regression')
  for x, y, weight in zip(support.x, support.y[..., 0], support.weight, strict=True):
    there = weight > 0
    assert abs(y[there].mean()) < 1e-4 and abs(y[there].std() - 1) < 1e-3
    assert not any(is_linear(y, column) for column in x.T)
  assert (query.weight == 1).all() and np.abs(query.y).max() <= 10


def is_linear(y, column):
  """Whether known cells of a column are a linear function of a target, to rounding."""
  known = ~np.isnan(column)
  if known.sum() < 4:
    return False
  away, other = (each[known] - each[known].mean(dtype=float) for each in (y, column))
  return (away @ other) ** 2 > (1 - 1e-10) * (away @ away) * (other @ other) > 0


def test_one_class_alone_is_cut_in_the_middle():
  """As when all shares but one are nothing."""
  values = np.random.default_rng(0).normal(size=(12, 4 * 6)).astype('f')
  uniform = {name: np.full(shape, 0.01, 'f') for name, shape in _target_draws(24, 3).items()}
  uniform |= {'even': np.float32(0), 'shares': np.array([1 - 1e-7, 0, 0], 'f')}
  labels = jax.jit(functools.partial(_labels, classes=3))
  y, counts, _, place = jax.device_get(labels(values, np.int32(1), uniform, np.arange(12) < 8))
  above = values[:, place] > np.median(values[:8, place])
  assert counts.all() and len(set(zip(y.tolist(), above.tolist(), strict=True))) == 2


def test_a_pool_has_so_many_tables_and_a_larger_one_holds_them():
  draw = jax.jit(lambda tasks, keys: jax.vmap(tables(tasks=tasks, **SIZES).plan)(keys).support.x)
  keys = jax.random.split(jax.random.key(5), 64)
  distinct = lambda tasks: {x.tobytes() for x in jax.device_get(draw(np.int32(tasks), keys))}
  assert len(distinct(3)) == 3 and distinct(3) < distinct(6)
