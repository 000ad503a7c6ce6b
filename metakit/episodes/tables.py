"""Tables drawn from a prior: structural causal models, whose nodes are features and targets.

The prior of TabPFN (Hollmann et al., ICLR 2023, arXiv:2207.01848, section 4; Nature 637, 2025) in a
form that compiles: all arrays have fixed shapes. A new graph is drawn for each table. Its nodes lie
in layers. A node is a function of few nodes of the layer before and of the causes, plus noise. The
features are nodes at random, so causes of the target, effects of it, or neither; nodes that
correlate with the target more often. Then columns become categories or get heavy tails, cells go
missing, and the target becomes classes.

A share of the tables, `direct`, are of the other half of that prior, its Bayesian neural networks:
all nodes of a layer are causes of each of the next, and the features are the inputs.

Deviations: graphs are layered, with as many nodes in each layer; functions are of a weighted sum,
normalised over the rows, and not trees or small networks.
"""

from typing import Any

import jax
import jax.numpy as jnp

from metakit.data.files import check_choice
from metakit.episodes import draws
from metakit.episodes.causal_models import between, blocks, densely, draw_graph, propagate, standard
from metakit.episodes.integer_draws import integers_below
from metakit.keys import fixed_key
from metakit.sizes import check_positive
from metakit.sources import EpisodeSource
from metakit.types import Episode, Examples, Key

KINDS = 'classification', 'regression'
LAYERS = 3  # of nodes that have causes
LEAST_NODES = 6  # of a layer
CLUSTERS = 4  # of rows
LEVELS = 8  # the most categories of a column
LARGEST = 10.0  # the largest normalised target of a regression
_STREAM = 0x5441424C  # makes keys of a pool that differ from those of metakit.roots of its seed


def tables(
  kind: str = 'classification',
  rows: int = 150,
  columns: int = 5,
  *,
  queries: int = 50,
  classes: int = 10,
  least_rows: int = 20,
  missing: float = 0.2,
  direct: float = 0.0,
  tasks: int | jax.Array | None = None,
  seed: int = 0,
) -> EpisodeSource:
  """Episodes of tables: a new one in each, of a structural causal model at random.

  Args:
    kind: 'classification', or 'regression' on targets of mean 0 and deviation 1 in the support,
      clipped to +-10.
    rows: rows of a table, queries included.
    columns: the most columns of a table. It has 1 to that many, all equally likely, and the others
      are padding: NaN in all rows.
    queries: rows that are asked.
    classes: the most classes. A table has 2 to that many, fewer more often; their shares differ.
    least_rows: the fewest rows in the support. A table has from that many to rows - queries, all
      equally likely, and the others have weight 0.
    missing: share of the tables in which cells are missing (NaN).
    direct: share of the tables whose target is a dense network of the features, which differ in how
      much they matter.
    tasks: tables of a pool that is drawn once and for all, so that the same occur again; it may be
      traced. None for new ones.
    seed: determines the pool.

  Returns:
    A source: support x [rows - queries, columns] float, y int labels or [rows, 1] targets, and
    weights; query likewise. A query whose class does not occur in the support has weight 0. At
    least two classes occur in the support. info has the `columns` of the table and its `ways`, the
    number of its classes.

  Raises:
    ValueError: if a number is not positive, the support is empty or smaller than least_rows, there
      are fewer than two classes, or `missing` or `direct` is no share.

  >>> episode = tables(rows=8, columns=3, queries=2, least_rows=4)(jax.random.key(0))
  >>> episode.support.x.shape, episode.query.y.shape
  ((6, 3), (2,))
  """
  check_choice('kind', kind, KINDS)
  check_positive(rows=rows, columns=columns, queries=queries, least_rows=least_rows)
  shots = rows - queries
  if shots < least_rows or least_rows < 2:
    raise ValueError(
      f'rows={rows} with queries={queries} leave a support of {shots}, and least_rows={least_rows}'
      '; use 2 <= least_rows <= rows - queries'
    )
  if classes < 2:
    raise ValueError(f'classes={classes}: there must be two to tell apart')
  for name, share in (('missing', missing), ('direct', direct)):
    if not 0 <= share <= 1:
      raise ValueError(f'{name}={share} is no share of the tables; use 0 to 1')
  if tasks is not None and not isinstance(tasks, jax.core.Tracer):
    check_positive(tasks=float(tasks))
  root = jax.random.fold_in(fixed_key(seed), _STREAM)
  target = _labels if kind == 'classification' else _numbers

  @jax.jit
  def plan(key: Key) -> Episode:
    if tasks is not None:
      key = jax.random.fold_in(root, integers_below(key, tasks))
    graph_key, column_key, target_key = jax.random.split(key, 3)
    nodes = max(LEAST_NODES, columns)
    uniform = blocks(draws.uniform, target_key, _target_draws(nodes, classes))
    number = between(uniform['columns'], 1, columns)
    # Without such tables the others keep their bits.
    straight = direct > 0 and draws.uniform(jax.random.fold_in(key, 1)) < direct
    values, depth = _nodes(graph_key, rows, nodes, direct=straight, number=number)
    present = jnp.arange(rows) < between(uniform['rows'], least_rows, shots)
    y, counts, number_of_classes, place = target(values, depth, uniform, present, classes)
    order = {'place': place, 'direct': straight}
    x = _features(column_key, values, depth, **order, columns=columns, missing=missing)
    x = jnp.where(jnp.arange(columns) < number, x, jnp.nan)
    info = {'columns': number, 'ways': number_of_classes}
    weight = jnp.where(jnp.arange(rows) < shots, present, counts).astype(x.dtype)
    support, query = (Examples(x[part], y[part], weight[part]) for part in _parts(shots))
    return Episode(support, query, info)

  return EpisodeSource(plan)


