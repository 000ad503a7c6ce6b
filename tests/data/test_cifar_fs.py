import json

import numpy as np

from experiments.components.image_sources import PARTED_BY_CLASS
from metakit.data.cifar100 import cifar100
from metakit.data.cifar_classes import CIFAR_FS, CLASSES, SUPERCLASS, SUPERCLASSES
from metakit.data.cifar_fs import cifar_fs
from tests.data.real import real_data
from tests.data.small_sets import (
  cifar_files,
  images_of,
  shrink,
  write_cifar,
)

PUBLISHED = {'train': 'train', 'validation': 'val', 'test': 'test'}


def published(split):
  """What Torchmeta lists: (superclass, class) pairs."""
  lists = real_data('splits', 'torchmeta', 'cifar100', split)
  return {p: json.loads((lists / f'{f}.json').read_text()) for p, f in PUBLISHED.items()}


def test_the_parts_are_the_published_ones():
  pairs = published('cifar-fs')
  assert {p: {name for _, name in each} for p, each in pairs.items()} == {
    part: set(names) for part, names in CIFAR_FS.items()
  }
  assert all(SUPERCLASS[name] == group for each in pairs.values() for group, name in each)


def test_the_parts_are_disjoint_and_hold_all_classes():
  assert [len(names) for names in CIFAR_FS.values()] == [64, 16, 20]
  assert sorted(name for names in CIFAR_FS.values() for name in names) == list(CLASSES)
  assert len(SUPERCLASSES) == 20 and {len(names) for names in SUPERCLASSES.values()} == {5}


def test_a_part_holds_the_merged_images_of_its_classes(tmp_path, monkeypatch, cache):
  small = shrink(monkeypatch, 'cifar100', counts={'train': 2, 'test': 1, 'all': 3})
  write_cifar(tmp_path, cifar_files(small, images_of(small)), packed=False)
  whole = cifar100(tmp_path, 'all')
  for split, names in {**CIFAR_FS, 'trainval': CIFAR_FS['train'] + CIFAR_FS['validation']}.items():
    table = cifar_fs(tmp_path, split)
    assert table.names == tuple(sorted(names)) and set(table.counts) == {3}
    for number, name in enumerate(table.names):
      first = whole.starts[CLASSES.index(name)]
      start = table.starts[number]
      np.testing.assert_array_equal(table.x[start : start + 3], whole.x[first : first + 3])
      assert table.group_names[table.groups[number]] == SUPERCLASS[name]
  tried = PARTED_BY_CLASS['cifar_fs'](str(tmp_path), trainval=True)
  final = {'train': 'trainval', 'validation': 'validation', 'test': 'test'}
  for part, split in final.items():
    assert tried.table(part).names == cifar_fs(tmp_path, split).names
