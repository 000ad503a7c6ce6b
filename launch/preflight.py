r"""Compiles the training step of a run for a TPU pod, without a TPU.

  python -m launch.preflight --flagfile=experiments/presets/omniglot_maml.flags \
      --topology=v5e:4x4 --tasks_per_step=64

It prints the memory of a chip, the operations, and what the chips exchange. It fails if the step
does not fit into a chip. It also fails if tasks are gathered from all chips, since memory would
then grow with the pod. It needs pip install 'metakit[tpu]', and the data of the task for its sizes.
"""

import importlib.metadata
import json
import os
import sys
from pathlib import Path
from typing import Any

from absl import flags

# JAX reads these when it is imported. The process has no TPU, though it compiles for one.
ALONE = {
  'JAX_PLATFORMS': 'cpu',
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-16',
}
os.environ |= ALONE

import jax  # noqa: E402
import optax  # noqa: E402
from jax.experimental import topologies  # noqa: E402
from jax.sharding import NamedSharding, PartitionSpec  # noqa: E402

from experiments.command_line.flags import define_common, define_training  # noqa: E402
from experiments.command_line.runtime import BAD_INPUT, one_line_errors, run  # noqa: E402
from experiments.output.machine import versions as known_versions  # noqa: E402
from experiments.runs.setup import (  # noqa: E402
  DEFINING,
  abstract_state,
  make_optimizer,
  make_setup,
)
from experiments.runs.teacher import with_teacher  # noqa: E402
from experiments.runs.wrap_up import command_line  # noqa: E402
from metakit.costs import collectives, product_flops  # noqa: E402
from metakit.devices import task_mesh  # noqa: E402
from metakit.dispatch import make_dispatch  # noqa: E402
from metakit.files import write_text  # noqa: E402
from metakit.keys import roots  # noqa: E402
from metakit.platforms import compiling_for  # noqa: E402
from metakit.sources import EpisodeSource, abstract_episode  # noqa: E402
from metakit.train import TrainState, make_train_step  # noqa: E402
from metakit.types import MetaLearner  # noqa: E402

FLAGS = flags.FLAGS
MIB = 1 << 20
MEMORY = {'v4': 32, 'v5e': 16, 'v5p': 95, 'v6e': 32}  # GiB of a chip


def main() -> None:
  with one_line_errors(*BAD_INPUT):
    devices = described_devices(FLAGS.topology)
    costs = measure(devices, FLAGS.topology.partition(':')[0])
    print('\n'.join(f'{name}: {value}' for name, value in costs.items()))
    if FLAGS.json:
      known = known_versions() | {'libtpu': importlib.metadata.version('libtpu')}
      record = costs | {'command': command_line(), 'versions': known}
      write_text(Path(FLAGS.json), json.dumps(record, indent=2) + '\n')
    refuse(costs)


def described_devices(topology: str) -> list[Any]:
  """Returns the devices of a topology such as v5e:4x4.

  Raises:
    ImportError: without libtpu.
    ValueError: if there is no such topology.
  """
  try:
    import libtpu
  except ImportError:
    raise ImportError("libtpu is missing; pip install 'metakit[tpu]'") from None
  os.environ.setdefault('TPU_LIBRARY_PATH', str(Path(libtpu.__file__).parent / 'libtpu.so'))
  try:
    return list(topologies.get_topology_desc(platform='tpu', topology_name=topology).devices)
  except Exception as error:
    reason = ' '.join(str(error).split())[:200]
    raise ValueError(f'--topology={topology} is none ({reason}); use v5e:4x4, say') from error


