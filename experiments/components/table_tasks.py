"""Tasks that classify examples from a table of classes, one table for each split.

`data_dir` and `budget` (bytes of device memory for a table) are supplied by the binaries.
"""

import contextlib
import functools
import inspect
import operator
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from experiments.components.class_parts import (
  ClassParts,
  counted,
  given_path,
  official,
  parts_of,
  with_lists,
)
from metakit import episodes, objectives
from metakit.data.arrays import arrays as load_arrays
from metakit.data.clinc150 import clinc150 as load_clinc150
from metakit.data.files import check_choice, listed
from metakit.data.folder import read_folder
from metakit.data.glyphs import glyphs as make_glyphs
from metakit.data.mnist import mnist as load_mnist
from metakit.data.omniglot import PROTOCOLS
from metakit.data.omniglot import omniglot as load_omniglot
from metakit.data.parts import PartedTable, part_named
from metakit.data.saved import open_table
from metakit.data.splits import leave_out_small
from metakit.data.table import ClassTable
from metakit.data.tfds import tfds_table
from metakit.episodes.combinators import augment
from metakit.episodes.image_transforms import Transform, mirror_image, shift_image, warp_image
from metakit.sizes import check_positive
from metakit.sources import EpisodeSource, place
from metakit.tasks import Task

FEWEST_WAYS = 5  # of variable_shot, as in Meta-Dataset
DRAWN = 'groups', 'classes'  # what says where a class belongs if neither data nor files do
UNLABELLED = 5  # examples of each class, of distractors, and of semi_supervised by default


