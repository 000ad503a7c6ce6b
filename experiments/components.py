"""The components that specs name: tasks, learners, networks, optimizers, schedules.

To add one, write a function whose parameters with defaults are the spec's arguments, and put it
into its table below; `--help` and the error messages follow.
"""

import contextlib
import functools
import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import optax

from experiments.specs import Factories, build, parse
from metakit import objectives
from metakit.data.arrays import arrays as load_arrays
from metakit.data.files import check_choice
from metakit.data.folder import folder as load_folder
from metakit.data.glyphs import glyphs as make_glyphs
from metakit.data.host import open_table, place
from metakit.data.mnist import mnist as load_mnist
from metakit.data.omniglot import PROTOCOLS
from metakit.data.omniglot import omniglot as load_omniglot
from metakit.data.splits import split_classes
from metakit.data.table import ClassTable
from metakit.data.tfds import tfds_table
from metakit.episodes.few_shot import few_shot_plan
from metakit.episodes.sinusoid import sinusoid as sinusoid_sampler
from metakit.episodes.variable_shot import variable_shot_plan
from metakit.episodes.within_group import within_group_plan
from metakit.learners.in_context import in_context as make_in_context
from metakit.learners.maml import maml as make_maml
from metakit.learners.prototypical import prototypical
from metakit.models import Model
from metakit.networks.conv4 import conv4
from metakit.networks.mlp import mlp
from metakit.networks.resnet12 import resnet12
from metakit.networks.transformer import transformer
from metakit.types import EpisodeSource, MetaLearner, Objective, Sampler

FEWEST_WAYS = 5  # of variable_shot, as in Meta-Dataset


class Task(NamedTuple):
  """A task distribution as the binaries use it.

  Attributes:
    source: (split, shots=None) -> EpisodeSource for 'train', 'validation' or 'test', with another
      number of support examples a class if `shots` is given.
    objective: what predictions are judged by.
    num_outputs: ways, or size of the regression targets.
    metric: the headline metric, a key of the objective's metrics.
    fixed_shots: whether every episode has the same number of support examples a class.
  """

  source: Callable[..., EpisodeSource]
  objective: Objective
  num_outputs: int
  metric: str
  fixed_shots: bool


def classification(
  table: Callable[[str], ClassTable],
  sampler: str,
  ways: int,
  shots: int,
  queries: int,
  budget: float,
) -> Task:
  """Classification episodes of a class table for each split."""

  @functools.cache  # the rows are placed once
  def usual(split: str) -> tuple[ClassTable, EpisodeSource]:
    rows = table(split)
    plan = _plan(rows, sampler, ways, shots, queries)
    return rows, place(EpisodeSource(plan, rows.x), budget)

  def source(split: str, other_shots: int | None = None) -> EpisodeSource:
    rows, placed = usual(split)
    if other_shots is None:
      return placed
    return placed._replace(plan=_plan(rows, sampler, ways, other_shots, queries))

  fixed = sampler != 'variable_shot'
  return Task(source, objectives.cross_entropy, ways, 'accuracy', fixed)


def sources_by_shots(task: Task, shots: Iterable[int]) -> dict[int, EpisodeSource]:
  """Returns the test source for each number of shots that the classes are large enough for."""
  sources = {}
  for number in shots if task.fixed_shots else ():
    with contextlib.suppress(ValueError):
      sources[number] = task.source('test', number)
  return sources


def _plan(table: ClassTable, sampler: str, ways: int, shots: int, queries: int) -> Sampler:
  if sampler == 'few_shot':
    return few_shot_plan(table, ways, shots, queries)
  if sampler == 'within_group':
    return within_group_plan(table, ways, shots, queries)
  if sampler == 'variable_shot':  # at most `ways` and `queries`; the rule draws the shots
    fewest = min(ways, FEWEST_WAYS)
    return variable_shot_plan(table, ways, fewest, max_queries_per_class=queries)
  raise ValueError(f'sampler={sampler!r} is unknown; use few_shot, within_group or variable_shot')


def _classes(load: Callable[[], ClassTable]) -> Callable[[str], ClassTable]:
  """Splits a data set without an official class split 60:20:20, by a fixed permutation."""
  whole = functools.cache(load)
  return lambda split: split_classes(whole(), split)


def _given(task: str, path: str) -> str:
  if not path:
    raise ValueError(f'task {task} needs the place of its data: --task={task}:path=...')
  return path


# Tasks. `data_dir` and `budget` (bytes of device memory for a table) are supplied.


def glyphs_task(
  budget: float,
  ways: int = 5,
  shots: int = 1,
  queries: int = 15,
  sampler: str = 'few_shot',
  alphabets: int = 40,
  characters: int = 25,
  drawings: int = 20,
  rotations: bool = False,
) -> Task:
  """Procedural characters, made in memory."""
  table = lambda split: make_glyphs(
    split, alphabets=alphabets, characters=characters, drawings=drawings, rotations=rotations
  )
  return classification(table, sampler, ways, shots, queries, budget)


