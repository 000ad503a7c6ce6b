"""Data sources as tasks. Most arguments of a task are read from the source's signature.

A function of metakit.data that has the name of its module and returns a ClassTable is a task. If it
has a parameter `split`, each part is read by itself, and otherwise the classes of one table are
parted here. Further functions below are for what a signature does not say.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.components.augmentations import augmentations_of, of_photos
from experiments.components.class_parts import (
  ClassParts,
  given_path,
  official,
  parts_of,
  with_lists,
)
from experiments.components.image_sources import PARTED_BY_CLASS, PARTED_BY_IMAGE, by_class
from experiments.components.table_tasks import EPISODES, table_task
from metakit import data
from metakit.components.docstrings import document, meanings, summary
from metakit.data.arrays import arrays as load_arrays
from metakit.data.arrays import outputs_of
from metakit.data.columns import PART
from metakit.data.files import check_choice
from metakit.data.folder import folder as load_folder
from metakit.data.folder import read_folder
from metakit.data.omniglot import PROTOCOLS
from metakit.data.omniglot import omniglot as load_omniglot
from metakit.data.parts import PartedTable, part_named
from metakit.data.rows import read_rows
from metakit.data.rows import rows as load_rows
from metakit.data.saved import open_table
from metakit.data.series import series as load_series
from metakit.data.table import ClassTable
from metakit.data.targets import standardised
from metakit.data.text import read_text
from metakit.data.text import text as load_text
from metakit.data.tfds import tfds_table
from metakit.tasks import Task

SERIES = {'shots': 10, 'queries': 10, 'skip': False}
ANY_DATA = EPISODES | {'skip': False}


def by_signature(
  load: Callable[..., ClassTable], hidden: tuple[str, ...] = ()
) -> Callable[..., ClassParts]:
  """Returns a function that makes the parts of a data set, with the arguments of its source.

  Args:
    load: the source. Of its parameters, `data_dir` is supplied by the binaries, `split` is the part
      to be read, and `path` has to be given in the spec. All others have a default.
    hidden: parameters that a spec cannot set.
  """
  takes, name = dict(inspect.signature(load, eval_str=True).parameters), load.__name__

  def one_by_one(**given: Any) -> ClassParts:
    called, given = _placed(name, given)
    return official(called, lambda part: load(split=part, **given))

  def of_a_whole(split: str = 'auto', **given: Any) -> ClassParts:
    called, given = _placed(name, given)
    return parts_of(called, split, lambda: with_lists(load(**given), split))

  kind = inspect.Parameter.KEYWORD_ONLY
  split = inspect.Parameter('split', kind, default='auto', annotation=str)
  parts: Any = one_by_one if takes.pop('split', None) else of_a_whole
  if 'path' in takes:
    takes['path'] = takes['path'].replace(default='', annotation=str)
  settable = [p.replace(kind=kind) for n, p in takes.items() if n not in hidden]
  parts.__signature__ = inspect.Signature(settable + [split] * (parts is of_a_whole))
  document(parts, summary(load), meanings(load))
  return parts


def _placed(name: str, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
  """Returns what messages call a data set, and its arguments with the path as a Path."""
  if 'path' not in given:
    return name, given
  path = location(name, given['path'])
  return f'{name} {path}', {**given, 'path': path}


def location(task: str, path: str) -> Path:
  """Returns where the data of a task lies.

  Args:
    task: the name of the task.
    path: a file or a folder, or '' if the spec has none.

  Raises:
    ValueError: if the spec has none.
  """
  if not path:
    raise ValueError(f'task {task} needs the place of its data: --task={task}:path=...')
  return Path(path).expanduser()


def omniglot_parts(
  data_dir: str,
  split: str = 'vinyals',
  rotations: bool = True,
  size: int = 28,
  shift: int = 0,
  degrees: float = 0.0,
  stretch: float = 0.0,
  mirror: bool = False,
  trainval: bool = False,
) -> ClassParts:
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
  parts = official(
    'omniglot',
    lambda part: kept_omniglot(data_dir, name(part), split, size=size, rotations=rotations),
  )
  return parts._replace(augmentations=augmentations_of(shift, degrees, stretch, mirror=mirror))


@functools.lru_cache(maxsize=4)
def kept_omniglot(
  data_dir: str, part: str, protocol: str, *, size: int, rotations: bool
) -> ClassTable:
  """Reads Omniglot once for tasks that differ only in their episodes."""
  return load_omniglot(data_dir, part, protocol=protocol, size=size, rotations=rotations)


def tfds_parts(
  name: str,
  data_dir: str,
  part: str = 'train',
  image_key: str = 'image',
  label_key: str = 'label',
  size: int | None = None,
  split: str = 'auto',
) -> ClassParts:
  """A TensorFlow Datasets classification data set.

  Args:
    part: of the data set, in the grammar of tfds; its classes are those of the task.
  """
  load = lambda: tfds_table(
    name, data_dir, part, image_key=image_key, label_key=label_key, size=size
  )
  return parts_of(f'tfds:{name}', split, lambda: with_lists(load(), split))


def arrays_parts(path: str = '', split: str = 'auto') -> ClassParts:
  """An .npz file with x and y (images, or features that any network extracted).

  Or a folder of train.npz, validation.npz and test.npz. If y are floats, it is a regression: each
  value of `groups` [rows] is a task or, without, each column of y.

  Args:
    path: the file or folder.
  """
  place = location('arrays', path)
  name = f'arrays {place}'
  if not place.is_dir():
    parts = parts_of(name, split, lambda: with_lists(load_arrays(place), split))
    return parts._replace(outputs=lambda: outputs_of(place))
  if split != 'auto':
    raise ValueError(f'{name} is a folder of parts; leave split={split} out, or give a file')
  parts = official(name, lambda part: load_arrays(_part_in(place, part, '.npz')), own=True)
  return parts._replace(outputs=lambda: outputs_of(_part_in(place, 'train', '.npz')))


def _part_in(folder: Path, part: str, suffix: str) -> Path:
  """Returns the file or folder of a part, val.npz for instance."""
  named = (each for each in sorted(folder.glob(f'*{suffix}')) if part_named(each.stem) == part)
  return next(named, folder / f'{part}{suffix}')


def folder_parts(
  path: str = '', size: int | None = None, split: str = 'auto', skip: bool = False
) -> ClassParts:
  """A folder of images: path/class/image, path/group/class/image, or these in folders of parts.

  Args:
    path: the folder.
    split: which class is for training, validation and test. 'auto' takes the folders train, val and
      test, or lists in the folder, if there are any. Otherwise it draws 60:20:20, whole groups or,
      where there are none, classes. 'group' and 'class' draw in any case. A .json or .csv file, or
      a folder of lists (train.txt, val.txt, test.txt), names the classes of each part.
    skip: whether to leave out images that cannot be read, and classes that are too small for the
      episodes.
  """
  place = location('folder', path)

  def load() -> PartedTable:
    lists = given_path(split)
    return read_folder(place, size, split=lists, pool=split in ('group', 'class'), skip=skip)

  return parts_of(f'folder {path}', split, load)


def text_parts(
  path: str = '',
  split: str = 'auto',
  text: str = 'text',
  label: str = 'label',
  group: str = '',
  part: str = PART,
  embeddings: str = '',
  features: int = 2048,
  units: str = 'characters',
) -> ClassParts:
  """A CSV, TSV, JSON lines or Parquet file of texts and labels.

  Args:
    path: the file. Its first row names the columns.
    split: which class is for training, validation and test. 'auto' takes the column `part`, if
      there is one. Otherwise it draws 60:20:20, whole groups or, where there are none, classes.
      'group' and 'class' draw in any case. A .json or .csv file, or a folder of lists (train.txt,
      val.txt, test.txt), names the classes of each part.
    part: the column that says which part (train, val or test) a row is of.
  """
  place = location('text', path)
  columns = {'text': text, 'label': label, 'group': group}

  def load() -> PartedTable:
    named = part if split == 'auto' else None
    parted = read_text(
      place, named, **columns, embeddings=embeddings, features=features, units=units
    )
    return parted if split == 'auto' else with_lists(parted.table, split)

  return parts_of(f'text {place}', split, load)


def rows_parts(
  path: str = '',
  split: str = 'auto',
  target: str = 'target',
  task: str = '',
  group: str = '',
  columns: str = '',
  part: str = PART,
) -> ClassParts:
  """A CSV, TSV, JSON lines or Parquet file of rows of numbers and texts.

  With `task` it is a regression, each of whose tasks has rows. Otherwise rows are classified.
  Columns of numbers are standardised by the rows of training.

  Args:
    path: the file. Its first row names the columns.
    part: the column that says which part (train, val or test) a row is of.
  """
  place = location('rows', path)
  told = {'target': target, 'task': task, 'group': group, 'columns': columns}

  def load() -> PartedTable:
    parted = read_rows(place, part if split == 'auto' else None, **told)
    return parted if split == 'auto' else with_lists(parted.table, split)

  parts = parts_of(f'rows {place}', split, load)
  if task:
    return parts._replace(outputs=lambda: 1)
  as_numbers = functools.cache(lambda part: standardised(parts.table(part), parts.table('train')))
  return parts._replace(table=as_numbers)


def series_parts(
  path: str = '',
  split: str = 'auto',
  columns: str = '',
  series: str = '',
  past: int = 14,
  future: int = 1,
  stride: int = 0,
) -> ClassParts:
  """Time series of a CSV, TSV, JSON lines or Parquet file; each is a regression task.

  An example is a window of the past; its targets are the values that follow.

  Args:
    path: the file, its rows in the order of time.
  """
  place = location('series', path)
  told = {'past': past, 'future': future, 'stride': stride}
  load = lambda: with_lists(load_series(place, columns, series=series, **told), split)
  return parts_of(f'series {place}', split, load)._replace(outputs=lambda: future)


def table_parts(path: str = '') -> ClassParts:
  """Tables of metakit.data.save_table in the folders train, validation and test of `path`.

  They are memory-mapped: one that exceeds the budget is never in memory as a whole.

  Args:
    path: the folder.
  """
  place = location('table', path)
  parts = official(f'table {place}', lambda part: open_table(_part_in(place, part, '')), own=True)

  def outputs() -> int:
    with contextlib.suppress(OSError, ValueError):  # said when the table is opened
      y = open_table(_part_in(place, 'train', '')).y
      return 0 if y is None else y.shape[1]
    return 0

  return parts._replace(outputs=outputs)


def is_source(name: str) -> bool:
  """Tells whether a name of metakit.data is a source: a table's function, in a file of its name."""
  function = getattr(data, name)
  of_file = getattr(function, '__module__', '') == f'metakit.data.{name}'
  return of_file and inspect.signature(function).return_annotation is ClassTable


