import sys

import numpy as np
import pytest

from experiments.components.sequence_tasks import base_set
from metakit.data.image_sets import checksum, pixel_keys
from metakit.data.kmnist import kmnist
from tests.data.small_sets import (
  images_of,
  shrink,
  write_folders,
  write_idx,
)


@pytest.fixture
def small(monkeypatch, cache):
  return shrink(monkeypatch, 'kmnist', counts={'train': 12, 'test': 2})


def test_it_is_a_base_set_and_no_image_is_in_two_parts(tmp_path, small):
  parts = images_of(small)
  write_idx(tmp_path / 'idx' / 'kmnist', parts)
  write_folders(tmp_path / 'png' / 'kmnist', small, parts)
  seen = []
  for split, count in (('train', 100), ('validation', 20), ('test', 20)):
    tables = [base_set('kmnist', split, tmp_path / kind, pixels=28) for kind in ('idx', 'png')]
    np.testing.assert_array_equal(tables[0].x, tables[1].x)
    assert len(tables[0].x) == count
    seen += [image.tobytes() for image in tables[0].x]
  assert len(set(seen)) == 140


def test_files_of_another_set_get_one_line(tmp_path, small, monkeypatch):
  parts = images_of(small)
  write_idx(tmp_path / 'kmnist', parts)
  known = {checksum(pixel_keys(kmnist(tmp_path, 'test').x)): 'fashion_mnist'}
  monkeypatch.setattr(sys.modules['metakit.data.kmnist'], 'IMAGES', small._replace(others=known))
  with pytest.raises(ValueError, match='the images of fashion_mnist, not of kmnist; get it from'):
    kmnist(tmp_path, 'test')
  x, labels = parts['test']
  write_idx(tmp_path / 'kmnist', {'test': (x[1:], labels[1:])})  # MNIST, say
  with pytest.raises(ValueError, match='kmnist has 2 images of each class for test, this copy 1'):
    kmnist(tmp_path, 'test')
