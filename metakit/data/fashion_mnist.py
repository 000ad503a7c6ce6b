"""Fashion-MNIST: 7,000 grayscale images of each of ten kinds of clothing, 28x28 pixels.

Han Xiao, Kashif Rasul, Roland Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking
machine learning algorithms, 2017, arXiv:1708.07747.
"""

from metakit.data.files import PathLike, check_choice
from metakit.data.idx_sets import idx_files, idx_set
from metakit.data.image_sets import read_set
from metakit.data.table import ClassTable

IMAGES = idx_set('fashion_mnist', ('fashionmnist', 'fashion', 'fashionmnistimages'))


def fashion_mnist(data_dir: PathLike | None = None, split: str = 'train') -> ClassTable:
  """Reads Fashion-MNIST from IDX files, a prepared folder, or folders of images.

  All ten classes are in both parts. The first of these that is there is read: the four files of
  MNIST's names in a folder of the set's own name; a folder fashion_mnist prepared by
  tensorflow-datasets; images in train/N and test/N. The images of a class are in the order of
  their SHA-256, so each gives the same table. (`metakit.data.mnist` keeps the order of the files.)

  Args:
    data_dir: the folder of the set, or one or two folders above it; None stands for the environment
      variable METAKIT_DATA.
    split: 'train' (60,000 images) or 'test' (10,000).

  Returns:
    x [images, 28, 28, 1] uint8, cloth 255; classes '0' to '9'.

  Raises:
    FileNotFoundError: if there is none; says what was looked for.
    ValueError: if a file is damaged, it is another set, or lacks classes or images.

  >>> table = fashion_mnist('data', split='test')  # doctest: +SKIP
  >>> table.x.shape, table.names[:3]  # doctest: +SKIP
  ((10000, 28, 28, 1), ('0', '1', '2'))
  """
  check_choice('split', split, tuple(IMAGES.counts))
  return read_set(IMAGES, [idx_files(IMAGES)], data_dir, part=split)
