"""Rows, classes and groups that are held out, against the rows themselves."""

import numpy as np
import pytest

from metakit.data.levels import LEVELS, split_levels
from metakit.data.table import class_table

GROUPS = np.repeat([0, 1, 2, 4], [7, 6, 8, 5])  # number 3 has no class


def table(rows=6):
  """A row is [group, class, number in the class]."""
  classes = np.repeat(np.arange(len(GROUPS)), rows)
  x = np.stack([GROUPS[classes], classes, np.tile(np.arange(rows), len(GROUPS))], 1)
  return class_table(np.float32(x), classes, groups=GROUPS)


def rows_of(part):
  """The rows of each class, as sets."""
  rows = [part.x[s : s + n] for s, n in zip(part.starts, part.counts, strict=True)]
  for number, name in enumerate(part.names):
    assert {*rows[number][:, 1]} == {float(name)} and {*rows[number][:, 0]} == {part.groups[number]}
  return [{tuple(row) for row in each.tolist()} for each in rows]


@pytest.mark.parametrize('seed', [0, 1, 2**40])
def test_levels_share_no_row_and_each_is_as_far_as_it_says(seed):
  parts = split_levels(table(), seed=seed)
  assert tuple(parts) == ('train', *LEVELS)
  rows = {name: set.union(*rows_of(part)) for name, part in parts.items()}
  assert sum(map(len, rows.values())) == len(set.union(*rows.values())) == 6 * len(GROUPS)
  numbers = {name: {row[1] for row in each} for name, each in rows.items()}
  groups = {name: {row[0] for row in each} for name, each in rows.items()}
  assert numbers['train'] == numbers['instances']
  assert not numbers['train'] & numbers['classes'] and groups['train'] == groups['classes']
  assert not groups['train'] & groups['families'] and len(groups['families']) == 1
  for group in groups['train']:  # a third of 7, 6 or 8 classes
    new = [row[1] for row in rows['classes'] if row[0] == group]
    assert len({*new}) == {7: 2, 6: 2, 8: 3, 5: 2}[(group == GROUPS).sum()]
  assert {len(each) for each in rows_of(parts['instances'])} == {2}
  assert len({id(part.x) for part in parts.values()}) == 1  # one program, and one copy


def test_a_split_is_the_same_for_ever_and_rows_are_drawn_evenly():
  parts = split_levels(table())
  assert parts['families'].groups.tolist() == [0] * 7
  assert parts['classes'].names == ('7', '9', '14', '15', '16', '23', '24')
  held = np.concatenate(
    [[row[2] for row in each] for each in map(list, rows_of(parts['instances']))]
  )
  drawn = np.zeros(6)
  for seed in range(100):
    part = split_levels(table(), families=[4], seed=seed)['instances']
    drawn += np.bincount([int(row[2]) for each in rows_of(part) for row in each], minlength=6)
  # 1400 classes hold out 2 of 6 rows: Binomial(1400, 1/3), standard deviation 18.
  assert len({*held}) > 2 and np.abs(drawn - drawn.sum() / 6).max() < 4 * 18


def test_given_groups_are_held_out_and_another_share():
  parts = split_levels(table(), share=0.5, families=[1, 4])
  assert {*parts['families'].groups} == {1, 4}
  assert parts['train'].counts.tolist() == parts['instances'].counts.tolist() == [3] * 7
  assert len(parts['classes'].names) == 4 + 4


def test_what_was_turned_goes_where_its_image_goes():
  turns = [f'{g}/{c}/rot{angle:03d}' for g in 'ab' for c in range(5) for angle in (0, 90, 180, 270)]
  x = np.tile(np.arange(6), len(turns))
  whole = class_table(x, np.repeat(np.arange(len(turns)), 6), turns, groups=np.repeat([0, 1], 20))
  parts = split_levels(whole)
  stems = {name: {each[:3] for each in part.names} for name, part in parts.items()}
  assert not stems['train'] & stems['classes'] and len(parts['classes'].names) == 4 * 2
  part = parts['instances']
  kept = [frozenset(part.x[start : start + 2].tolist()) for start in part.starts]
  assert all(len({*kept[i : i + 4]}) == 1 for i in range(0, len(kept), 4)) and len({*kept}) > 1


def test_targets_go_with_their_rows():
  whole = table()
  whole = whole._replace(y=whole.x[:, 1:] * 2.0)
  part = split_levels(whole)['classes']
  np.testing.assert_array_equal(part.y, part.x[:, 1:] * 2)


@pytest.mark.parametrize(
  ('call', 'said'),
  [
    (lambda: split_levels(table(), share=1.0), 'share=1.0 leaves nothing'),
    (lambda: split_levels(table()._replace(groups=0 * GROUPS)), 'of one group, .* two groups'),
    (lambda: split_levels(table(), families=[3]), r'families=\[3\] are 0 of the 4 groups'),
    (lambda: split_levels(table(), families=[0, 1, 2, 4]), 'are 4 of the 4 groups'),
    (lambda: split_levels(table(rows=1)), "class '8' has one example, .*; leave it out"),
    (lambda: split_levels(class_table(np.ones(4), [0, 0, 1, 1], groups=[0, 1])), 'two classes'),
  ],
)
def test_bad_input_is_named(call, said):
  with pytest.raises(ValueError, match=said) as error:
    call()
  assert len(str(error.value).splitlines()) == 1
