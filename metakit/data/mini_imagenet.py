"""mini-ImageNet: 600 colour images of each of 100 classes of ImageNet, at 84x84 pixels.

Oriol Vinyals, Charles Blundell, Timothy Lillicrap, Koray Kavukcuoglu, Daan Wierstra, Matching
networks for one shot learning, NeurIPS 2016, arXiv:1606.04080; the split is that of Ravi and
Larochelle 2017 (metakit.data.ravi_split). There is no official archive.
"""

from metakit.data.files import PathLike, check_choice
from metakit.data.image_sets import SPLITS, ImageSet, part_of_classes, read_set
from metakit.data.ravi_split import RAVI
from metakit.data.table import ClassTable

IMAGES = ImageSet(
  name='mini_imagenet',
  folders=('miniimagenet', 'mini', 'miniimagenet84', 'miniimagenet84x84'),
  classes=(*RAVI['train'], *RAVI['validation'], *RAVI['test']),
  shape=(84, 84, 3),
  counts={'all': 600},
  origin='a copy of 84x84 pixels with a folder a class, n01532829 for instance',
  same_pixels=False,  # of a JPEG they depend on the decoder
)


def mini_imagenet(data_dir: PathLike | None = None, split: str = 'train') -> ClassTable:
  """Reads a part of mini-ImageNet from folders of images of 84x84 pixels.

  The folders are CLASS, or train/CLASS, val/CLASS and test/CLASS. Those of one class are merged,
  and classes parted by the lists of Ravi and Larochelle, whichever folder they are in. The images
  of a class are in the order of their names. Decoded images are kept (1.3 GB, metakit.data.decoded)
  and mapped into memory, so that a table larger than the budget stays on disk.

  Args:
    data_dir: the folder of the set, or one or two folders above it; None stands for the environment
      variable METAKIT_DATA.
    split: 'train' (64 classes), 'validation' (16), 'test' (20), or 'trainval' (train and
      validation).

  Returns:
    x [classes * 600, 84, 84, 3] uint8; names are synsets of WordNet.

  Raises:
    FileNotFoundError: if there is no such folder; says what was looked for.
    ValueError: if an image is damaged, grayscale or of another size, it is another set, or lacks
      classes or images.

  >>> table = mini_imagenet('data', split='test')  # doctest: +SKIP
  >>> table.x.shape, table.names[0]  # doctest: +SKIP
  ((12000, 84, 84, 3), 'n01930112')
  """
  check_choice('split', split, SPLITS)
  return part_of_classes(read_set(IMAGES, [], data_dir, part='all'), RAVI, split)
