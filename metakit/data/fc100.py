"""FC100: the classes of CIFAR-100 in parts of 12, 4 and 4 superclasses.

Boris N. Oreshkin, Pau Rodriguez, Alexandre Lacoste, TADAM: task dependent adaptive metric for
improved few-shot learning, NeurIPS 2018, arXiv:1805.10123.
"""

from metakit.data.cifar100 import cifar100
from metakit.data.cifar_classes import FC100
from metakit.data.files import PathLike, check_choice
from metakit.data.image_sets import SPLITS, part_of_classes
from metakit.data.table import ClassTable


def fc100(data_dir: PathLike | None = None, split: str = 'train') -> ClassTable:
  """Reads a part of FC100 from a copy of CIFAR-100, see metakit.data.cifar100.

  No superclass is in two parts, so test classes are less like those of training than in CIFAR-FS.

  Args:
    data_dir: the folder of the set, or one or two folders above it; None stands for the environment
      variable METAKIT_DATA.
    split: 'train' (60 classes), 'validation' (20), 'test' (20), or 'trainval' (train and
      validation).

  Returns:
    x [classes * 600, 32, 32, 3] uint8; groups are the superclasses.

  Raises:
    FileNotFoundError: if there is no copy of CIFAR-100; says what was looked for.
    ValueError: if a file is damaged, it is another set, or lacks classes or images.

  >>> table = fc100('data', split='test')  # doctest: +SKIP
  >>> table.x.shape, table.names[0]  # doctest: +SKIP
  ((12000, 32, 32, 3), 'baby')
  """
  check_choice('split', split, SPLITS)
  return part_of_classes(cifar100(data_dir, 'all'), FC100, split)
