"""Evaluates on named episodes: episode `index` of a seed is the same for every learner."""

import math
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from metakit.devices import AXIS, check_parallel, task_mesh
from metakit.episodes.purity import check_keys_matter
from metakit.evaluation.judges import Judge, judge_queries
from metakit.evaluation.kept import keep_programs_of
from metakit.keys import learner_key, task_key
from metakit.platforms import target_platform
from metakit.sources import abstract_episode, as_source, gather_rows, on_host, read_rows
from metakit.train import group_size
from metakit.types import Key, MetaLearner, Objective, Params, Sampler


def evaluate(
  learner: MetaLearner,
  objective: Objective,
  params: Params,
  *,
  source: Sampler,
  root: Key,
  episodes: int,
  chunk: int | None = None,
  parallel: str = 'none',
  judge: Judge | None = None,
  on_chunk: Callable[[int], None] | None = None,
  warn: bool = True,
) -> Mapping[str, np.ndarray]:
  """Lets a learner adapt to each of a number of named episodes, and judges it.

  Args:
    learner: any MetaLearner. If it has `calibrate`, the params should be calibrated.
    objective: gives the metrics of the predictions.
    params: the meta-parameters.
    source: the test episodes: a source with its table on a device or on the host, or another
      sampler.
    root: the root key of the episodes, such as roots(seed).test. Episode i is made from
      task_key(root, 0, i). In it the learner draws from learner_key(root, i).
    episodes: how many there are.
    chunk: how many run side by side on a device, under vmap. The default suits the device and the
      size of an episode (usual_chunk). The results do not depend on it.
    parallel: 'none' (one device of each process), 'pmap' or 'shard_map' (all devices). Several
      processes share the episodes; all of them make the same call and get the same result.
    judge: what is measured of an episode; by default `judge_queries`.
    on_chunk: called with the number of episodes done, while the next chunk runs.
    warn: whether losses that are not finite are a UserWarning. Such a prediction counts as wrong.
      False suits a caller that says so itself, with `not_finite`.

  Returns:
    Each metric, [episodes] (with further axes if `judge` gives arrays), in the order of the index.

  Raises:
    ValueError: for impossible numbers, an unknown `parallel`, or a sampler that ignores its key.

  >>> import metakit
  >>> x = np.array([0.0, 1.0, 2.0, 10.0, 11.0, 12.0], np.float32)[:, None]
  >>> table = metakit.data.arrays(x, ['low', 'low', 'low', 'high', 'high', 'high'])
  >>> source = metakit.episodes.few_shot(table, ways=2, shots=1, queries=2)
  >>> test = {'source': source, 'root': metakit.roots(0).test, 'episodes': 3}
  >>> head = metakit.heads.prototypes(ways=2)
  >>> evaluate(head, metakit.cross_entropy, {}, **test)['accuracy'].tolist()
  [1.0, 1.0, 1.0]
  """
  source = as_source(source)
  chunk = usual_chunk(source) if chunk is None else chunk
  if episodes < 1 or chunk < 1:
    raise ValueError(f'episodes={episodes} and chunk={chunk} must be positive')
  check_parallel(1, parallel, 1)
  processes, rank = jax.process_count(), jax.process_index()
  devices = 1 if parallel == 'none' else jax.local_device_count()
  chunk = devices * min(chunk, -(-episodes // (devices * processes)))

  plan = _planner(source.plan)
  run = _judger(learner, objective, judge or judge_queries, source.finish, parallel)
  data = None if on_host(source) else source.data
  if parallel != 'none':
    params, data = _everywhere(params, data)
  judged = []
  for start in range(rank * chunk, episodes + rank * chunk, processes * chunk):
    # The last chunks run past the end, so that there is one shape, and one compilation.
    # Numbers of NumPy, since jnp.arange takes longer than the call.
    keys, planned = plan(root, np.arange(start, start + chunk, dtype=np.int32))
    if start == rank * chunk and chunk > 1:
      check_keys_matter(source.plan, keys, planned)
    if on_host(source):
      planned = read_rows(planned, source.data)
    judged.append(run(keys, planned, params, data))
    if on_chunk is not None and len(judged) > 1:
      jax.block_until_ready(judged[-2])
      on_chunk((len(judged) - 1) * processes * chunk)
  fetched = jax.device_get(judged)
  chunks = {name: np.stack([each[name] for each in fetched]) for name in fetched[0]}
  values = jax.tree.map(lambda metric: _of_all(metric)[:episodes], chunks)
  if warn and (said := not_finite(values)):
    warnings.warn(said, stacklevel=2)
  return values


def not_finite(values: Mapping[str, Any]) -> str:
  """Returns a line that says how many losses [episodes, ...] are not finite; '' if none is.

  >>> said = not_finite({'loss': np.array([0.5, np.nan, np.inf])})
  >>> said.partition(';')[0]
  '2 of 3 episodes have a loss that is not finite'
  """
  wrong = ~np.isfinite(values.get('loss', np.zeros(0)))
  if not wrong.any():
    return ''
  episodes = int(wrong.reshape(len(wrong), -1).any(1).sum())
  return (
    f'{episodes} of {len(wrong)} episodes have a loss that is not finite; predictions that are not '
    'finite count as wrong; check the parameters and the examples for NaN, or train with a lower '
    'rate'
  )


def _of_all(chunks: np.ndarray) -> np.ndarray:
  """Returns the values [episodes, ...] of all processes, from the chunks of this one.

  Args:
    chunks: [chunks, episodes of a chunk, ...].
  """
  if jax.process_count() > 1:
    # The processes took the chunks in turn.
    chunks = np.stack(multihost_utils.process_allgather(chunks), axis=1)
    chunks = chunks.reshape(-1, *chunks.shape[2:])
  return chunks.reshape(-1, *chunks.shape[2:])


# Both are kept, so that validation compiles once. The dear one does not depend on the plan: sources
# that share their rows share it too.


@keep_programs_of
def _planner(plan):
  """Returns a compiled function that plans episodes by their numbers."""

  @jax.jit
  def plan_chunk(root, indices):
    planned = jax.vmap(lambda i: plan(task_key(root, 0, i)))(indices)
    return jax.vmap(lambda i: learner_key(root, i))(indices), planned

  return plan_chunk


@keep_programs_of
def _judger(learner, objective, judge, finish, parallel):
  """Returns a compiled function that judges planned episodes."""
  measure, finish = partial(judge, learner, objective), finish or (lambda episode: episode)

  def judge_chunk(keys, planned, params, data):
    whole = jax.vmap(lambda episode: finish(gather_rows(episode, data)))(planned)
    at_once = group_size(len(keys), whole, None)
    one = lambda pair: measure(params, *pair)
    return jax.lax.map(one, (keys, whole), batch_size=None if at_once == 1 else at_once)

  return _SPREAD[parallel](judge_chunk)


# Each of the following returns judge_chunk compiled, its episodes spread over the devices of this
# process.


def _pmap(judge_chunk):
  devices = jax.local_device_count()
  run = jax.pmap(judge_chunk, in_axes=(0, 0, None, None), devices=jax.local_devices())
  split = partial(jax.tree.map, lambda leaf: leaf.reshape(devices, -1, *leaf.shape[1:]))
  merge = partial(jax.tree.map, lambda leaf: leaf.reshape(-1, *leaf.shape[2:]))
  return lambda keys, planned, *rest: merge(run(split(keys), split(planned), *rest))


def _shard_map(judge_chunk):
  specs = PartitionSpec(AXIS), PartitionSpec(AXIS), PartitionSpec(), PartitionSpec()
  mesh = task_mesh(jax.local_devices())
  run = jax.shard_map(
    judge_chunk, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(AXIS), check_vma=False
  )
  return jax.jit(run)


def _everywhere(*trees):
  return jax.device_put(trees, NamedSharding(task_mesh(jax.local_devices()), PartitionSpec()))


_SPREAD: dict[str, Callable[..., Any]] = {'none': jax.jit, 'pmap': _pmap, 'shard_map': _shard_map}


def usual_chunk(source: Sampler) -> int:
  """Returns how many episodes to evaluate side by side: 1 to 64.

  On a CPU, episodes of images still run one at a time (metakit.train.group_size).

  >>> from metakit.episodes import sinusoid
  >>> [usual_chunk(sinusoid(shots, queries=shots)) for shots in (10, 100_000)]
  [64, 2]
  """
  episode = abstract_episode(as_source(source))
  numbers = sum(math.prod(part.x.shape) for part in (episode.support, episode.query))
  budget = 1 << (19 if target_platform() == 'cpu' else 24)
  return max(1, min(64, budget // numbers))
