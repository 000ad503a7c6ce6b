"""Endless classification tasks from one base set: each has a random projection and relabelling.

Louis Kirsch, James Harrison, Jascha Sohl-Dickstein, Luke Metz, General-Purpose In-Context Learning
by Meta-Learning Transformers, 2022, arXiv:2212.04458, section 3.1. A task is a pure function of its
number in a pool: x becomes A x with A_ij ~ N(0, 1 / inputs), and label y becomes rho(y), a
permutation. With few tasks a learner can memorise them; with many it has to learn to learn.
"""

import math
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from metakit.data.table import ClassTable
from metakit.episodes import draws
from metakit.episodes.integer_draws import (
  choose,
  draw_without_replacement,
  integers_below,
  reduce_below,
)
from metakit.keys import fixed_key
from metakit.sources import EpisodeSource
from metakit.types import Episode, Examples, Key

MOST_TASKS = 2**31 - 1  # the largest int32
_MOMENT_ROWS = 4096
_STREAM = 0x50524F4A  # makes keys that differ from those of metakit.roots of the same seed


def projected(
  table: ClassTable,
  size: int = 64,
  shots: int = 99,
  *,
  queries: int = 1,
  tasks: int | jax.Array | None = 2**30,
  held_out: bool = False,
  fixed_labels: float = 0.0,
  fixed_projection: float = 0.0,
  seed: int = 0,
  repeated: float = 0.0,
  distinct: int = 10,
) -> EpisodeSource:
  """Episodes of projected and relabelled examples of a table.

  Rows are drawn from the whole table without replacement, all equally likely. So classes are as
  frequent as in the table, and every class of the table is part of every task.

  Args:
    table: the base set, images or features. Before the projection the mean of each pixel is
      subtracted, and the result is divided by the standard deviation of all pixels. Both are
      measured on at most 4,096 evenly spaced rows.
    size: outputs of the projection.
    shots: support examples in all, not of each class.
    queries: query examples in all.
    tasks: size of the pool; a power of two in the paper. It may be traced, to train models on pools
      of several sizes side by side, and is then not checked. None gives each episode a new task.
    held_out: True takes the tasks of a second pool, which has no task of the first.
    fixed_labels: the share of episodes whose permutation is that of task 0 of the first pool. In
      the paper this bias shortens the plateau before learning sets in.
    fixed_projection: the share of episodes whose projection is that of task 0.
    seed: determines both pools.
    repeated: the share of episodes that draw their examples from only a few rows, with replacement.
      The first step of learning in context is to recognise what was seen before, and the variety of
      real classes hides it. Compare the burstiness of Chan et al. 2022, Data distributional
      properties drive emergent in-context learning in transformers, arXiv:2205.05055.
    distinct: how many different rows such an episode has.

  Returns:
    An EpisodeSource; x of an episode is [examples, size] float32. info['task'] [] int32 is the
    task's number, info['labels'] and info['projection'] [] the numbers of the tasks whose
    permutation and projection were used (-1 for the fixed ones). Without a pool, numbers have 62
    bits, and info['more'] [] int32 is their second part.

  Raises:
    ValueError: if a size is not positive, the table has too few rows, the pool is larger than its
      index type, a share is not between 0 and 1, or `distinct` exceeds the number of examples.

  >>> from metakit.data.table import class_table
  >>> table = class_table(np.arange(200.0).reshape(20, 10), np.arange(20) % 5)
  >>> episode = jax.eval_shape(projected(table, size=4, shots=7), jax.random.key(0))
  >>> episode.support.x.shape, episode.support.y.shape
  ((7, 4), (7,))
  """
  _check(table, {'size': size, 'shots': shots, 'queries': queries, 'distinct': distinct}, tasks)
  _check_shares(fixed_labels=fixed_labels, fixed_projection=fixed_projection, repeated=repeated)
  if repeated and distinct > shots + queries:
    raise ValueError(f'distinct={distinct} exceeds shots+queries={shots + queries}; use fewer')
  rows, inputs = len(table.x), math.prod(table.x.shape[1:])
  starts = jnp.asarray(table.starts, jnp.int32)
  mean, deviation = _moments(table)
  part_of_task = _keys_of_tasks(seed, held_out)

  @jax.jit
  def plan(key: Key) -> Episode:
    task_key, bias_key, *row_keys = jax.random.split(key, 4 if repeated else 3)
    task, more = _numbers(task_key, tasks)
    bits = jax.random.bits(bias_key, (2,), jnp.uint32)
    labels, projection = jnp.where(_happens(bits, fixed_labels, fixed_projection), -1, task)
    permutation = draw_without_replacement(part_of_task(labels, 0, more), len(starts), len(starts))
    drawn = choose(jax.random.bits(row_keys[0], (shots + queries,), jnp.uint32), rows)
    drawn = _repeat(row_keys[1], drawn, repeated, distinct) if repeated else drawn
    y = permutation[jnp.searchsorted(starts, drawn, side='right') - 1]
    info = {'task': task, 'labels': labels, 'projection': projection}
    info |= {} if more is None else {'more': more}
    support, query = (Examples(drawn[p], y[p]) for p in (np.s_[:shots], np.s_[shots:]))
    return Episode(support, query, info)

  @jax.jit
  def finish(episode: Episode) -> Episode:
    key = part_of_task(episode.info['projection'], 1, episode.info.get('more'))
    return _project(episode, draws.normal(key, (inputs, size)) / inputs**0.5, mean, deviation)

  return EpisodeSource(plan, table.x, finish)


