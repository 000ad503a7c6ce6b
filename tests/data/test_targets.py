"""Tables of regressions, in the units of training."""

import numpy as np
import pytest

from metakit.data import arrays, open_table, regression_table, save_table
from metakit.data.arrays import outputs_of
from metakit.data.encodings import encode, unscaled
from metakit.data.splits import join_parts, leave_out_small
from metakit.data.table import part_of_rows, select_classes
from metakit.data.targets import standardised
from metakit.fingerprint import fingerprint
from metakit.sources import EpisodeSource

X = np.arange(12.0).reshape(6, 2)
Y = X @ [1, 10]
GROUPS = ['b', 'a', 'b', 'a', 'a', 'b']


def agree(table):
  """Each target still is that of its row."""
  return np.array_equal(table.y[:, 0], np.asarray(table.x) @ [1, 10])


def test_a_task_is_a_group_and_its_targets_go_with_its_rows(tmp_path):
  table = regression_table(X, Y, GROUPS)
  assert table.names == ('a', 'b') and table.counts.tolist() == [3, 3] and agree(table)
  assert table.x[0].tolist() == [2, 3]
  b = select_classes(table, [1])
  assert b.names == ('b',) and agree(b) and agree(part_of_rows(table, 2, held_out=True))
  both = join_parts({'train': b, 'test': select_classes(table, [0])})
  assert agree(both) and both.names == ('b', 'a')
  small, _ = leave_out_small(regression_table(X, Y, [0, 0, 1, 1, 1, 1]), 3)
  assert agree(small) and small.names == ('1',)
  save_table(table._replace(encoding={'names': ['p', 'q']}), tmp_path / 'table')
  opened = open_table(tmp_path / 'table')
  assert agree(opened) and opened.encoding == {'names': ['p', 'q']}


def test_without_groups_each_column_of_y_is_a_task():
  table = regression_table(X, np.stack([Y, -Y, 2 * Y], 1), names=['plus', 'minus', 'twice'])
  assert table.names == ('plus', 'minus', 'twice') and table.counts.tolist() == [6, 6, 6]
  np.testing.assert_array_equal(table.x, np.tile(X, (3, 1)))
  np.testing.assert_array_equal(table.y[:, 0], np.concatenate([Y, -Y, 2 * Y]))


def test_a_file_of_float_targets_is_one(tmp_path):
  def written(**values):
    np.savez(tmp_path / 'x.npz', **values)
    return tmp_path / 'x.npz'

  both = np.stack([Y, Y], 1)
  assert arrays(written(x=X, y=both, groups=GROUPS)).y.shape == (6, 2)
  assert outputs_of(tmp_path / 'x.npz') == 2
  assert arrays(written(x=X, y=both)).y.shape == (12, 1) and outputs_of(tmp_path / 'x.npz') == 1
  assert outputs_of(written(x=X, y=np.arange(6))) == 0 and outputs_of('none.npz') == 0
  (tmp_path / 'x.npz').write_bytes(b'PK')
  assert outputs_of(tmp_path / 'x.npz') == 0


def test_numbers_and_targets_are_in_the_units_of_training_alone():
  table = regression_table(X, Y, GROUPS)
  train = select_classes(table, [0])
  ready, other = standardised(train, train), standardised(select_classes(table, [1]), train)
  np.testing.assert_allclose(ready.x.mean(0), 0, atol=1e-6)
  np.testing.assert_allclose([*ready.x.std(0), ready.y.std()], 1, rtol=1e-6)
  assert ready.encoding == other.encoding and abs(other.x.mean()) > 0.1
  np.testing.assert_allclose(
    other.x,
    (other.x * 0 + select_classes(table, [1]).x - train.x.mean(0)) / train.x.std(0),
    rtol=1e-6,
  )
  np.testing.assert_allclose(unscaled(other.encoding, other.y)[:, 0], [10, 54, 120])
  np.testing.assert_array_equal(encode(ready.encoding, train.x.tolist()), ready.x)
  images = regression_table(np.zeros((6, 4, 4, 1), np.uint8), Y, GROUPS)
  kept = standardised(images, images)
  assert kept.x is images.x and kept.encoding['kind'] == 'numbers' and abs(kept.y.mean()) < 1e-9


def test_a_changed_target_changes_the_checksum():
  table = regression_table(X, Y, GROUPS)
  source = EpisodeSource(lambda key: (), table.x)
  assert fingerprint(source, table) == fingerprint(source, table._replace(y=table.y.copy()))
  assert fingerprint(source, table) != fingerprint(source, table._replace(y=table.y + 1e-9))


@pytest.mark.parametrize(
  ('changed', 'said'),
  [
    ({'groups': None}, r'y holds one number for each row, and no tasks; give groups \[rows\]'),
    ({'groups': GROUPS[1:]}, r'groups has shape \(5,\); give the task of each of 6 rows'),
    ({'y': Y[1:]}, r'y has shape \(5,\) for x of shape \(6, 2\); give numbers \[rows\]'),
    ({'y': [*Y[:5], np.nan]}, 'the target of row 5 is NaN or infinity; leave the row out'),
    ({'y': [*'abcdef']}, 'y is <U1; give numbers'),
    ({'x': [*X[:5], [0, np.inf]]}, 'tasks: example 5 holds NaN or infinity; clean the data first'),
    ({'names': ['one']}, 'tasks: label 1 has no name among the 1 class names'),
  ],
)
def test_what_is_wrong_is_named(changed, said):
  with pytest.raises(ValueError, match=said):
    regression_table(**{'x': X, 'y': Y, 'groups': GROUPS} | changed)
