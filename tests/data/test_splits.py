import numpy as np
import pytest

from metakit.data.splits import PARTS, split_classes
from metakit.data.table import class_table

TABLE = class_table(np.arange(300), np.arange(300) % 100, groups=np.arange(100) % 7)


def names(split, **arguments):
  return [int(name) for name in split_classes(TABLE, split, **arguments).names]


@pytest.mark.parametrize('seed', [0, 1, 2**40])
def test_parts_are_disjoint_and_together_hold_every_class(seed):
  parts = [names(part, seed=seed) for part in PARTS]
  assert [len(part) for part in parts] == [60, 20, 20]
  assert sorted(number for part in parts for number in part) == list(range(100))


def test_a_split_is_the_same_for_ever():
  assert names('test')[:8] == [6, 7, 14, 18, 23, 27, 29, 41]


def test_seeds_differ_and_classes_are_drawn_evenly():
  chosen = np.zeros(100)
  for seed in range(400):
    chosen[names('validation', seed=seed)] += 1
  # Binomial(400, 0.2) has mean 80 and standard deviation 8.
  assert chosen.sum() == 8000 and np.abs(chosen - 80).max() < 4 * 8


def test_rows_and_groups_go_with_their_class():
  part = split_classes(TABLE, 'test')
  assert (part.x.reshape(-1, 3) % 100 == np.array(part.names, int)[:, None]).all()
  assert (part.groups == np.array(part.names, int) % 7).all()


def test_fractions_set_the_sizes():
  sizes = [len(names(part, fractions=(0.7, 0, 0.3))) for part in ('train', 'test')]
  assert sizes == [70, 30]


def test_wrong_arguments_are_named():
  with pytest.raises(
    ValueError, match="split='val' is unknown; use one of train, validation, test"
  ):
    split_classes(TABLE, 'val')
  with pytest.raises(ValueError, match='three shares that add up to 1'):
    split_classes(TABLE, 'test', fractions=(0.6, 0.2, 0.3))
  with pytest.raises(ValueError, match="split='validation' gets none of the 100 classes"):
    split_classes(TABLE, 'validation', fractions=(0.7, 0, 0.3))