def omniglot_task(
  budget: float,
  data_dir: str,
  ways: int = 5,
  shots: int = 1,
  queries: int = 15,
  sampler: str = 'few_shot',
  split: str = 'vinyals',
  rotations: bool = True,
  size: int = 28,
) -> Task:
  """Omniglot from its official zip files."""
  check_choice('split', split, PROTOCOLS)
  table = lambda part: load_omniglot(data_dir, part, protocol=split, size=size, rotations=rotations)
  return classification(table, sampler, ways, shots, queries, budget)


def mnist_task(
  budget: float, data_dir: str, ways: int = 10, shots: int = 1, queries: int = 15
) -> Task:
  """The ten digits; test episodes from its test images, the others from its training images."""
  table = lambda split: load_mnist(data_dir, 'test' if split == 'test' else 'train')
  return classification(table, 'few_shot', ways, shots, queries, budget)


def tfds_task(
  name: str,
  budget: float,
  data_dir: str,
  ways: int = 5,
  shots: int = 1,
  queries: int = 15,
  sampler: str = 'few_shot',
  part: str = 'train',
  image_key: str = 'image',
  label_key: str = 'label',
  size: int | None = None,
) -> Task:
  """A TensorFlow Datasets classification data set, its classes split 60:20:20."""
  table = _classes(lambda: tfds_table(name, data_dir, part, image_key, label_key, size=size))
  return classification(table, sampler, ways, shots, queries, budget)


def arrays_task(
  budget: float,
  path: str = '',
  ways: int = 5,
  shots: int = 1,
  queries: int = 15,
  sampler: str = 'few_shot',
) -> Task:
  """An .npz file with x and y, its classes split 60:20:20."""
  table = _classes(lambda: load_arrays(_given('arrays', path)))
  return classification(table, sampler, ways, shots, queries, budget)


def folder_task(
  budget: float,
  path: str = '',
  ways: int = 5,
  shots: int = 1,
  queries: int = 15,
  sampler: str = 'few_shot',
  size: int | None = None,
) -> Task:
  """A folder of images a class, the classes split 60:20:20."""
  table = _classes(lambda: load_folder(_given('folder', path), size))
  return classification(table, sampler, ways, shots, queries, budget)


def table_task(
  budget: float,
  path: str = '',
  ways: int = 5,
  shots: int = 1,
  queries: int = 15,
  sampler: str = 'few_shot',
) -> Task:
  """Tables of metakit.data.save_table in the folders train, validation and test of `path`.

  They are memory-mapped: one that exceeds the budget is never in memory as a whole.
  """
  table = lambda split: open_table(Path(_given('table', path)) / split)
  return classification(table, sampler, ways, shots, queries, budget)


def sinusoid_task(
  shots: int = 10,
  queries: int = 10,
  amplitude: tuple[float, float] = (0.1, 5.0),
  phase: tuple[float, float] = (0.0, 3.141592653589793),
  noise: float = 0.0,
) -> Task:
  """Regression on sine waves; every episode is new, so the splits differ by their keys alone."""

  def source(split: str, other_shots: int | None = None) -> EpisodeSource:
    del split  # the keys differ
    number = other_shots or shots
    return EpisodeSource(
      sinusoid_sampler(number, queries, amplitude=amplitude, phase=phase, noise=noise)
    )

  return Task(source, objectives.squared_error, 1, 'loss', True)


TASKS: dict[str, Callable[..., Task]] = {
  'glyphs': glyphs_task,
  'omniglot': omniglot_task,
  'mnist': mnist_task,
  'tfds:<name>': functools.partial(tfds_task, '<name>'),
  'arrays': arrays_task,
  'folder': folder_task,
  'table': table_task,
  'sinusoid': sinusoid_task,
}
TASK_SUPPLIED = ('budget', 'data_dir', 'name')


def tasks_for(spec: str) -> dict[str, Callable[..., Task]]:
  """Returns TASKS, with the data set that a spec 'tfds:NAME[:VERSION]:...' names."""
  named = re.match(r'tfds:([^:=]+(:[0-9.]+(?=:|$))?)', spec)
  return {**TASKS, f'tfds:{named[1]}': _tfds(named[1])} if named else TASKS


@functools.cache  # equal specs make equal components
def _tfds(name: str) -> Callable[..., Task]:
  return functools.partial(tfds_task, name)


NETWORKS: Factories = {'conv4': conv4, 'mlp': mlp, 'resnet12': resnet12, 'transformer': transformer}
NETWORK_SUPPLIED = ('num_outputs',)


# Learners. `network` ((num_outputs) -> Model), `num_outputs` and `objective` are supplied.


