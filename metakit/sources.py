"""Sources of episodes: a plan of row numbers, and the table whose rows they are.

A plan gives row numbers, which do not depend on where the table lies. Only the gathering of rows
does: the device gathers them (`complete`), or a thread of the host for tables that are larger than
the device (`read_ahead`).
"""

import collections
import dataclasses
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from metakit.data.numbers import check_width
from metakit.gathering import gather
from metakit.inputs import native
from metakit.types import Episode, Key, Sampler

BUDGET_BYTES = 2 << 30


class Finish(Protocol):
  """A pure function that changes an episode after its rows are in place."""

  def __call__(self, episode: Episode, /) -> Episode:
    """Returns the episode as it is learned from."""
    ...


class Schedule(Protocol):
  """The plan of each meta-training step, for a curriculum."""

  def __call__(self, step: jax.Array, /) -> Sampler:
    """Returns the plan of step [] int32."""
    ...


@dataclasses.dataclass(frozen=True, eq=False)
class EpisodeSource:
  """A sampler whose table can be passed to a compiled function as an argument.

  Called with a key it makes a whole episode, so it is a Sampler. A compiled function that closes
  over it would hold a copy of the table, so metakit.dispatch and metakit.evaluation take the
  source apart.

  It is no NamedTuple, since jax.jit holds weak references to what it compiles, and a tuple has
  none.

  Attributes:
    plan: a sampler. With `data`, its episodes hold row numbers of `data` in place of x.
    data: [rows, ...], on a device or (NumPy, memory-mapped) on the host; None if `plan` already
      makes whole episodes.
    finish: changes an episode after its rows are in place (a random projection, say); None for no
      change.
    schedule: the plan of each meta-training step; None if it is always `plan`. Tests and
      calibration always use `plan`.

  >>> from metakit.types import Examples
  >>> rows = lambda key: Examples(jnp.array([4, 3]), jnp.arange(2))
  >>> source = EpisodeSource(lambda key: Episode(rows(key), rows(key)), 10 * np.arange(5))
  >>> source(jax.random.key(0)).query.x.tolist()
  [40, 30]
  """

  plan: Sampler
  data: Any = None
  finish: Finish | None = None
  schedule: Schedule | None = None

  def __call__(self, key: Key, /) -> Episode:
    """Returns the whole episode of a key."""
    planned = self.plan(key)
    if not on_host(self):
      return complete(self, planned, self.data)
    if any(isinstance(part.x, jax.core.Tracer) for part in planned[:2]):
      return complete(self, planned, jnp.asarray(_for_device(self.data)))
    return complete(self, _map_rows(jnp.asarray, read_rows(planned, self.data)), None)

  def replace(self, **changes: Any) -> 'EpisodeSource':
    """Returns the source with other values of some attributes."""
    return dataclasses.replace(self, **changes)


def as_source(sampler: Sampler) -> EpisodeSource:
  """Returns a source as it is; makes a source without a table of any other sampler."""
  return sampler if isinstance(sampler, EpisodeSource) else EpisodeSource(sampler)


def change_plans(sampler: Sampler, change: Callable[[Sampler], Sampler]) -> EpisodeSource:
  """Returns the source with `change` applied to its plan, that of every step included."""
  source = as_source(sampler)
  schedule = source.schedule
  changed = None if schedule is None else lambda step: change(schedule(step))
  return source.replace(plan=change(source.plan), schedule=changed)


def plan_at(source: EpisodeSource, step: jax.Array) -> Sampler:
  """Returns the plan of a meta-training step [] int32, which may be traced."""
  return source.plan if source.schedule is None else source.schedule(step)


def gather_rows(episode: Episode, data: jax.Array | None) -> Episode:
  """Replaces the row numbers in an episode by those rows of `data`; data None changes nothing."""
  return episode if data is None else _map_rows(partial(gather, data), episode)


def _map_rows(change: Callable[[Any], Any], episode: Episode) -> Episode:
  """Applies a function to what an episode holds in place of x."""
  support, query = (part._replace(x=change(part.x)) for part in (episode.support, episode.query))
  return episode._replace(support=support, query=query)


