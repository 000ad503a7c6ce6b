"""What a training step costs as devices, tasks, classes and examples grow; what a start costs."""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from experiments.benchmarks.suite import AT_MOST, Aim, Suite
from experiments.benchmarks.timing import Case, compiled_case
from metakit import heads
from metakit.data.table import class_table
from metakit.devices import spread_table
from metakit.dispatch import make_dispatch
from metakit.episodes.few_shot import few_shot
from metakit.episodes.sinusoid import sinusoid
from metakit.keys import roots
from metakit.learners.descent import Descent
from metakit.learners.embedded import embedded
from metakit.learners.maml import maml
from metakit.learners.prototypical import prototypical
from metakit.models import Model
from metakit.networks.conv4 import conv4
from metakit.networks.mlp import mlp
from metakit.networks.resnet12 import resnet12
from metakit.objectives import squared_error
from metakit.sources import EpisodeSource, place
from metakit.train import init_state, make_train_step
from metakit.types import MetaLearner

DEVICES, SHARED, STEPS = (1, 2, 4, 8), 16, 4
TASKS = 1, 4, 16, 64, 256, 1024
SIZES = (5, 1), (20, 1), (80, 1), (320, 1), (5, 5), (5, 20), (5, 80)  # ways, shots
# (network, size of its images, their channels); GFLOP/s say how fast they are for their size.
NETWORKS: dict[str, Callable[[], Model]] = {
  'Conv4': conv4,
  'strided Conv4': lambda: conv4(downsample='stride'),
  'Conv4 96-192-384-512': lambda: conv4(width='96-192-384-512'),
  'ResNet-12 of 16': lambda: resnet12(width=16),
}
IMAGES = (28, 1), (32, 3), (84, 3)  # pixels a side, channels
SECONDS_TO_START = 120.0
IMPORT_JAX, IMPORT_METAKIT, FIRST_STEP = (
  'import jax',
  'import metakit',
  'a binary, to its first step',
)


def scaling() -> list[Case]:
  """Returns training steps on more devices, of more tasks, larger tasks and larger images."""
  jax.config.update('jax_num_cpu_devices', DEVICES[-1])
  images = _source((28, 28, 1), 5, 1)
  of_images = prototypical(conv4(width=16), ways=5)
  sharing = [n for n in DEVICES if n <= len(jax.devices())]
  cases = [_step(f'{SHARED} tasks, devices: {n}', of_images, images, SHARED, n) for n in sharing]
  check_same(cases)
  waves = sinusoid()
  learner = maml(mlp(1), Descent(optax.sgd(0.01), 5), objective=squared_error)
  cases += [_step(f'MAML on sinusoids, tasks: {n:,}', learner, waves, n) for n in TASKS]
  for ways, shots in SIZES:
    name = f'features, {ways}-way {shots}-shot'
    cases.append(
      _step(name, embedded(mlp(None), heads.prototypes(ways)), _source((64,), ways, shots), 4)
    )
  cases += [_image_step(*each) for each in itertools.product(NETWORKS, IMAGES)]
  family = lambda case: case.name.partition(',')[0]
  first = {family(case): case.name for case in reversed(cases)}
  return [case._replace(baseline=first[family(case)]) for case in cases]


def _source(shape: tuple[int, ...], ways: int, shots: int) -> EpisodeSource:
  rng = np.random.default_rng(0)
  rows = shots + 5
  x = rng.normal(size=(ways * 2 * rows, *shape)).astype(np.float32)
  table = class_table(x, np.repeat(np.arange(2 * ways), rows))
  return place(few_shot(table, ways, shots, queries=5))


def _step(
  name: str, learner: MetaLearner, source: EpisodeSource, tasks: int, devices: int = 1
) -> Case:
  keys, optimizer = roots(0), optax.sgd(1e-3)
  parallel = 'shard_map' if devices > 1 else 'none'
  source = spread_table(source, parallel) if devices == len(jax.devices()) else source
  dispatch = make_dispatch(
    learner,
    optimizer,
    source,
    keys,
    tasks_per_step=tasks,
    parallel=parallel,
    devices=jax.devices()[:devices],
  )
  state = jax.device_get(init_state(learner, optimizer, keys.init, source))
  return Case(
    name, lambda: dispatch.sampled(STEPS, state, source.data), STEPS * tasks, unit='tasks'
  )


def _image_step(name: str, shape: tuple[int, int]) -> Case:
  """Returns a training step of prototypical networks on two tasks of 30 images."""
  (size, channels), keys, optimizer = shape, roots(0), optax.sgd(1e-3)
  learner, source = prototypical(NETWORKS[name](), 5), _source((size, size, channels), 5, 1)
  drawn, step = jax.random.split(keys.train, 2), make_train_step(learner, optimizer)
  state = init_state(learner, optimizer, keys.init, source)
  arguments = state, drawn, jax.vmap(source)(drawn)
  named = f'{name}, {size}x{size}x{channels}'
  return compiled_case(named, step, arguments, number=60, unit='images')


def check_same(cases: Sequence[Case]) -> None:
  """Raises an AssertionError unless training on more devices ends with the same parameters."""
  ends = [jax.device_get(case.call()[0].params) for case in cases if case.call is not None]
  for case, end in zip(cases, ends, strict=True):
    for a, b in zip(jax.tree.leaves(end), jax.tree.leaves(ends[0]), strict=True):
      np.testing.assert_allclose(a, b, rtol=0, atol=1e-5, err_msg=case.name)


def startup() -> list[Case]:
  """Returns the start of Python with an import, and a binary up to its first step.

  The programs of the binary were compiled before.
  """
  python = lambda text: lambda: subprocess.run([sys.executable, '-c', text], check=True)
  return [
    Case(IMPORT_JAX, python('import jax')),
    Case(IMPORT_METAKIT, python('import metakit'), baseline=IMPORT_JAX),
    Case(FIRST_STEP, _first_step, baseline=IMPORT_JAX),
  ]


def _first_step() -> None:
  with tempfile.TemporaryDirectory(prefix='metakit-benchmark-') as folder:
    train = [sys.executable, '-m', 'experiments.train', f'--workdir={folder}/run']
    with subprocess.Popen(
      train, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ
    ) as process:
      try:
        _wait_for(lambda: _has_lines(Path(folder) / 'run' / 'metrics.jsonl'), process)
      finally:
        process.kill()


def _has_lines(path: Path) -> bool:
  return path.exists() and path.stat().st_size > 0


def _wait_for(there: Callable[[], bool], process: Any) -> None:
  until = time.monotonic() + SECONDS_TO_START
  while not there():
    if process.poll() is not None or time.monotonic() > until:
      raise ValueError('experiments.train made no step; see what it says')
    time.sleep(0.01)


SUITES = {
  'scaling': Suite(scaling),
  'startup': Suite(startup, (Aim(FIRST_STEP, 'milliseconds', '', AT_MOST, 5000),)),
}