def _keys_of_tasks(seed: int, held_out: bool) -> Callable[[jax.Array, int, jax.Array | None], Key]:
  """Returns (number, part, second part of the number) -> the key of a part of a task.

  A negative number is task 0 of the first pool.
  """
  pools = jax.random.fold_in(fixed_key(seed), _STREAM)
  pool, fixed = jax.random.fold_in(pools, int(held_out)), jax.random.fold_in(pools, 0)

  def part_of_task(number: jax.Array, part: int, more: jax.Array | None) -> Key:
    task = jax.random.fold_in(pool, jnp.maximum(number, 0))
    task = task if more is None else jax.random.fold_in(task, more)
    first = jax.random.fold_in(fixed, 0)
    return jax.random.fold_in(jnp.where(number < 0, first, task), part)

  return part_of_task


def _project(episode: Episode, matrix: jax.Array, mean: jax.Array, deviation: float) -> Episode:
  flat = lambda x: x.reshape(len(x), len(matrix)).astype(jnp.float32)
  project = lambda of: of._replace(x=((flat(of.x) - mean) / deviation) @ matrix)
  return episode._replace(support=project(episode.support), query=project(episode.query))


def _repeat(key: Key, rows: jax.Array, share: float, distinct: int) -> jax.Array:
  """With probability `share`, replaces the rows by draws with replacement from the first ones."""
  bits = jax.random.bits(key, (1 + len(rows),), jnp.uint32)
  again = rows[reduce_below(bits[1:], distinct)]
  return jnp.where(_happens(bits[0], share), again, rows)


def _happens(bits: jax.Array, *shares: float) -> jax.Array:
  """Returns bools that are true with the given probabilities, from random bits uint32 [shares]."""
  limits = jnp.asarray([int(share * 2**31) for share in shares], jnp.uint32)
  return bits >> 1 < limits.reshape(bits.shape)


def _numbers(key: Key, tasks: int | jax.Array | None) -> tuple[jax.Array, jax.Array | None]:
  """Returns the number of a task, and its second part if there is no pool."""
  if tasks is not None:
    return integers_below(key, tasks), None
  first, second = (jax.random.bits(key, (2,), jnp.uint32) >> 1).astype(jnp.int32)
  return first, second


def _moments(table: ClassTable) -> tuple[jax.Array, float]:
  """Returns the mean of each pixel [inputs] and the deviation of all, of evenly spaced rows."""
  step = -(-len(table.x) // _MOMENT_ROWS)
  x = np.asarray(table.x[::step], np.float64).reshape(-1, math.prod(table.x.shape[1:]))
  mean = x.mean(0)
  deviation = max((x - mean).std(), np.finfo(np.float32).tiny)
  return jnp.asarray(mean, jnp.float32), float(deviation)


def _check(table: ClassTable, sizes: dict[str, int], tasks: int | jax.Array | None) -> None:
  if not (tasks is None or isinstance(tasks, jax.core.Tracer)):
    sizes = {**sizes, 'tasks': operator.index(tasks)}
  for name, value in sizes.items():
    if value < 1:
      raise ValueError(f'{name}={value} is not positive; use {name}>=1')
  if sizes.get('tasks', 1) > MOST_TASKS:
    raise ValueError(
      f'tasks={tasks} exceeds the index of the pool (int32); use <={MOST_TASKS}, or None for no end'
    )
  examples = sizes['shots'] + sizes['queries']
  if examples > len(table.x):
    raise ValueError(
      f'shots+queries={examples} exceeds the {len(table.x)} rows of the base set; use fewer or a '
      'larger base set'
    )


def _check_shares(**shares: float) -> None:
  for name, share in shares.items():
    if not 0 <= share <= 1:
      raise ValueError(f'{name}={share} is no share; use one between 0 and 1')