def complete(source: EpisodeSource, planned: Episode, data: jax.Array | None) -> Episode:
  """Makes a whole episode of a planned one.

  Args:
    source: the source of the plan.
    planned: an episode of source.plan.
    data: source.data, or None if the rows are in place already.
  """
  episode = gather_rows(planned, data)
  return episode if source.finish is None else source.finish(episode)


def abstract_episode(source: EpisodeSource) -> Episode:
  """Returns the shapes and types of a source's episodes."""
  make = lambda key, data: complete(source, source.plan(key), data)
  return jax.eval_shape(make, jax.random.key(0), source.data)


def place(source: EpisodeSource, budget_bytes: float = BUDGET_BYTES) -> EpisodeSource:
  """Puts the data of a source into device memory if it fits a budget.

  Args:
    source: any source.
    budget_bytes: the device memory that data may take, in bytes.

  Returns:
    The source with its data as a jax array, or unchanged if it is larger than the budget (see
    `on_host`), already on a device, or None.

  Raises:
    ValueError: if the data are integers, or float64, beyond what 32 bits hold.

  >>> plan = lambda key: Episode(jnp.array([4, 3]), jnp.array([0]))
  >>> source = EpisodeSource(plan, np.arange(5, dtype=np.float32))  # 20 bytes
  >>> [on_host(place(source, budget_bytes=budget)) for budget in (100, 10)]
  [False, True]
  """
  if not on_host(source) or source.data.nbytes > budget_bytes:
    return source
  return source.replace(data=jnp.asarray(_for_device(source.data)))


def on_host(source: EpisodeSource) -> bool:
  """Says whether the host has to read the rows of a source, with `read_ahead`."""
  return source.data is not None and not isinstance(source.data, jax.Array)


def read_ahead(
  plan_batch: Callable[[int], Episode], data: np.ndarray, steps: Iterable[int], *, depth: int = 2
) -> Generator[Episode, None, None]:
  """Yields the episodes of a plan, their rows read by one background thread ahead of their use.

  The caller's thread calls the plans; a jitted plan returns at once. The background thread waits
  for them. An error of reading is raised when its episode is due. Closing the generator cancels
  what has not begun, and returns when the thread has ended.

  Args:
    plan_batch: step -> Episode whose x are row numbers of `data` with any leading axes, such as
      [steps, tasks, examples].
    data: [rows, ...] NumPy array or memory map.
    steps: what plan_batch is called with, in order.
    depth: how many episodes are planned and read ahead of the one in use.

  Yields:
    For each step the Episode with data[rows] (NumPy) in place of the row numbers.

  Raises:
    ValueError: if depth is not positive.
  """
  if depth < 1:
    raise ValueError(f'depth={depth} is not positive; use depth>=1')
  return _read_ahead(plan_batch, data, steps, depth)


def _read_ahead(
  plan_batch: Callable[[int], Episode], data: np.ndarray, steps: Iterable[int], depth: int
) -> Generator[Episode, None, None]:
  pending: collections.deque[Future[Episode]] = collections.deque()
  reader = ThreadPoolExecutor(1, thread_name_prefix='read_ahead')
  try:
    for step in steps:
      pending.append(reader.submit(read_rows, plan_batch(step), data))
      if len(pending) > depth:
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()
  finally:
    reader.shutdown(wait=True, cancel_futures=True)


def read_rows(episode: Episode, data: np.ndarray) -> Episode:
  """Replaces the row numbers in an episode by those rows of `data`, as NumPy arrays in memory.

  Raises:
    ValueError: if the rows hold integers, or float64, beyond what 32 bits hold.
  """

  return _map_rows(lambda rows: _for_device(np.asarray(data[np.asarray(rows)])), episode)


def _for_device(rows: np.ndarray) -> np.ndarray:
  """Returns rows in a form for JAX: native bytes, and no integers that JAX would cut to 32 bits."""
  check_width(rows)
  return native(rows)
