"""Tasks of classes of images: few-shot classification from a table for each split.

`data_dir` and `budget` (bytes of device memory for a table) are supplied by the binaries.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.task import Task
from metakit import objectives
from metakit.data.arrays import arrays as load_arrays
from metakit.data.clinc150 import clinc150 as load_clinc150
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
from metakit.episodes.combinators import augment_source
from metakit.episodes.few_shot import few_shot_plan
from metakit.episodes.image_transforms import Transform, mirror_image, shift_image, warp_image
from metakit.episodes.imbalanced import imbalanced_plan
from metakit.episodes.semi_supervised import semi_supervised_plan
from metakit.episodes.variable_shot import variable_shot_plan
from metakit.episodes.within_group import within_group_plan
from metakit.types import EpisodeSource, Sampler

FEWEST_WAYS = 5  # of variable_shot, as in Meta-Dataset


def classification(
  table: Callable[[str], ClassTable],
  sampler: str,
  ways: int,
  shots: int,
  queries: int,
  budget: float,
  augmentations: Sequence[tuple[Transform, str]] = (),
) -> Task:
  """Classification episodes of a class table for each split.

  Args:
    table: split -> ClassTable.
    sampler: few_shot, within_group (classes of one group), imbalanced, semi_supervised,
      distractors or variable_shot (the rule of Meta-Dataset).
    ways: classes of an episode.
    shots: support examples of each class.
    queries: query examples of each class.
    budget: bytes of device memory for a table.
    augmentations: what becomes of training images, of each 'example' or each 'class', in turn.
  """

  @functools.cache  # the rows are placed once
  def usual(split: str) -> tuple[ClassTable, EpisodeSource]:
    rows = table(split)
    plan = _plan(rows, sampler, ways, shots, queries)
    return rows, place(EpisodeSource(plan, rows.x), budget)

  def source(split: str, other_shots: int | None = None) -> EpisodeSource:
    rows, made = usual(split)
    if other_shots is not None:
      made = made._replace(plan=_plan(rows, sampler, ways, other_shots, queries))
    for transform, each in augmentations if split == 'train' else ():
      made = augment_source(made, transform, each)
    return made

  fixed = sampler != 'variable_shot'
  given = source, objectives.cross_entropy, ways, 'accuracy', fixed, False
  return Task(*given, table=lambda split: usual(split)[0])


def variable_shot(table: ClassTable, ways: int, shots: int, queries: int) -> Sampler:
  """Plans episodes of at most `ways` and `queries`; the rule of Meta-Dataset draws the shots."""
  del shots
  return variable_shot_plan(table, ways, min(ways, FEWEST_WAYS), max_queries_per_class=queries)


def distractors(table: ClassTable, ways: int, shots: int, queries: int) -> Sampler:
  """Plans episodes with as many classes of distractors as there are ways."""
  return semi_supervised_plan(table, ways, shots, queries, distractors=ways)


# (table, ways, shots, queries) -> Sampler, by the name that a spec gives
SAMPLERS: dict[str, Callable[[ClassTable, int, int, int], Sampler]] = {
  'few_shot': few_shot_plan,
  'within_group': within_group_plan,
  'imbalanced': imbalanced_plan,
  'semi_supervised': semi_supervised_plan,
  'distractors': distractors,
  'variable_shot': variable_shot,
}


def _plan(table: ClassTable, sampler: str, ways: int, shots: int, queries: int) -> Sampler:
  check_choice('sampler', sampler, tuple(SAMPLERS))
  return SAMPLERS[sampler](table, ways, shots, queries)


def _classes(load: Callable[[], ClassTable]) -> Callable[[str], ClassTable]:
  """Splits a data set without an official class split 60:20:20, by a fixed permutation."""
  whole = functools.cache(load)
  return lambda split: split_classes(whole(), split)


def _given(task: str, path: str) -> str:
  """Returns where the data of a task lies.

  Args:
    task: its name.
    path: where the data lies: a file, or a folder.

  Raises:
    ValueError: if it is not said.
  """
  if not path:
    raise ValueError(f'task {task} needs the place of its data: --task={task}:path=...')
  return path


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
  shift: int = 0,
  degrees: float = 0.0,
  stretch: float = 0.0,
  mirror: bool = False,
  trainval: bool = False,
) -> Task:
  """Omniglot from its official zip files.

  With `trainval`, training episodes are of the training and validation classes, as published for
  results on test classes; validation then says nothing of unseen classes, so choose without it.
  Training images are shifted by up to `shift` pixels, turned by up to `degrees` and stretched by up
  to the share `stretch` in each direction. With `mirror`, half of the classes of a training
  episode are mirror images, as new characters.

  Args:
    split: protocol of the split, 'vinyals' (usual in few-shot learning) or 'original'.
    trainval: whether validation classes are trained on too.
  """
  check_choice('split', split, PROTOCOLS)
  name = lambda part: 'trainval' if trainval and part == 'train' else part
  table = lambda part: kept_omniglot(data_dir, name(part), split, size, rotations)
  augmentations = augmentations_of(shift, degrees, stretch, mirror)
  return classification(table, sampler, ways, shots, queries, budget, augmentations)


@functools.lru_cache(maxsize=4)
def kept_omniglot(
  data_dir: str, part: str, protocol: str, size: int, rotations: bool
) -> ClassTable:
  """Reads Omniglot once for tasks that differ only in their episodes."""
  return load_omniglot(data_dir, part, protocol=protocol, size=size, rotations=rotations)


def augmentations_of(
  shift: int, degrees: float, stretch: float, mirror: bool
) -> list[tuple[Transform, str]]:
  """Returns what becomes of training images; by whole pixels where they are only shifted.

  Args:
    shift: pixels that training images are shifted by, at most.
    degrees: that they are turned by, at most.
    stretch: share that they are stretched by in each direction, at most.
    mirror: whether half of the classes of a training episode are mirror images.
  """
  found: list[tuple[Transform, str]] = [(mirror_image, 'class')] if mirror else []
  if degrees or stretch:
    return [*found, (warp_image(shift, degrees, stretch), 'example')]
  return [*found, (shift_image(shift), 'example')] if shift else found


def mnist_task(
  budget: float, data_dir: str, ways: int = 10, shots: int = 1, queries: int = 15
) -> Task:
  """The ten digits; test episodes from its test images, the others from its training images."""
  table = lambda split: load_mnist(data_dir, 'test' if split == 'test' else 'train')
  return classification(table, 'few_shot', ways, shots, queries, budget)


def clinc150_task(
  budget: float,
  data_dir: str,
  ways: int = 5,
  shots: int = 1,
  queries: int = 15,
  sampler: str = 'few_shot',
  features: int = 2048,
  units: str = 'characters',
) -> Task:
  """Utterances of CLINC150 as hashed n-grams, intents to be told apart; domains are split."""
  table = lambda split: load_clinc150(data_dir, split, features, units)
  return classification(table, sampler, ways, shots, queries, budget)


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
  """A TensorFlow Datasets classification data set, its classes split 60:20:20.

  Args:
    part: split of the data set, in the grammar of tfds.
  """
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
  """An .npz file with x and y (images, or features that any network extracted), split 60:20:20.

  Or a folder of train.npz, validation.npz and test.npz.
  """
  given = Path(_given('arrays', path)).expanduser()
  parts = lambda split: load_arrays(given / f'{split}.npz')
  table = parts if given.is_dir() else _classes(lambda: load_arrays(given))
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