def classification(
  table: Callable[[str], ClassTable],
  sampler: str,
  ways: int,
  shots: int,
  queries: int,
  budget: float,
  augmentations: Sequence[tuple[Transform, str]] = (),
  parts: ClassParts | None = None,
  skip: bool | None = None,
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
    augmentations: transforms of training images, in their order. Each is applied to every 'example'
      or to every 'class'.
    parts: what is known about the parts of `table`. By default they are official and have no name.
    skip: whether to leave out classes that are too small for the episodes; None if the spec has no
      such argument.
  """
  check_choice('sampler', sampler, tuple(SAMPLERS))
  check_positive(ways=ways, queries=queries)
  if sampler != 'variable_shot':  # which has no use for shots
    check_positive(shots=shots)
  parts = parts or ClassParts('', table)
  left_out: dict[str, list[str]] = {}
  least = FEWEST_ROWS.get(sampler, operator.add)(shots, queries)

  @functools.cache  # the rows are placed once
  def usual(split: str) -> tuple[ClassTable, EpisodeSource]:
    rows = table(split)
    with _naming_part(parts, split, remedy(rows)):
      if skip:
        rows, left_out[split] = leave_out_small(rows, least)
      source = SAMPLERS[sampler](rows, ways, shots, queries=queries)
    return rows, place(source, budget)

  def remedy(rows: ClassTable) -> str:
    if ways > len(rows.counts) and parts.parted() in DRAWN:
      return ', or split=FILE, which gives this part more'
    too_small = (rows.counts < least).sum()
    return ' (skip=true)' if 0 < too_small < len(rows.counts) and skip is False else ''

  def said() -> str:
    small = [
      f'left out of {part}: {counted(len(names), "class")} of fewer than {least} examples '
      f'({listed(names)})'
      for part, names in left_out.items()
      if names
    ]
    line = '; '.join(filter(None, [parts.said(), *small]))
    return f'{parts.name}: {line}' if line else ''

  def source(split: str, other_shots: int | None = None) -> EpisodeSource:
    rows, episode_source = usual(split)
    if other_shots is not None:
      episode_source = episode_source.replace(
        plan=SAMPLERS[sampler](rows, ways, other_shots, queries=queries).plan
      )
    for transform, each in augmentations if split == 'train' else ():
      episode_source = augment(episode_source, transform, each)
    return episode_source

  fixed = sampler != 'variable_shot'
  fields = source, objectives.cross_entropy, ways, 'accuracy', fixed, False
  table_of = lambda split: usual(split)[0]
  return Task(*fields, table=table_of, parted=parts.parted, said=said)


@contextlib.contextmanager
def _naming_part(parts: ClassParts, part: str, remedy: str) -> Iterator[None]:
  """Errors of drawing episodes get the name of the part, and a further remedy."""
  try:
    yield
  except ValueError as error:
    of = f' of {parts.name}' if parts.name else ''
    raise ValueError(f'part {part}{of}: {error}{remedy}') from error


def variable_shot(table: ClassTable, ways: int, shots: int, *, queries: int) -> EpisodeSource:
  """Episodes of at most `ways` and `queries`; the rule of Meta-Dataset draws the shots."""
  del shots
  return episodes.variable_shot(table, ways, min(ways, FEWEST_WAYS), max_queries_per_class=queries)


def distractors(table: ClassTable, ways: int, shots: int, *, queries: int) -> EpisodeSource:
  """Episodes with as many classes of distractors as there are ways."""
  sizes = {'queries': queries, 'unlabelled': UNLABELLED, 'distractors': ways}
  return episodes.semi_supervised(table, ways, shots, **sizes)


def _takes_classes(factory: Callable[..., EpisodeSource]) -> bool:
  """Tells whether a sampler takes a table, ways, shots and queries, with defaults for the rest."""
  known = inspect.signature(factory).parameters
  return list(known)[:3] == ['table', 'ways', 'shots'] and 'queries' in known


# (table, ways, shots, queries=) -> EpisodeSource, by the name in a spec. They are the samplers of
# the library that take these arguments, and two made from samplers with other arguments.
SAMPLERS: dict[str, Callable[..., EpisodeSource]] = {
  **{
    name: getattr(episodes, name)
    for name in episodes.__all__
    if inspect.isfunction(getattr(episodes, name)) and _takes_classes(getattr(episodes, name))
  },
  'distractors': distractors,
  'variable_shot': variable_shot,
}
# (shots, queries) -> the fewest rows of a class, for samplers that need not just their sum
FEWEST_ROWS: dict[str, Callable[[int, int], int]] = {
  'imbalanced': lambda shots, queries: shots + queries + 1,
  'semi_supervised': lambda shots, queries: shots + UNLABELLED + queries,
  'distractors': lambda shots, queries: shots + UNLABELLED + queries,
  'variable_shot': lambda shots, queries: 2,
}


def _given(task: str, path: str) -> str:
  """Returns where the data of a task lies.

  Args:
    task: the name of the task.
    path: a file or a folder, or '' if the spec has none.

  Raises:
    ValueError: if the spec has none.
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
  parts = official('glyphs', table)
  return classification(parts.table, sampler, ways, shots, queries, budget, parts=parts)


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
  parts = official('omniglot', table)
  sizes = parts.table, sampler, ways, shots, queries, budget
  return classification(*sizes, augmentations, parts)


@functools.lru_cache(maxsize=4)
def kept_omniglot(
  data_dir: str, part: str, protocol: str, size: int, rotations: bool
) -> ClassTable:
  """Reads Omniglot once for tasks that differ only in their episodes."""
  return load_omniglot(data_dir, part, protocol=protocol, size=size, rotations=rotations)


def augmentations_of(
  shift: int, degrees: float, stretch: float, mirror: bool
) -> list[tuple[Transform, str]]:
  """Returns the transforms of training images. A shift alone is by whole pixels.

  Args:
    shift: the most pixels that training images are shifted by.
    degrees: the most degrees that they are turned by.
    stretch: the largest share that they are stretched by in each direction.
    mirror: whether half of the classes of a training episode are mirror images.
  """
  transforms: list[tuple[Transform, str]] = [(mirror_image, 'class')] if mirror else []
  if degrees or stretch:
    return [*transforms, (warp_image(shift, degrees, stretch), 'example')]
  return [*transforms, (shift_image(shift), 'example')] if shift else transforms


def mnist_task(
  budget: float, data_dir: str, ways: int = 10, shots: int = 1, queries: int = 15
) -> Task:
  """The ten digits; test episodes from its test images, the others from its training images."""
  table = lambda split: load_mnist(data_dir, 'test' if split == 'test' else 'train')
  parts = official('mnist', table)
  return classification(parts.table, 'few_shot', ways, shots, queries, budget, parts=parts)


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
  parts = official('clinc150', lambda split: load_clinc150(data_dir, split, features, units=units))
  return classification(parts.table, sampler, ways, shots, queries, budget, parts=parts)


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
  split: str = 'auto',
  skip: bool = False,
) -> Task:
  """A TensorFlow Datasets classification data set.

  Args:
    part: of the data set, in the grammar of tfds; its classes are those of the task.
    split: which class is for training, validation and test. 'auto' draws whole groups 60:20:20 or,
      where there are none, classes. 'class' draws classes whatever their groups. A .json or .csv
      file, or a folder of lists (train.txt, val.txt, test.txt), names the classes of each part.
    skip: whether to leave out classes that are too small for the episodes.
  """
  load = lambda: tfds_table(
    name, data_dir, part, image_key=image_key, label_key=label_key, size=size
  )
  parts = parts_of(f'tfds:{name}', split, lambda: with_lists(load(), split))
  return classification(parts.table, sampler, ways, shots, queries, budget, parts=parts, skip=skip)


