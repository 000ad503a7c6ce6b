import sys

import numpy as np
import pytest

from metakit.data.fashion_mnist import fashion_mnist
from metakit.data.mnist import mnist
from tests.data.real import real_data
from tests.data.small_sets import (
  images_of,
  shrink,
  write_folders,
  write_idx,
)


@pytest.fixture
def parts(monkeypatch, cache):
  return images_of(shrink(monkeypatch, 'fashion_mnist', counts={'train': 3, 'test': 2}))


def test_files_and_folders_give_the_same_table(tmp_path, parts):
  write_idx(tmp_path / 'idx' / 'fashion-mnist', parts)
  images = sys.modules['metakit.data.fashion_mnist'].IMAGES
  write_folders(tmp_path / 'png' / 'fashion' / 'fashion_mnist_images', images, parts)
  for part, (x, labels) in parts.items():
    tables = [fashion_mnist(tmp_path / kind, part) for kind in ('idx', 'png')]
    tables.append(fashion_mnist(tmp_path / 'idx' / 'fashion-mnist', part))
    for table in tables:
      assert table.names == tuple('0123456789') and len(table.x) == len(x)
      np.testing.assert_array_equal(table.x, tables[0].x)
    held = np.split(tables[0].x, tables[0].starts[1:])
    for label, images_of_class in enumerate(held):
      whole = lambda images: sorted(image.tobytes() for image in images)
      assert whole(images_of_class) == whole(x[labels == label])


def test_files_are_read_from_a_folder_of_the_name_alone(tmp_path, parts):
  write_idx(tmp_path / 'files', parts)
  assert len(mnist(tmp_path / 'files', 'test').x) == 20  # of whatever set they are
  with pytest.raises(FileNotFoundError, match=r'fashion_mnist: none of train-images-idx3'):
    fashion_mnist(tmp_path / 'files')


def test_the_real_images_are_the_official_ones(cache):
  real_data('fashion_mnist')
  x = fashion_mnist(real_data(), 'train').x
  assert abs(np.asarray(x).mean() / 255 - 0.2860) < 1e-4  # as published
