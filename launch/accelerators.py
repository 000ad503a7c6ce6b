r"""Compiles some training steps for accelerators, without one, and stores what they cost.

  python -m launch.accelerators --output=experiments/results/computed/accelerators.json

Each is compiled for parts of a TPU v5e pod. The record has the memory of a device, its operations,
what it reads and writes, and what the devices exchange. `python -m experiments.tables` computes
from it what a step takes at least. A step that the file has already, by the same versions, is not
compiled again. It needs pip install 'metakit[tpu]', and no data.
"""

import importlib.metadata
import itertools
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from launch.preflight import (  # first, since it sets what JAX reads when it is imported
  MIB,
  described_devices,
  fitting,
  lowered_step,
  task_operations,
)

# isort: split
import jax
import jax.numpy as jnp
import optax
from absl import flags

from experiments.benchmarks.suites.sizes import table
from experiments.command_line.runtime import BAD_INPUT, one_line_errors, run
from experiments.output.machine import versions
from experiments.output.results import read_json
from experiments.runs.wrap_up import command_line
from metakit.files import write_text
from metakit.heads import simpleshot
from metakit.keys import roots
from metakit.learners.descent import Descent
from metakit.learners.in_context import in_context
from metakit.learners.maml import maml
from metakit.learners.pretrained import pretrained
from metakit.learners.prototypical import prototypical
from metakit.networks.conv4 import conv4
from metakit.networks.resnet12 import resnet12
from metakit.networks.transformer import transformer
from metakit.platforms import compiling_for
from metakit.sources import EpisodeSource, abstract_episode
from metakit.traffic import traffic
from metakit.train import init_state_for
from metakit.types import Episode, Examples, Key, MetaLearner

FLAGS = flags.FLAGS
MESHES = {1: 'v5e:2x2', 16: 'v5e:4x4', 8: 'v5e:2x4', 256: 'v5e:16x16'}  # the first so many chips


class Step(NamedTuple):
  """A training step.

  Attributes:
    learner: makes the learner.
    source: makes the training episodes.
    tasks: of each device.
    dtype: type of the products.
  """

  learner: Callable[[], MetaLearner]
  source: Callable[[], EpisodeSource]
  tasks: int
  dtype: str = 'float32'


def sequences() -> EpisodeSource:
  """Returns drawn sequences of 100 examples, as large as images of 28x28 and of 10 classes."""

  def plan(key: Key) -> Episode:
    x = jax.random.normal(key, (100, 784))
    y = jax.random.randint(key, (100,), 0, 10, jnp.int32)
    return Episode(Examples(x[:-1], y[:-1]), Examples(x[-1:], y[-1:]), {})

  return EpisodeSource(plan)


characters = partial(table, 24_000, (28, 28, 1), queries=15)  # as many as Omniglot has for training
photos = partial(table, 38_400, (84, 84, 3), of_a_class=600)  # as mini-ImageNet
STEPS = {
  'MAML, Conv4, 28x28, 5-way 1-shot, 15 queries, one inner step': Step(
    lambda: maml(conv4(5), Descent(optax.sgd(0.4), 1)), characters, 32
  ),
  'prototypical networks, ResNet-12, 84x84, 5-way 1-shot, 15 queries': Step(
    lambda: prototypical(resnet12(), 5), partial(photos, queries=15), 4
  ),
  'GPICL, transformer 512 wide and 6 deep, 100 examples, bfloat16': Step(
    lambda: in_context(transformer(10, 512, 6, heads=8, scan=True, dtype='bfloat16'), 10),
    sequences,
    16,
    'bfloat16',
  ),
  'pretrained ResNet-12, 84x84, 128 images of 64 classes': Step(
    lambda: pretrained(resnet12(drop=0.1), simpleshot(64), 64),
    partial(photos, ways=64, queries=1),
    1,
  ),
}


def costs(name: str, devices: int) -> dict[str, Any]:
  """Compiles a step for so many devices, and returns what it costs one of them."""
  step, optimizer = STEPS[name], optax.adam(1e-3)
  learner, source, topology = step.learner(), step.source(), MESHES[devices]
  state = jax.eval_shape(
    lambda key, episode: init_state_for(learner, optimizer, key, episode),
    roots(0).init,
    abstract_episode(source),
  )
  chips = described_devices(topology)[:devices]
  with compiling_for('tpu'):
    lowered = lowered_step(
      learner, optimizer, source, state=state, devices=chips, tasks_per_step=step.tasks * devices
    )
    flops = step.tasks * task_operations(learner, optimizer, source, state=state)
  compiled = fitting(lowered)
  memory, text = compiled.memory_analysis(), compiled.as_text()
  moved = traffic(text)
  return {
    'step': name,
    'dtype': step.dtype,
    'topology': topology,
    'devices': devices,
    'tasks': step.tasks * devices,
    'argument_mib': round(memory.argument_size_in_bytes / MIB, 1),
    'temporary_mib': round(memory.temp_size_in_bytes / MIB, 1),
    'gflop': round(flops / 1e9, 3),
    'moved_gb': round(moved.moved / 1e9, 3),
    'moved_without_padding_gb': round(traffic(text, padded=False).moved / 1e9, 3),
    'collectives': {kind: list(sent) for kind, sent in moved.collectives.items()},
    'loops': moved.loops,
  }


def main() -> None:
  with one_line_errors(*BAD_INPUT):
    known = versions() | {'libtpu': importlib.metadata.version('libtpu')}
    rows = kept(Path(FLAGS.output), known)
    for devices, name in itertools.product(map(int, FLAGS.devices), STEPS):
      if any((row['step'], row['devices']) == (name, devices) for row in rows):
        continue
      rows.append(costs(name, devices))
      print(json.dumps(rows[-1]), flush=True)
      record = {'command': command_line(), 'versions': known, 'rows': rows}
      write_text(Path(FLAGS.output), json.dumps(record, indent=2) + '\n')


def kept(path: Path, known: Mapping[str, str | None]) -> list[dict[str, Any]]:
  """Returns the rows that a file of the same versions has already, of steps that are still here."""
  record = read_json(path) if path.exists() else {}
  rows = record.get('rows', []) if record.get('versions') == known else []
  return [row for row in rows if row['step'] in STEPS]


if __name__ == '__main__':
  flags.DEFINE_string('output', None, 'JSON file to write', required=True)
  known = list(map(str, MESHES))
  flags.DEFINE_multi_enum('devices', known, known, 'how many chips; repeat it for several')
  run(main, __doc__)
