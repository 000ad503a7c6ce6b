"""What training steps cost as images, tables, ways, contexts and batches grow, computed.

Each program is compiled for CPUs and never run, so sizes may exceed this machine. XLA says how much
memory it needs on one device, and metakit.costs how many operations. A name is what grows, a colon,
and what is trained.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.suite import Suite
from experiments.benchmarks.timing import Case, computed_case
from metakit import heads
from metakit.costs import product_flops
from metakit.data.table import ClassTable
from metakit.devices import task_mesh
from metakit.dispatch import make_dispatch
from metakit.episodes.few_shot import few_shot
from metakit.keys import roots
from metakit.learners.descent import Descent
from metakit.learners.embedded import embedded
from metakit.learners.in_context import in_context
from metakit.learners.maml import maml
from metakit.learners.prototypical import prototypical
from metakit.models import SequenceModel
from metakit.networks.conv4 import conv4
from metakit.networks.mlp import mlp
from metakit.networks.recurrent import recurrent
from metakit.networks.resnet12 import resnet12
from metakit.networks.transformer import transformer
from metakit.sources import EpisodeSource, abstract_episode
from metakit.train import TrainState, init_state_for, make_train_step
from metakit.types import Episode, Examples, MetaLearner

SIDES = 28, 84, 224  # of colour images
ROWS = 10**5, 10**6, 10**7  # of 784 bytes
WAYS = 10, 100, 1000
EXAMPLES = 100, 1000, 10_000
TASKS, DEVICES = (64, 512, 4096), 8
QUERIES, ROWS_OF_A_CLASS, FEATURES = 5, 20, 64
OPTIMIZER = optax.adam(1e-3)


def descending() -> MetaLearner:
  """Returns second-order MAML as Finn et al. (2017) ran it on Omniglot, 5-way."""
  return maml(conv4(5), Descent(optax.sgd(0.4), 1))


IMAGE_LEARNERS: dict[str, Callable[[], MetaLearner]] = {
  'prototypical networks, Conv4': lambda: prototypical(conv4(), 5),
  'prototypical networks, ResNet-12': lambda: prototypical(resnet12(), 5),
  'MAML, Conv4': descending,
}
WAYS_LEARNERS: dict[str, tuple[tuple[int, ...], Callable[[int], MetaLearner]]] = {
  'prototypical networks, Conv4 on images of 28x28': (
    (28, 28, 1), lambda ways: prototypical(conv4(), ways)
  ),
  'class means of features': (
    (FEATURES,), lambda ways: embedded(mlp(None), heads.prototypes(ways))
  ),
  'ridge regression on features': (
    (FEATURES,), lambda ways: embedded(mlp(None), heads.ridge(ways))
  ),
}  # fmt: skip
SEQUENCES: dict[str, Callable[[], SequenceModel]] = {
  'softmax attention': lambda: transformer(10),
  'softmax attention, scan and remat': lambda: transformer(10, scan=True, remat=True),
  'linear attention': lambda: transformer(10, attention='linear'),
  'gated linear attention': lambda: transformer(10, attention='gated_linear'),
  'delta rule': lambda: transformer(10, attention='delta'),
  'diagonal state space': lambda: transformer(10, attention='diagonal_ssm'),
  'LSTM': lambda: recurrent(10, 128, 4),
}


def cases() -> list[Case]:
  """Returns the costs of each program, none of which is run."""
  jax.config.update('jax_num_cpu_devices', DEVICES)
  return [*images(), *tables(), *ways(), *contexts(), *batches()]


def images() -> list[Case]:
  """Steps on one task of 30 images."""
  return [
    step_case(f'pixels of an image: {name}', side**2, make(), tasks=episodes(5, 1, (side, side, 3)))
    for name, make in IMAGE_LEARNERS.items()
    for side in SIDES
  ]


def tables() -> list[Case]:
  """Steps on 16 tasks, drawn from a table on the device, or read from a disk by the host."""
  learner = embedded(mlp(None), heads.prototypes(5))
  return [
    case
    for rows in ROWS
    for case in (
      drawn_case('rows of a table: on the device', rows, learner, source=table(rows)),
      read_case(
        'rows of a table: on the disk, read by the host', rows, learner, source=table(rows)
      ),
    )
  ]


def ways() -> list[Case]:
  """Steps on one task of many classes, each of 1 + 5 examples."""
  return [
    step_case(f'ways: {name}', number, make(number), tasks=episodes(number, 1, shape))
    for name, (shape, make) in WAYS_LEARNERS.items()
    for number in WAYS
  ]


def contexts() -> list[Case]:
  """Steps on one sequence of examples with 196 numbers and 10 classes; width 128, depth 4."""
  return [
    step_case(
      f'examples in context: {name}', number, in_context(make(), 10), tasks=sequence(number)
    )
    for name, make in SEQUENCES.items()
    for number in EXAMPLES
  ]


def batches() -> list[Case]:
  """Steps of MAML on many tasks of 28x28, which 8 devices share."""
  source, name = table(2000, (28, 28, 1)), 'tasks a step on 8 devices: MAML, Conv4'
  grouped = {'all of a device at once': None, 'one after the other': 1}
  case = partial(drawn_case, learner=descending(), source=source, devices=DEVICES)
  return [
    case(f'{name}, {how}', tasks, tasks=tasks, at_once=at_once or tasks // DEVICES)
    for how, at_once in grouped.items()
    for tasks in TASKS
  ]


def episodes(ways: int, shots: int, shape: tuple[int, ...], *, tasks: int = 1) -> Episode:
  """Returns the shapes and types of tasks."""

  def part(number: int) -> Examples:
    kind = jnp.uint8 if len(shape) > 1 else jnp.float32
    x = jax.ShapeDtypeStruct((tasks, ways * number, *shape), kind)
    return Examples(x, jax.ShapeDtypeStruct((tasks, ways * number), jnp.int32))

  classes = jax.ShapeDtypeStruct((tasks, ways), jnp.int32)
  return Episode(part(shots), part(QUERIES), {'classes': classes})


def sequence(examples: int) -> Episode:
  """Returns the shapes of one sequence whose last example is the query."""
  shape = lambda *axes, kind=jnp.float32: jax.ShapeDtypeStruct((1, *axes), kind)
  part = lambda number: Examples(shape(number, 196), shape(number, kind=jnp.int32))
  return Episode(part(examples - 1), part(1), {})


def table(
  rows: int,
  shape: tuple[int, ...] = (784,),
  *,
  ways: int = 5,
  queries: int = QUERIES,
  of_a_class: int = ROWS_OF_A_CLASS,
) -> EpisodeSource:
  """Returns 1-shot tasks of a table of bytes that takes no memory; nobody reads it."""
  x = np.broadcast_to(np.zeros((), np.uint8), (rows, *shape))
  starts = np.arange(0, rows, of_a_class)
  counts, groups = np.full(len(starts), of_a_class), np.zeros(len(starts), np.int64)
  names = tuple(map(str, range(len(starts))))
  return few_shot(ClassTable(x, starts, counts, names, groups, ('0',)), ways, queries=queries)


def state_of(learner: MetaLearner, episode: Episode) -> TrainState:
  """Returns the shapes of the training state, for an episode of shapes."""
  make = lambda key, episode: init_state_for(learner, OPTIMIZER, key, episode)
  return jax.eval_shape(make, roots(0).init, episode)


def step_case(name: str, size: int, learner: MetaLearner, *, tasks: Episode) -> Case:
  """Returns the costs of a training step on tasks that are its arguments."""
  first = lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)
  state = state_of(learner, jax.tree.map(first, tasks))
  keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), len(tasks.support.y)))
  step, arguments = make_train_step(learner, OPTIMIZER), (state, keys, tasks)
  lowered = jax.jit(step, donate_argnums=0).lower(*arguments)
  return computed_case(name, size, lowered, flops=product_flops(step, *arguments))


def drawn_case(
  name: str,
  size: int,
  learner: MetaLearner,
  *,
  source: EpisodeSource,
  tasks: int = 16,
  devices: int = 1,
  at_once: int | None = None,
) -> Case:
  """Returns the costs of a training step, on one device, that draws its tasks itself."""
  some = jax.devices()[:devices]
  dispatch = make_dispatch(
    learner,
    OPTIMIZER,
    source,
    roots(0),
    tasks_per_step=tasks,
    parallel='none' if devices == 1 else 'shard_map',
    devices=some,
    tasks_at_once=at_once,
  )
  run = partial(dispatch.sampled, 1)
  data = jax.ShapeDtypeStruct(source.data.shape, source.data.dtype)
  arguments = state_of(learner, abstract_episode(source)), data
  if devices > 1:
    everywhere = jax.sharding.NamedSharding(task_mesh(some), jax.sharding.PartitionSpec())
    place = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere)
    arguments = jax.tree.map(place, arguments)
  lowered = dispatch.sampled.lower(1, *arguments)  # type: ignore[attr-defined]
  return computed_case(name, size, lowered, flops=product_flops(run, *arguments) / devices)


def read_case(name: str, size: int, learner: MetaLearner, *, source: EpisodeSource) -> Case:
  """Returns the costs of a training step on 16 tasks whose rows come from the host."""
  dispatch = make_dispatch(learner, OPTIMIZER, source, roots(0), tasks_per_step=16)
  whole = abstract_episode(source)
  batch = lambda leaf: jax.ShapeDtypeStruct((1, 16, *leaf.shape), leaf.dtype)
  arguments = state_of(learner, whole), jax.tree.map(batch, whole)
  lowered = dispatch.fed.lower(*arguments)  # type: ignore[attr-defined]
  return computed_case(name, size, lowered, flops=product_flops(dispatch.fed, *arguments))


def draw(rows: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
  """Draws the memory of a device against the size, a panel for each thing that grows."""
  import matplotlib

  matplotlib.use('svg')
  from matplotlib import pyplot

  grows = list(dict.fromkeys(row['name'].partition(': ')[0] for row in rows))
  with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': title}):
    figure, panels = pyplot.subplots(
      1, len(grows), figsize=(4 * len(grows), 4), layout='constrained', squeeze=False
    )
    for axes, what in zip(panels[0], grows, strict=True):
      mine = [row for row in rows if row['name'].startswith(f'{what}: ')]
      for name in dict.fromkeys(row['name'] for row in mine):
        of_name = [row for row in mine if row['name'] == name]
        memory = [row['argument_mib'] + row['temporary_mib'] for row in of_name]
        axes.plot([row['size'] for row in of_name], memory, 'o-', label=name.partition(': ')[2])
      axes.set(xscale='log', yscale='log', xlabel=what, ylabel='MiB on one device')
      axes.legend(fontsize=6)
    figure.savefig(path, metadata={'Date': None})
    pyplot.close(figure)


SUITES = {'growth': Suite(cases, draw=draw)}
