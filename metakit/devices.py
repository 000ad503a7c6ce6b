"""Devices: how tasks are spread over them, and how arrays are placed on all of them."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from metakit.sources import EpisodeSource, on_host

PARALLEL = ('none', 'pmap', 'shard_map')
AXIS = 'tasks'


def task_mesh(devices: Sequence[jax.Device]) -> jax.sharding.Mesh:
  """Returns the mesh of some devices, in their order, whose one axis is that of tasks."""
  return jax.sharding.Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))


def places_here(devices: Sequence[jax.Device]) -> list[int]:
  """Returns which of the devices are this process's."""
  return [i for i, d in enumerate(devices) if d.process_index == jax.process_index()]


def spread_table(
  source: EpisodeSource, parallel: str, devices: Sequence[jax.Device] | None = None
) -> EpisodeSource:
  """Returns the source with its table on all devices, so that no dispatch has to copy it there."""
  if source.data is None or on_host(source):
    return source
  return source.replace(data=spread(source.data, parallel, devices))


def spread(tree: Any, parallel: str, devices: Sequence[jax.Device] | None = None) -> Any:
  """Puts arrays where dispatches leave their state. So the first dispatch needs no other program.

  Args:
    tree: arrays that every process has.
    parallel: see metakit.dispatch.make_dispatch.
    devices: as there, all of all processes by default.
  """
  if parallel == 'none':
    return tree
  devices = list(devices or jax.devices())
  local = [devices[place] for place in places_here(devices)]
  return everywhere(tree, devices if parallel == 'shard_map' else local)


def everywhere(tree: Any, devices: Sequence[jax.Device]) -> Any:
  """Puts arrays that every process has on all devices, those of other processes included."""
  sharding = NamedSharding(task_mesh(devices), PartitionSpec())
  put = lambda leaf: jax.make_array_from_callback(leaf.shape, sharding, lambda place: leaf[place])
  return jax.tree.map(put, jax.device_get(tree))


def check_parallel(tasks_per_step: int, parallel: str, num_devices: int) -> None:
  """Raises ValueError if the tasks of a step cannot be spread evenly."""
  if parallel not in PARALLEL:
    raise ValueError(f'parallel={parallel!r} is unknown; use one of {", ".join(PARALLEL)}')
  if tasks_per_step < 1:
    raise ValueError(f'tasks_per_step={tasks_per_step} is not positive; use tasks_per_step>=1')
  if parallel != 'none' and tasks_per_step % num_devices:
    raise ValueError(
      f'tasks_per_step={tasks_per_step} is not divisible by the {num_devices} devices; use a '
      f'multiple of {num_devices} or parallel=none'
    )