def arrays_task(
  budget: float,
  path: str = '',
  ways: int = 5,
  shots: int = 1,
  queries: int = 15,
  sampler: str = 'few_shot',
  split: str = 'auto',
  skip: bool = False,
) -> Task:
  """An .npz file with x and y (images, or features that any network extracted).

  Or a folder of train.npz, validation.npz and test.npz.

  Args:
    path: the file or folder.
    split: which class is for training, validation and test. 'auto' draws whole groups 60:20:20 or,
      where there are none, classes. 'class' draws classes whatever their groups. A .json or .csv
      file, or a folder of lists (train.txt, val.txt, test.txt), names the classes of each part.
    skip: whether to leave out classes that are too small for the episodes.
  """
  location = Path(_given('arrays', path)).expanduser()
  name = f'arrays {location}'
  if location.is_dir():
    if split != 'auto':
      raise ValueError(f'{name} is a folder of parts; leave split={split} out, or give a file')
    parts = official(name, lambda part: load_arrays(_part_in(location, part, '.npz')))
  else:
    parts = parts_of(name, split, lambda: with_lists(load_arrays(location), split))
  return classification(parts.table, sampler, ways, shots, queries, budget, parts=parts, skip=skip)


def _part_in(folder: Path, part: str, suffix: str) -> Path:
  """Returns the file or folder of a part, val.npz for instance."""
  named = (each for each in sorted(folder.glob(f'*{suffix}')) if part_named(each.stem) == part)
  return next(named, folder / f'{part}{suffix}')


def folder_task(
  budget: float,
  path: str = '',
  ways: int = 5,
  shots: int = 1,
  queries: int = 15,
  sampler: str = 'few_shot',
  size: int | None = None,
  split: str = 'auto',
  skip: bool = False,
) -> Task:
  """A folder of images: path/class/image, path/group/class/image, or these in folders of parts.

  Args:
    path: the folder.
    size: pixels of height and width that images are resized to.
    split: which class is for training, validation and test. 'auto' takes the folders train, val and
      test, or lists in the folder, if there are any. Otherwise it draws 60:20:20, whole groups or,
      where there are none, classes. 'group' and 'class' draw in any case. A .json or .csv file, or
      a folder of lists (train.txt, val.txt, test.txt), names the classes of each part.
    skip: whether to leave out images that cannot be read, and classes that are too small for the
      episodes.
  """
  location = _given('folder', path)

  def load() -> PartedTable:
    lists = given_path(split)
    return read_folder(location, size, lists, pool=split in ('group', 'class'), skip=skip)

  parts = parts_of(f'folder {location}', split, load)
  return classification(parts.table, sampler, ways, shots, queries, budget, parts=parts, skip=skip)


def table_task(
  budget: float,
  path: str = '',
  ways: int = 5,
  shots: int = 1,
  queries: int = 15,
  sampler: str = 'few_shot',
  skip: bool = False,
) -> Task:
  """Tables of metakit.data.save_table in the folders train, validation and test of `path`.

  They are memory-mapped: one that exceeds the budget is never in memory as a whole.

  Args:
    path: the folder.
    skip: whether to leave out classes that are too small for the episodes.
  """
  location = Path(_given('table', path)).expanduser()
  parts = official(f'table {location}', lambda split: open_table(_part_in(location, split, '')))
  return classification(parts.table, sampler, ways, shots, queries, budget, parts=parts, skip=skip)
