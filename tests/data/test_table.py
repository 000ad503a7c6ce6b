"""A class table sorts rows by class, and refuses what is not a labelled data set."""

import numpy as np
import pytest

from metakit.data.table import class_table, part_of_rows, select_classes

X = np.arange(12.0).reshape(6, 2)
LABELS = np.array([2, 0, 1, 0, 2, 0])
TABLE = class_table(X, LABELS, ['a', 'b', 'c'], groups=[1, 0, 1], group_names=['Greek', 'Latin'])


def rows_of(table, c):
  return table.x[table.starts[c] : table.starts[c] + table.counts[c]].tolist()


def test_every_class_owns_its_rows_in_their_order():
  for c in range(3):
    assert rows_of(TABLE, c) == X[c == LABELS].tolist()
  assert TABLE.counts.sum() == len(TABLE.x) == 6
  assert (TABLE.names, TABLE.group_names) == (('a', 'b', 'c'), ('Greek', 'Latin'))


def test_names_and_groups_have_defaults():
  table = class_table(X, LABELS)
  assert table.names == ('0', '1', '2')
  assert table.groups.tolist() == [0, 0, 0] and table.group_names == ('0',)
  assert class_table(X, LABELS, groups=[1, 0, 1]).group_names == ('0', '1')


def test_images_stay_uint8():
  assert class_table(np.zeros((3, 4, 4, 1), np.uint8), [0, 1, 0]).x.dtype == np.uint8


@pytest.mark.parametrize('classes', [[0], [2, 0], [1, 1], [2, 1, 0]])
def test_selected_classes_keep_rows_names_and_groups_in_the_given_order(classes):
  part = select_classes(TABLE, classes)
  assert part.names == tuple(TABLE.names[c] for c in classes)
  assert part.groups.tolist() == TABLE.groups[classes].tolist()
  assert part.group_names == TABLE.group_names
  assert len(part.x) == part.counts.sum()
  for place, c in enumerate(classes):
    assert rows_of(part, place) == rows_of(TABLE, c)


@pytest.mark.parametrize('classes', [[], [3], [0, -1]])
def test_classes_that_do_not_exist_are_refused(classes):
  with pytest.raises(ValueError, match='between 1 and 3 classes'):
    select_classes(TABLE, classes)


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    ({'labels': LABELS[:5]}, r'6 examples but labels of shape \(5,\)'),
    ({'labels': LABELS[:, None]}, r'labels of shape \(6, 1\)'),
    ({'labels': LABELS.astype(float)}, 'labels are float64; give integers'),
    ({'labels': LABELS - 1}, 'label -1 is negative: 3 of 6 examples are without a label'),
    ({'labels': LABELS - 2}, 'label -2 is negative; give integers from 0'),
    ({'labels': LABELS + 1}, "class '0' has no examples; .*labels count from 0, these from 1"),
    (
      {'labels': LABELS + 1, 'names': 'abc'},
      'label 3 has no name .* count from 0, these from 1',
    ),
    ({'labels': LABELS * 10**12}, "class '1' has no examples"),  # before counts are allocated
    ({'labels': LABELS.astype(np.uint64) + 2**63}, "class '0' has no examples"),
    ({'labels': [[0], [1, 2]]}, 'labels is no array of one shape'),
    ({'labels': LABELS, 'groups': [0, -1, 0]}, 'group -1 has no name; give integers from 0'),
    ({'labels': LABELS, 'groups': [0, 1, 10**12]}, 'group 1000000000000 has no name'),
    ({'labels': LABELS, 'groups': [0, 1, 2], 'group_names': 'ab'}, 'group 2 has no name'),
    ({'labels': LABELS, 'groups': [0, 1, 0.5]}, 'groups are float64; give integers'),
    ({'labels': LABELS * 2}, "class '1' has no examples; leave it out"),
    ({'labels': LABELS, 'names': ['a', 'b']}, 'label 2 has no name among the 2'),
    ({'labels': LABELS, 'names': ['a', 'b', 'c', 'd']}, "class 'd' has no examples"),
    ({'labels': LABELS, 'groups': [0, 1]}, 'one for each of 3 classes'),
    ({'x': X[:0], 'labels': LABELS[:0]}, 'no examples'),
    ({'x': np.where(X == 7, np.nan, X), 'labels': LABELS}, 'example 3 holds NaN or infinity'),
    ({'x': np.where(X == 4, np.inf, X), 'labels': LABELS}, 'example 2 holds NaN or infinity'),
  ],
)
def test_what_is_no_labelled_data_set_is_refused_in_words(arguments, said):
  with pytest.raises(ValueError, match=said):
    class_table(**{'x': X, **arguments})


def test_the_order_of_bytes_makes_no_difference():
  of_groups = {'groups': [1, 0, 1], 'group_names': ['Greek', 'Latin']}
  labels = np.asarray(LABELS).astype('>i8')
  table = class_table(X.astype('>f8'), labels, ['a', 'b', 'c'], **of_groups)
  groups = class_table(X, LABELS, groups=np.array([1, 0, 1], '>i4')).groups
  assert table.x.dtype.isnative and groups.dtype.isnative
  for value, other in zip(table, TABLE, strict=True):
    np.testing.assert_array_equal(value, other)


def test_one_row_in_so_many_is_held_out_of_each_class():
  """The first, and every third after it; together the parts are the table."""
  counts = [4, 3, 7]
  table = class_table(np.arange(14), np.repeat(np.arange(3), counts), groups=[1, 0, 1])
  held, rest = (part_of_rows(table, 3, held_out) for held_out in (True, False))
  assert [rows_of(held, c) for c in range(3)] == [[0, 3], [4], [7, 10, 13]]
  assert [rows_of(rest, c) for c in range(3)] == [[1, 2], [5, 6], [8, 9, 11, 12]]
  assert held.names == rest.names == table.names