def tfds_task(name: str) -> Callable[..., Task]:
  """Returns the factory of a task on a TensorFlow data set."""
  parts = of_photos(functools.partial(tfds_parts, name))
  return table_task(parts, ANY_DATA, told_by=[tfds_table])


def _of(name: str) -> Callable[..., Task]:
  load = getattr(data, name)
  parted = 'split' in inspect.signature(load).parameters
  return table_task(by_signature(load), EPISODES if parted else ANY_DATA)


TABLE_TASKS: dict[str, Callable[..., Task]] = {
  **{name: _of(name) for name in data.__all__ if is_source(name)},
  'glyphs': table_task(by_signature(data.glyphs, hidden=('size', 'seed'))),
  'omniglot': table_task(omniglot_parts, told_by=[load_omniglot, augmentations_of]),
  **{n: table_task(of_photos(each), told_by=[by_class]) for n, each in PARTED_BY_CLASS.items()},
  **{n: table_task(of_photos(each), usual) for n, (each, usual) in PARTED_BY_IMAGE.items()},
  'tfds:<name>': tfds_task('<name>'),
  'arrays': table_task(arrays_parts, ANY_DATA),
  'folder': table_task(of_photos(folder_parts), ANY_DATA, told_by=[load_folder]),
  'table': table_task(table_parts, ANY_DATA),
  'rows': table_task(rows_parts, ANY_DATA | {'shots': 5}, told_by=[load_rows]),
  'series': table_task(series_parts, SERIES, told_by=[load_series]),
  'text': table_task(text_parts, ANY_DATA, told_by=[load_text]),
}
