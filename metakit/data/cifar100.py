"""CIFAR-100: 600 colour images of each of 100 classes, 32x32 pixels.

Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images, technical report, University
of Toronto.
"""

from collections.abc import Sequence
from pathlib import Path

from metakit.data.cifar_archive import ARCHIVES, find_archive, read_archive
from metakit.data.cifar_classes import CLASSES, SUPERCLASS
from metakit.data.files import PathLike, check_choice
from metakit.data.image_sets import ImageSet, Reading, Way, read_set
from metakit.data.table import ClassTable

IMAGES = ImageSet(
  name='cifar100',
  folders=('cifar100', 'cifar100python', 'cifar100dataset', 'cifarfs', 'fc100'),
  classes=CLASSES,
  shape=(32, 32, 3),
  counts={'train': 500, 'test': 100, 'all': 600},
  origin='https://www.cs.toronto.edu/~kriz/cifar.html, cifar-100-python.tar.gz',
  groups=tuple(SUPERCLASS[name] for name in CLASSES),
  # Of images whose mean is the published one, (0.5071, 0.4865, 0.4409) of those of training.
  checksums={'train': '999b1c097724a8d9', 'test': 'b82d71ffe68de2a5', 'all': '223d6794f6109937'},
)


def _find(place: Path) -> Reading | None:
  files = find_archive(place)
  where = files[0] if len(files) == 1 else place
  return Reading(where, files, lambda part: read_archive(files, part)) if files else None


WAYS: Sequence[Way] = [Way(f'{ARCHIVES[0]}, its files train, test and meta', _find)]


def cifar100(data_dir: PathLike | None = None, split: str = 'train') -> ClassTable:
  """Reads CIFAR-100 from its archive, a prepared folder, or folders of images.

  All 100 classes are in both parts. metakit.data.cifar_fs and fc100 have parts of other classes.

  The first of these that is there is read: cifar-100-python.tar.gz or its files train, test and
  meta; a folder cifar100 prepared by tensorflow-datasets; images in train/CLASS and test/CLASS.
  The images of a class are in the order of their SHA-256, so each gives the same table. A warning
  says if the pixels are not the official ones.

  Args:
    data_dir: the folder of the set, or one or two folders above it; None stands for the environment
      variable METAKIT_DATA.
    split: 'train' (500 images of each class), 'test' (100), or 'all'.

  Returns:
    x [images, 32, 32, 3] uint8; groups are the 20 superclasses.

  Raises:
    FileNotFoundError: if there is none; says what was looked for.
    ValueError: if a file is damaged, it is another set, or lacks classes or images.

  >>> table = cifar100('data', split='test')  # doctest: +SKIP
  >>> table.x.shape, table.names[0]  # doctest: +SKIP
  ((10000, 32, 32, 3), 'apple')
  """
  check_choice('split', split, tuple(IMAGES.counts))
  return read_set(IMAGES, WAYS, data_dir, part=split)
