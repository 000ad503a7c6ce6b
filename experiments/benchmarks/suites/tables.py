"""Tables: how fast the prior makes them, and training on them, beside the network in PyTorch.

The sizes are those of nanoTabPFN (3 blocks, width 96, tables of 150 rows and 5 columns). All forms
of a training step get the same tables and weights, and their gradients are compared before they are
timed. A cell is one of a table's columns or targets, in its support or query.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.packages import installed
from experiments.benchmarks.suite import Suite
from experiments.benchmarks.timing import Case, compiled_case
from metakit.episodes.tables import tables
from metakit.learners.tabular import tabular
from metakit.objectives import cross_entropy
from metakit.types import Episode, MetaLearner

TABLES, ROWS, COLUMNS, QUERIES, CLASSES = 8, 150, 5, 50, 2
WIDTH, DEPTH, HEADS = 96, 3, 4
CLOSE = 1e-3  # share of the norm that gradients may differ by
OURS = 'train'
TRAINED: dict[str, dict[str, Any]] = {OURS: {}, 'train, fused attention': {'attention': 'fused'}}


def cases() -> list[Case]:
  """Returns the cases.

  Raises:
    AssertionError: if the gradient of PyTorch's form is another one.
  """
  prior = tables('classification', ROWS, COLUMNS, queries=QUERIES, classes=CLASSES, missing=0.0)
  drawn = jax.vmap(prior.plan)
  keys = jax.random.split(jax.random.key(0), TABLES)
  episodes = jax.jit(drawn)(keys)
  made = compiled_case('tables of the prior', drawn, (keys,), number=TABLES, unit='tables')
  learner, cells = _learner(), TABLES * ROWS * (COLUMNS + CLASSES)
  params = learner.init(jax.random.key(0), jax.tree.map(lambda leaf: leaf[0], episodes))
  train = [
    compiled_case(
      name,
      _step(_learner(**options)),
      (params, episodes),
      number=cells,
      unit='cells',
      baseline='' if name == OURS else OURS,
    )
    for name, options in TRAINED.items()
  ]
  return [made, *train, *_of_pytorch(learner, params, episodes, cells)]


def _learner(**options: Any) -> MetaLearner:
  return tabular(CLASSES, WIDTH, DEPTH, heads=HEADS, **options)


def _loss(learner: MetaLearner, params: Any, episodes: Episode) -> jax.Array:
  each = jax.vmap(lambda episode: learner.loss(jax.random.key(0), params, episode)[0])
  return each(episodes).mean()


def _step(learner: MetaLearner) -> Any:
  """A step of gradient descent, without what an optimizer costs."""

  def step(params: Any, episodes: Episode) -> Any:
    slope = jax.grad(lambda params: _loss(learner, params, episodes))(params)
    return optax.apply_updates(params, jax.tree.map(lambda g: -1e-3 * g, slope))

  return step


def _of_pytorch(learner: MetaLearner, params: Any, episodes: Episode, cells: int) -> list[Case]:
  """Returns the case of PyTorch's form; none without PyTorch."""
  if not installed('torch'):
    return []
  from experiments.benchmarks.torch_tables import form_beside

  gradient = jax.jit(jax.grad(lambda params: _loss(learner, params, episodes)))
  ours = jax.device_get(gradient(params))['params']
  call, theirs = form_beside(
    read_cells(episodes), jax.device_get(params)['params'], depth=DEPTH, heads=HEADS
  )
  check_gradient(ours, theirs)
  return [Case('PyTorch', call, cells, baseline=OURS, unit='cells', peer=True)]


def read_cells(episodes: Episode) -> dict[str, np.ndarray]:
  """Returns what the network reads of some tables, whose classes may be all that there are."""
  from metakit.learners.tabular import cells_of, columns_of, targets_of

  def read(episode: Episode) -> dict[str, jax.Array]:
    support, query, _ = episode
    columns, targets = columns_of(support), targets_of(support, CLASSES, cross_entropy)
    share = targets.mean
    shown = jnp.zeros((len(query.y), CLASSES))
    values = jnp.concatenate([jnp.asarray(targets.values) - share, shown])
    asked = (jnp.arange(len(values)) >= len(support.y))[:, None]
    channels = [values, jnp.broadcast_to(share, values.shape), asked + jnp.zeros(CLASSES)]
    x = jnp.concatenate([support.x, query.x])
    return {
      'features': cells_of(columns, x, clip=10.0),
      'targets': jnp.stack(channels, axis=-1),
      'columns': jnp.concatenate([columns.informative, targets.occurring]),
      'present': support.weight > 0,
      'labels': query.y,
      'weight': query.weight,
    }

  return jax.device_get(jax.jit(jax.vmap(read))(episodes))


def check_gradient(ours: Any, theirs: Any) -> None:
  """Raises an AssertionError unless two gradients differ by rounding alone."""
  one, other = (
    np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(t)]) for t in (ours, theirs)
  )
  apart = np.linalg.norm(one - other) / np.linalg.norm(one)
  if not apart < CLOSE:
    raise AssertionError(f'the gradient of PyTorch is another one, by {apart:.2g} of its norm')


SUITES = {'tables': Suite(cases)}
