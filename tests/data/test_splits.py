import numpy as np
import pytest

from metakit.data.splits import PARTS, join_parts, leave_out_small, split_classes
from metakit.data.table import class_table, select_classes

TABLE = class_table(np.arange(300), np.arange(300) % 100, groups=np.arange(100) % 7)


def names(split, by='class', **arguments):
  return [int(name) for name in split_classes(TABLE, split, by=by, **arguments).names]


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
  part = split_classes(TABLE, 'test', by='class')
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
    split_classes(TABLE, 'validation', fractions=(0.7, 0, 0.3), by='class')
  with pytest.raises(ValueError, match=r"gets none of the 2 groups, .*; use by='class'"):
    split_classes(TABLE._replace(groups=np.arange(100) % 2), 'test')
  with pytest.raises(ValueError, match="by='speaker' is unknown; use one of group, class"):
    split_classes(TABLE, 'test', by='speaker')


@pytest.mark.parametrize(('number', 'trained'), [(3, 1), (4, 2), (7, 4), (100, 60)])
def test_whole_groups_go_to_one_part(number, trained):
  """By default, and every part gets one as soon as there are three; 60:20:20 of many."""
  table = TABLE._replace(groups=np.arange(100) % number)
  parts = [split_classes(table, part) for part in PARTS]
  groups = [set(part.groups.tolist()) for part in parts]
  assert sorted(group for each in groups for group in each) == list(range(number))
  assert all(groups) and len(groups[0]) == trained
  assert sorted(int(name) for part in parts for name in part.names) == list(range(100))


@pytest.mark.parametrize(
  ('number', 'sizes'),
  [(5, [3, 1, 1]), (6, [2, 2, 2]), (7, [3, 2, 2]), (8, [4, 2, 2]), (9, [5, 2, 2])],
)
def test_few_classes_leave_two_for_each_part(number, sizes):
  """With eight folders of pictures one can train, choose and test with ways=2."""
  table = class_table(np.arange(number), np.arange(number))
  parts = [split_classes(table, part).names for part in PARTS]
  assert [len(part) for part in parts] == sizes
  assert sorted(int(name) for part in parts for name in part) == list(range(number))


def test_one_group_is_split_by_class_as_before_there_was_a_choice():
  table = class_table(np.arange(100), np.arange(100))
  assert split_classes(table, 'test').names == split_classes(TABLE, 'test', by='class').names


def test_all_parts_together_are_the_table():
  table = TABLE._replace(group_names=tuple('abcdefg'))
  joined = join_parts({part: split_classes(table, part) for part in PARTS})
  order = np.argsort([int(name) for name in joined.names])
  again = select_classes(joined, order)
  for value, other in zip(again[:4], table[:4], strict=True):
    np.testing.assert_array_equal(value, other)
  assert [joined.group_names[g] for g in again.groups] == [
    table.group_names[g] for g in table.groups
  ]
  with pytest.raises(
    ValueError, match=r"100 classes are in two parts: '0' \(in train and test\), "
  ):
    join_parts({'train': table, 'test': table})


def test_small_classes_are_left_out_and_rows_keep_their_numbers():
  table = class_table(np.arange(9), [0, 0, 0, 1, 2, 2, 2, 2, 2])
  left, names = leave_out_small(table, 3)
  assert names == ['1'] and left.names == ('0', '2')
  assert left.x is table.x and left.starts.tolist() == [0, 4] and left.counts.tolist() == [3, 5]
  assert leave_out_small(table, 1) == (table, [])
  with pytest.raises(ValueError, match='none of the 3 classes has 6 examples'):
    leave_out_small(table, 6)
