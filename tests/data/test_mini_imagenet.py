import csv
import gzip

import numpy as np
import pytest
from PIL import Image

from metakit.data.mini_imagenet import mini_imagenet
from metakit.data.ravi_split import RAVI
from tests.data.real import real_data
from tests.data.small_sets import shrink


def test_the_parts_are_the_published_ones():
  lists = real_data('splits', 'protonet', 'miniImagenet', 'splits', 'ravi')
  for part, file in {'train': 'train', 'validation': 'val', 'test': 'test'}.items():
    with gzip.open(lists / f'{file}.csv.gz', 'rt') as text:
      labels = [row['label'] for row in csv.DictReader(text)]
    assert tuple(dict.fromkeys(labels)) == RAVI[part] and len(labels) == 600 * len(RAVI[part])


def test_the_parts_are_disjoint():
  assert [len(names) for names in RAVI.values()] == [64, 16, 20]
  assert len({name for names in RAVI.values() for name in names}) == 100


@pytest.fixture
def pictures(tmp_path, monkeypatch, cache):
  """train/CLASS and val/CLASS, each with all classes; an image is of one colour, its number."""
  small = shrink(monkeypatch, 'mini_imagenet', counts={'all': 3})
  for number, name in enumerate(sorted(small.classes)):
    for part, images in (('train', '02'), ('val', '1')):
      place = tmp_path / 'mini-ImageNet' / part / name
      place.mkdir(parents=True)
      for image in images:
        colour = (2 * number, 100 * int(image), 0)
        Image.new('RGB', (84, 84), colour).save(place / f'{name}{image}.jpg', quality=95)
  return tmp_path


def test_folders_are_merged_and_parted_by_the_lists(pictures):
  order = sorted(name for names in RAVI.values() for name in names)
  for split, names in {**RAVI, 'trainval': RAVI['train'] + RAVI['validation']}.items():
    table = mini_imagenet(pictures, split)
    assert table.names == names and set(table.counts) == {3}
    colours = np.asarray(table.x[:, 40, 40].reshape(len(names), 3, 3), int)
    expected = [[[2 * order.index(name), 100 * i, 0] for i in range(3)] for name in names]
    assert abs(colours - expected).max() < 4  # JPEG


def test_the_rows_of_a_part_stay_on_disk(pictures):
  for split in (*RAVI, 'trainval'):
    x = mini_imagenet(pictures, split).x
    assert isinstance(x, np.memmap) and isinstance(x.base, np.memmap)


def test_images_of_another_size_get_one_line(pictures):
  name = RAVI['test'][0]
  Image.new('RGB', (500, 333)).save(pictures / 'mini-ImageNet' / 'val' / name / f'{name}1.jpg')
  with pytest.raises(ValueError, match=r'1 of 300 images are not 84x84 RGB: val/\S* .333x500 RGB'):
    mini_imagenet(pictures, 'train')