def prototypical_learner(
  network: Callable[[int | None], Model],
  num_outputs: int,
  objective: Objective,
  distance: str = 'euclidean',
  protocol: str = 'inductive',
) -> MetaLearner:
  """Prototypical networks (Snell et al. 2017)."""
  if objective is not objectives.cross_entropy:
    raise ValueError('learner prototypical classifies, and this task is a regression; use maml')
  return prototypical(network(None), num_outputs, distance, protocol, objective)


INNER_EPS_ROOT = 1e-8


def maml_learner(
  network: Callable[[int | None], Model],
  num_outputs: int,
  objective: Objective,
  inner_optimizer: str = 'sgd',
  inner_learning_rate: float = 0.4,
  inner_steps: int = 1,
  test_steps: int | None = None,
  order: str = 'second',
) -> MetaLearner:
  """MAML (Finn et al. 2017); inner_optimizer is any optax optimizer with its other defaults."""
  spec = f'{inner_optimizer}:learning_rate={inner_learning_rate}'
  inner = parse('inner optimizer', OPTIMIZERS, spec)
  if 'eps_root' in inner.arguments:  # see metakit.learners.maml
    inner.arguments['eps_root'] = INNER_EPS_ROOT
  steps = inner_steps, test_steps
  return make_maml(network(num_outputs), build(inner), *steps, order, objective)


def in_context_learner(
  network: Callable[[int | None], Model], num_outputs: int, objective: Objective
) -> MetaLearner:
  """A transformer that reads the support set; takes the network `transformer` alone."""
  return make_in_context(network(num_outputs), num_outputs, objective)


LEARNERS: Factories = {
  'prototypical': prototypical_learner,
  'maml': maml_learner,
  'in_context': in_context_learner,
}
LEARNER_SUPPLIED = ('network', 'num_outputs', 'objective')
DEFAULT_NETWORK = {'prototypical': 'conv4', 'maml': 'conv4', 'in_context': 'transformer'}
DEFAULT_TASK = 'glyphs'
# Prototypical networks are trained with more ways than they are tested with (Snell et al. 2017,
# section 3.1); other learners have an output for each way.
DEFAULT_TRAINING_TASK = {'prototypical': 'glyphs:ways=20,shots=1,queries=3'}


# Optimizers, and schedules of their learning rate, to which `learning_rate` and `steps` are
# supplied.


def _optimizers() -> dict[str, Callable[..., optax.GradientTransformation]]:
  """Every optax optimizer that takes a learning rate, which is 1e-3 unless the spec says more."""
  takes_rate = lambda f: 'learning_rate' in inspect.signature(f).parameters
  usable = lambda name: not name.startswith(('_', 'scale_')) and name != 'lbfgs'  # needs values
  made = {n: f for n, f in vars(optax).items() if usable(n) and inspect.isfunction(f)}
  return {n: _with_default_rate(f) for n, f in made.items() if takes_rate(f)}


def _with_default_rate(make: Callable[..., Any]) -> Callable[..., Any]:
  """Gives the learning rate a default and leaves the arguments that a spec can write."""
  writable = lambda default: default is None or isinstance(default, bool | int | float)
  parameters = [inspect.Parameter('learning_rate', inspect.Parameter.KEYWORD_ONLY, default=1e-3)]
  for parameter in inspect.signature(make).parameters.values():
    if parameter.name != 'learning_rate' and writable(parameter.default):
      kind = float | None if parameter.default is None else type(parameter.default)
      keyword = inspect.Parameter.KEYWORD_ONLY
      parameters.append(parameter.replace(kind=keyword, annotation=kind))

  def optimizer(**arguments: Any) -> Any:
    return make(**arguments)

  optimizer.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
  return optimizer


OPTIMIZERS = _optimizers()


def constant(learning_rate: float) -> float:
  """The same rate at every step, as a number: not every optimizer takes a schedule."""
  return learning_rate


def cosine(learning_rate: float, steps: int, warmup: int = 0, final: float = 0.0) -> optax.Schedule:
  """Linear warm-up, then half a cosine down to `final` times the rate at the last step."""
  if not 0 <= warmup < steps:
    raise ValueError(f'warmup={warmup} is not between 0 and the {steps} steps')
  return optax.warmup_cosine_decay_schedule(
    0.0 if warmup else learning_rate, learning_rate, warmup, steps, final * learning_rate
  )


def halve(learning_rate: float, every: int = 2000) -> optax.Schedule:
  """Half the rate after every `every` steps (Snell et al. 2017)."""
  if every < 1:
    raise ValueError(f'every={every} is not positive; use every>=1')
  return optax.exponential_decay(learning_rate, every, 0.5, staircase=True)


SCHEDULES: Factories = {'constant': constant, 'cosine': cosine, 'halve': halve}
SCHEDULE_SUPPLIED = ('learning_rate', 'steps')