def _parts(shots: int) -> tuple[slice, slice]:
  return slice(shots), slice(shots, None)


# The values of nodes.


def _nodes(
  key: Key, rows: int, nodes: int, *, direct: Any, number: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns the values of all nodes [rows, (layers + 1) nodes], and how many layers are used.

  Args:
    key: a key.
    rows: of the table.
    nodes: of a layer.
    direct: whether the graph is a dense network, False or an array.
    number: of causes that such a network reads.
  """
  graph_key, normal_key, uniform_key = jax.random.split(key, 3)
  normal = blocks(
    draws.normal,
    normal_key,
    {'noise': (LAYERS, rows, nodes), 'causes': (rows, nodes), 'centres': (CLUSTERS, nodes)},
  )
  uniform = blocks(
    draws.uniform, uniform_key, {'cluster': (rows,), 'kind': (nodes,), 'apart': (), 'depth': ()}
  )
  causes, kind = normal['causes'], jnp.broadcast_to(uniform['kind'], (rows, nodes))
  even = 1.7 * jax.lax.erf(causes / 2**0.5)
  causes = jnp.where(kind < 0.5, causes, jnp.where(kind < 0.8, even, _heavy(causes)))
  apart = jnp.maximum(4 * uniform['apart'] - 2, 0)  # half of the tables have no clusters
  cluster = between(uniform['cluster'], 0, CLUSTERS - 1)
  causes = causes + apart * normal['centres'][cluster]
  graph = draw_graph(graph_key, LAYERS, nodes)
  if direct is not False:
    dense = densely(jax.random.fold_in(graph_key, 1), graph, number)
    graph = jax.tree.map(lambda one, other: jnp.where(direct, one, other), dense, graph)
  values = propagate(graph, causes, normal['noise'])
  return jnp.moveaxis(values, 0, 1).reshape(rows, -1), between(uniform['depth'], 1, LAYERS)


def _relation(values: jax.Array, target: jax.Array) -> jax.Array:
  """Returns for each node [rows, nodes] the larger correlation of itself, and of its square."""
  values, target = standard(values), standard(target)
  of = lambda values: jnp.abs((values * target[:, None]).mean(0))
  return jnp.maximum(of(values), of(standard(jnp.square(values))))


def _heavy(values: jax.Array) -> jax.Array:
  """Gives normal numbers heavy tails."""
  return jnp.sinh(1.2 * values) / 2


# Features.


def _features(
  key: Key,
  values: jax.Array,
  depth: jax.Array,
  *,
  place: jax.Array,
  direct: Any,
  columns: int,
  missing: float,
) -> jax.Array:
  """Returns columns [rows, columns] of nodes at random, but for the target's; or the causes."""
  rows, nodes = values.shape
  uniform = blocks(
    draws.uniform,
    key,
    {
      'order': (nodes,),
      'kind': (columns,),
      'borders': (LEVELS - 1, columns),
      'levels': (columns,),
      'names': (LEVELS, columns),
      'gaps': (columns,),
      'cells': (rows, columns),
      'all': (5,),
    },
  )
  each = nodes // (LAYERS + 1)
  number = jnp.arange(nodes)
  usable = (number < each * (depth + 1)) & (number != place)
  order = uniform['order'] - 2 * uniform['all'][4] * _relation(values, values[:, place])
  order = jnp.where(direct, number - nodes - 9.0, order)  # the causes, before all others
  chosen = jnp.argsort(jnp.where(usable, order, 9 + order))[:columns]
  x = standard(values[:, chosen])
  share, kind = uniform['all'][0] * 0.8, uniform['kind']  # of columns that are categories
  tails = jnp.where(kind > 1 - 0.2 * uniform['all'][1], _heavy(x), x)
  x = jnp.where(kind < share, _categories(x, uniform), tails)
  rate = jnp.where(uniform['gaps'] < 0.5, uniform['gaps'] * uniform['all'][2], 0)
  gone = (uniform['all'][3] < missing) & (uniform['cells'] < rate)
  return jnp.where(gone, jnp.nan, x)


def _categories(x: jax.Array, uniform: dict[str, jax.Array]) -> jax.Array:
  """Cuts columns [rows, columns] at ranks at random, and numbers the parts in another order."""
  levels = between(uniform['levels'] ** 2, 2, LEVELS)
  used = jnp.arange(LEVELS - 1)[:, None] < levels - 1
  level = (used & (_rank(x)[:, None] >= uniform['borders'])).sum(1)  # [rows, columns]
  names = jnp.argsort(jnp.argsort(uniform['names'], axis=0), axis=0)  # [levels, columns]
  return jnp.take_along_axis(names, level, axis=0).astype(x.dtype)


def _rank(x: jax.Array) -> jax.Array:
  """Returns for each entry the share of its column [rows, ...] that is less."""
  return (x[None] < x[:, None]).mean(1, dtype=x.dtype)


# Targets. Each function returns y, which queries count, the number of classes, and the target node.


def _target_draws(nodes: int, classes: int) -> dict[str, tuple[int, ...]]:
  shapes: dict[str, tuple[int, ...]] = dict.fromkeys(['rows', 'columns', 'classes', 'even'], ())
  return shapes | {'kind': (), 'node': (2,), 'shares': (classes,), 'names': (classes,)}


def _target_nodes(
  values: jax.Array, depth: jax.Array, uniform: dict[str, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns two nodes that have causes, normalised, and the number of the first."""
  each = values.shape[1] // (LAYERS + 1)
  first, second = (
    jnp.minimum(each + (u * each * depth).astype(jnp.int32), each * (depth + 1) - 1)
    for u in uniform['node']
  )
  return standard(values[:, first]), standard(values[:, second]), first


def _labels(values, depth, uniform, present, classes):
  value, other, place = _target_nodes(values, depth, uniform)
  number = between(uniform['classes'] ** 2, 2, classes)
  used = jnp.arange(classes) < number
  # Parts of one node, whose shares are between equal and those of a flat Dirichlet distribution.
  shares = jnp.where(used, -jnp.log1p(-uniform['shares']), 0)
  even, total = uniform['even'], jnp.maximum(shares.sum(), 1e-6)
  shares = jnp.where(used, even / number, 0) + (1 - even) * shares / total
  borders = jnp.where(used, jnp.cumsum(shares), 2)[:-1]
  part = (_rank(value)[:, None] >= borders).sum(1)
  part = jnp.minimum(part, number - 1)
  # Or the nearest of some rows, by two nodes.
  chosen = jnp.arange(classes) % len(value)
  away = jnp.square(value[:, None] - value[chosen]) + jnp.square(other[:, None] - other[chosen])
  nearest = jnp.argmin(jnp.where(used, away, jnp.inf), axis=1)
  y = jnp.where(uniform['kind'] < 0.6, part, nearest)
  of_support = lambda y: (present[:, None] & (y[:, None] == jnp.arange(classes))).any(0)
  # Where one class alone would be in the support, it is cut in the middle.
  middle = jnp.nanmedian(jnp.where(present, value, jnp.nan))
  y = jnp.where(of_support(y).sum() > 1, y, value > middle)
  names = jnp.argsort(jnp.argsort(jnp.where(used, uniform['names'], 2)))
  y = names[y].astype(jnp.int32)
  return y, of_support(y)[y], number, place


def _numbers(values, depth, uniform, present, classes):
  del classes
  value, _, place = _target_nodes(values, depth, uniform)
  value = jnp.where(uniform['kind'] < 0.8, value, _heavy(value))
  count = present.sum()
  mean = jnp.where(present, value, 0).sum() / count
  deviation = jnp.sqrt(jnp.where(present, jnp.square(value - mean), 0).sum() / count)
  y = jnp.clip((value - mean) / jnp.maximum(deviation, 1e-6), -LARGEST, LARGEST)
  return y[:, None], jnp.ones(len(y), bool), jnp.zeros((), jnp.int32), place
