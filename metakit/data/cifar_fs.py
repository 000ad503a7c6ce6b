"""CIFAR-FS: the classes of CIFAR-100 in parts of 64, 16 and 20.

Luca Bertinetto, João F. Henriques, Philip H. S. Torr, Andrea Vedaldi, Meta-learning with
differentiable closed-form solvers, ICLR 2019, arXiv:1805.08136.
"""

from metakit.data.cifar100 import cifar100
from metakit.data.cifar_classes import CIFAR_FS
from metakit.data.files import PathLike, check_choice
from metakit.data.image_sets import SPLITS, part_of_classes
from metakit.data.table import ClassTable


def cifar_fs(data_dir: PathLike | None = None, split: str = 'train') -> ClassTable:
  """Reads a part of CIFAR-FS from a copy of CIFAR-100, see metakit.data.cifar100.

  The images of CIFAR-100's training and test are merged, and its classes parted.

  Args:
    data_dir: the folder of the set, or one or two folders above it; None stands for the environment
      variable METAKIT_DATA.
    split: 'train' (64 classes), 'validation' (16), 'test' (20), or 'trainval' (train and
      validation).

  Returns:
    x [classes * 600, 32, 32, 3] uint8; groups are the superclasses, which the parts share.

  Raises:
    FileNotFoundError: if there is no copy of CIFAR-100; says what was looked for.
    ValueError: if a file is damaged, it is another set, or lacks classes or images.

  >>> table = cifar_fs('data', split='test')  # doctest: +SKIP
  >>> table.x.shape, table.names[0]  # doctest: +SKIP
  ((12000, 32, 32, 3), 'baby')
  """
  check_choice('split', split, SPLITS)
  return part_of_classes(cifar100(data_dir, 'all'), CIFAR_FS, split)
