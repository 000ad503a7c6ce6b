from metakit.data.cifar_classes import CLASSES, FC100, SUPERCLASS
from metakit.data.fc100 import fc100
from tests.data.small_sets import (
  cifar_files,
  images_of,
  shrink,
  write_cifar,
)
from tests.data.test_cifar_fs import published


def groups_of(names):
  return {SUPERCLASS[name] for name in names}


def test_the_parts_are_the_published_superclasses():
  assert {p: groups_of(names) for p, names in FC100.items()} == {
    part: set(groups) for part, groups in published('fc100').items()
  }


def test_no_superclass_is_in_two_parts():
  assert [len(names) for names in FC100.values()] == [60, 20, 20]
  assert [len(groups_of(names)) for names in FC100.values()] == [12, 4, 4]
  assert sorted(name for names in FC100.values() for name in names) == list(CLASSES)


def test_a_part_holds_its_classes(tmp_path, monkeypatch, cache):
  small = shrink(monkeypatch, 'cifar100', counts={'train': 1, 'test': 1, 'all': 2})
  write_cifar(tmp_path, cifar_files(small, images_of(small)), packed=True)
  for split, names in FC100.items():
    table = fc100(tmp_path, split)
    assert table.names == names and table.x.shape == (2 * len(names), 32, 32, 3)