def measure(devices: list[Any], family: str) -> dict[str, Any]:
  """Compiles a training step for the devices; returns its memory, operations and collectives.

  Raises:
    ValueError: if it does not fit into memory, or the flags make no sense.
  """
  defining = {name: FLAGS[name].value for name in DEFINING}
  setup = make_setup(defining, FLAGS.data_dir, FLAGS.table_budget_gib, parallel='shard_map')
  setup = with_teacher(setup, FLAGS.teacher)
  optimizer, learner = make_optimizer(defining), setup.learner(setup.task)
  source, at_once = setup.task.source('train'), FLAGS.tasks_at_once or None
  state = abstract_state(setup, learner, optimizer)
  with compiling_for('tpu'):
    lowered = lowered_step(
      learner,
      optimizer,
      source,
      state=state,
      devices=devices,
      tasks_per_step=FLAGS.tasks_per_step,
      tasks_at_once=at_once,
      steps=FLAGS.steps_per_dispatch,
    )
    operations = task_operations(learner, optimizer, source, state=state)
  compiled = fitting(lowered)
  memory = compiled.memory_analysis()
  return {
    'topology': FLAGS.topology,
    'chips': len(devices),
    'tasks per chip and step': FLAGS.tasks_per_step // len(devices),
    'GiB of a chip': MEMORY.get(family),
    'MiB of arguments': round(memory.argument_size_in_bytes / MIB, 1),
    'MiB of temporaries': round(memory.temp_size_in_bytes / MIB, 1),
    'MiB of results': round((memory.output_size_in_bytes - memory.alias_size_in_bytes) / MIB, 1),
    'GFLOP asked for, a chip and step': round(
      operations * FLAGS.tasks_per_step / len(devices) / 1e9, 3
    ),
    'collectives': dict(collectives(compiled.as_text())),
  }


def lowered_step(
  learner: MetaLearner,
  optimizer: optax.GradientTransformation,
  source: EpisodeSource,
  *,
  state: TrainState,
  devices: list[Any],
  tasks_per_step: int,
  tasks_at_once: int | None = None,
  steps: int = 1,
) -> Any:
  """Returns the program of some training steps on devices that need not be here; it is lowered.

  Args:
    learner: the learner.
    optimizer: the outer one.
    source: the training episodes. The shape of their table is enough.
    state: shapes of the training state.
    devices: they share the tasks.
    tasks_per_step: tasks of all devices.
    tasks_at_once: see metakit.dispatch.make_dispatch.
    steps: steps of one call.
  """
  everywhere = NamedSharding(task_mesh(devices), PartitionSpec())
  place = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere)
  state, data = jax.tree.map(place, (state, source.data))
  dispatch = make_dispatch(
    learner,
    optimizer,
    source,
    roots(0),
    tasks_per_step=tasks_per_step,
    parallel='shard_map',
    devices=devices,
    tasks_at_once=tasks_at_once,
  )
  return dispatch.sampled.lower(steps, state, data)  # type: ignore[attr-defined]


def task_operations(learner: Any, optimizer: Any, source: Any, *, state: Any) -> int:
  """Returns the operations of one task in a training step."""
  step = make_train_step(learner, optimizer)
  one = lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype)
  keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
  return product_flops(step, state, keys, jax.tree.map(one, abstract_episode(source)))


def fitting(lowered: Any) -> Any:
  """Compiles a program.

  Raises:
    ValueError: if the program does not fit into a chip's memory.
  """
  try:
    return lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    reason = ' '.join(str(error).split())[:200]
    raise ValueError(
      f'the step does not fit into a chip: {reason}; lower --tasks_per_step, or --tasks_at_once'
    ) from error


def refuse(costs: dict[str, Any]) -> None:
  """Ends this process with status 1 if the step gathers tasks from all chips."""
  if costs['collectives'].get('all-gather'):
    print(
      'error: the step gathers from all chips; its memory would grow with the pod. Map tasks by '
      'shard_map, without check_vma',
      file=sys.stderr,
    )
    sys.exit(1)


if __name__ == '__main__':
  define_common()
  define_training()
  flags.DEFINE_string('topology', 'v5e:4x4', 'family:shape of the pod')
  flags.DEFINE_string('json', None, 'JSON file to write the costs to')
  run(main, __doc__)
