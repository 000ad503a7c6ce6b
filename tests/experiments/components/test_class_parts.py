"""Which classes a task trains, validates and tests on, and what is said of it."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from experiments.components.class_parts import MOST_NAMES, class_names, write_names
from experiments.components.tasks import TASKS, data_of
from experiments.runs.evaluate import check_part, usual_part
from experiments.runs.workdir import check_former_split
from metakit.components.specs import build, parse
from metakit.data import arrays, save_table
from metakit.data.splits import PARTS
from metakit.tasks import understood, with_tested

SIZES = 'ways=2,shots=1,queries=1'


def made(spec):
  return build(parse('task', TASKS, spec), data_dir='', budget=1e9)


def names(task):
  return {part: task.table(part).names for part in PARTS}


def spoken(folder, speakers=6, digits=5, rows=3):
  """A file of digits, each said by several speakers: a class is a digit of a speaker."""
  classes = [f'{s}/{d}' for s in 'abcdefgh'[:speakers] for d in range(digits)]
  y = np.repeat(np.arange(len(classes)), rows)
  x = y[:, None].astype(np.float32)
  groups = np.repeat(np.arange(speakers), digits)
  np.savez(folder / 'x.npz', x=x, y=y, names=classes, groups=groups)
  return folder / 'x.npz'


def pictures(folder, *names, rows=2):
  for number, name in enumerate(names):
    (folder / name).mkdir(parents=True)
    for row in range(rows):
      Image.new('L', (4, 4), 9 * number).save(folder / name / f'{row}.png')
  return folder


SPLIT = ('train/a', 'train/b', 'val/c', 'val/d', 'test/e', 'test/f')


def test_parts_of_a_folder_are_the_split_and_it_is_said(tmp_path):
  task = made(f'folder:{pictures(tmp_path / "x", *SPLIT)},{SIZES}')
  assert names(task) == {'train': ('a', 'b'), 'validation': ('c', 'd'), 'test': ('e', 'f')}
  assert task.parted() == 'given' and usual_part(task, seen=False) == 'test'
  assert task.said() == (
    f'folder {tmp_path / "x"}: 12 examples of 4 x 4 x 1 in 6 classes (2 each); parts train '
    '(2 classes), validation (2 classes), test (2 classes), as its folders say'
  )
  pooled = made(f'folder:{tmp_path / "x"},ways=1,queries=1,split=class')
  assert sorted(name for part in names(pooled).values() for name in part) == [*'abcdef']
  assert 'classes drawn at random' in pooled.said() and pooled.parted() == 'classes'


def test_a_missing_part_is_one_line_when_it_is_asked_for(tmp_path):
  task = made(f'folder:{pictures(tmp_path, "train/a", "train/b")},{SIZES}')
  assert task.table('train').names == ('a', 'b')
  with pytest.raises(ValueError, match=r"has no part 'validation' .*; add it, or use split=class"):
    task.source('validation')


def test_whole_groups_go_to_one_part_unless_told(tmp_path):
  path = spoken(tmp_path)
  task = made(f'arrays:{path},{SIZES},sampler=within_group')
  speakers = [{name[0] for name in part} for part in names(task).values()]
  assert [len(each) for each in speakers] == [4, 1, 1] and len(set.union(*speakers)) == 6
  assert task.said() == (
    f'arrays {path}: 90 examples of 1 number in 30 classes (3 each); parts train (4 groups, 20 '
    'classes), validation (1 group, 5 classes), test (1 group, 5 classes), whole groups drawn at '
    'random'
  )
  by_class = made(f'arrays:{path},{SIZES},split=class')
  speakers = [{name[0] for name in part} for part in names(by_class).values()]
  assert speakers[0] & speakers[2]
  assert 'test (6 classes), classes drawn at random' in by_class.said()


def test_a_run_that_was_split_otherwise_does_not_go_on(tmp_path):
  """Flags of earlier versions know no argument `split`."""
  earlier = f'arrays:path={spoken(tmp_path)},{SIZES},sampler=few_shot'
  with pytest.raises(ValueError, match='began when classes were drawn one by one, and now there'):
    check_former_split(earlier, made(earlier))
  check_former_split(f'{earlier},split=auto', made(earlier))
  check_former_split(earlier, made(f'{earlier},split=class'))
  with pytest.raises(ValueError, match=r'now there are folder .* as its folders say: classes that'):
    check_former_split('folder', made(f'folder:{pictures(tmp_path / "x", *SPLIT)}'))
  alone = f'arrays:path={spoken(tmp_path, speakers=1)},{SIZES}'
  check_former_split(alone, made(alone))
  check_former_split('glyphs', made('glyphs'))


def test_few_or_no_groups_are_answered_with_the_remedy(tmp_path):
  task = made(f'arrays:{spoken(tmp_path, speakers=2)},{SIZES}')
  with pytest.raises(
    ValueError, match=r'2 groups are too few .*; use split=class, .* or split=FILE'
  ):
    task.source('train')
  assert len(task.table('all').names) == 10  # without parts nothing is in doubt
  task = made(f'arrays:{spoken(tmp_path, speakers=1)},{SIZES},split=group')
  with pytest.raises(ValueError, match='has no groups to be split by; use split=class'):
    task.source('train')
  with pytest.raises(ValueError, match="split='clas' is none of auto, group, class, and no file"):
    made(f'arrays:{tmp_path}/x.npz,split=clas')


def test_a_file_may_say_which_class_is_in_which_part(tmp_path):
  path, split = spoken(tmp_path, speakers=1), tmp_path / 'my split.json'
  split.write_text(json.dumps({'train': ['a/0', 'a/1'], 'val': ['2'], 'test': ['a/3']}))
  task = made(f'arrays:{path},ways=1,shots=1,queries=1,split={split}')
  assert names(task) == {'train': ('a/0', 'a/1'), 'validation': ('a/2',), 'test': ('a/3',)}
  assert task.parted() == 'given' and f'as {split} say; in no part: 1 class' in task.said()


@pytest.mark.parametrize('kind', ['arrays', 'table'])
def test_files_of_parts_go_by_their_usual_names(tmp_path, kind):
  for number, part in enumerate(('Train', 'val', 'testing')):
    x, y = np.full((4, 2), number, np.float32), np.repeat([f'{part}1', f'{part}2'], 2)
    np.savez(tmp_path / f'{part}.npz', x=x, y=y)
    save_table(arrays(x, y), tmp_path / 'tables' / part)
  task = made(f'{kind}:{tmp_path if kind == "arrays" else tmp_path / "tables"},{SIZES}')
  assert names(task)['validation'] == ('val1', 'val2')
  assert task.parted() == 'official'
  size = '4 examples of 2 numbers in 2 classes (2 each)'
  assert task.said().endswith(
    f': parts train ({size}), validation ({size}), test ({size}), each of its own file'
  )
  assert with_tested(task, 'all').table('test').names[::2] == ('Train1', 'val1', 'testing1')


def test_what_cannot_be_drawn_says_of_which_part_and_which_remedy(tmp_path):
  task = made(f'arrays:{spoken(tmp_path, speakers=1)},ways=2,shots=1,queries=2')
  with pytest.raises(ValueError) as error:
    task.source('test')
  assert str(error.value) == (
    f'part test of arrays {tmp_path / "x.npz"}: ways=2 exceeds the 1 classes; use ways<=1, '
    'or split=FILE, which gives this part more'
  )
  task = made(f'folder:{pictures(tmp_path / "own", *SPLIT)},ways=3')
  with pytest.raises(ValueError, match=r'part val.* of folder .*own: ways=3 exceeds .*ways<=2$'):
    task.source('validation')


def test_what_is_damaged_or_too_small_is_left_out_and_counted_in_one_line(tmp_path):
  pictures(tmp_path, *SPLIT, 'train/g', 'train/h')
  (tmp_path / 'train/g/0.png').write_bytes(b'')
  (tmp_path / 'train/h/0.png').write_bytes(b'no image')
  spec = f'folder:{tmp_path},{SIZES}'
  with pytest.raises(ValueError, match=r'2 images cannot be read: train/g/0.png .*, train/h/0.png'):
    made(spec).source('train')
  task = made(f'{spec},skip=true')
  x = task.source('train').data
  assert task.table('train').names == ('a', 'b')
  assert task.said().endswith(
    'say; left out: 2 images that cannot be read (train/g/0.png, train/h/0.png); left out of '
    'train: 2 classes of fewer than 2 examples (g, h)'
  )
  for damaged in ('train/g/0.png', 'train/h/0.png'):
    (tmp_path / damaged).unlink()
  with pytest.raises(
    ValueError, match=r"2 classes \('g' has 1, 'h' has 1\); leave them out .skip=true.$"
  ):
    made(spec).source('train')
  # Tasks that differ in their episodes alone share a table, and perhaps its embedding.
  other = made(f'folder:{tmp_path},ways=2,shots=1,queries=1,sampler=variable_shot,skip=true')
  np.testing.assert_array_equal(x, other.table('train').x)


def test_a_foreign_set_without_parts_is_tested_whole(tmp_path):
  task = made(f'arrays:{spoken(tmp_path)},{SIZES}')
  assert [usual_part(task, seen) for seen in (False, True)] == ['all', 'test']
  whole = with_tested(task, 'all')
  assert len(whole.table('test').names) == 30 and whole.table('train') is task.table('train')
  assert len(whole.source('test').data) == 90
  assert whole.said().endswith('drawn at random; tests are on all') and whole.tested == 'all'
  assert understood(task, task, whole) == [task.said(), whole.said()]
  assert with_tested(task, 'test') is task
  assert with_tested(made('sinusoid'), 'train').tested == 'train'
  with pytest.raises(ValueError, match='part=all is for tasks with classes of their own'):
    with_tested(made('sinusoid'), 'all')
  glyphs = made('glyphs:alphabets=1,characters=3,drawings=2')
  assert glyphs.parted() == 'official' and glyphs.said() == ''


def test_a_part_that_is_too_small_for_a_test_names_all_of_them(tmp_path):
  task = made(f'arrays:{spoken(tmp_path)},ways=8,shots=1,queries=1')
  with pytest.raises(ValueError, match=r'part validation .* use ways<=5, .*; or --split=all'):
    check_part(with_tested(task, 'validation'))
  check_part(with_tested(task, 'all'))
  more = made(f'arrays:{spoken(tmp_path)},ways=31,shots=1,queries=1')
  with pytest.raises(ValueError, match=r'part all .* use ways<=30') as error:
    check_part(with_tested(more, 'all'))
  assert '--split=all' not in str(error.value)


def test_data_is_known_by_its_place(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'link').symlink_to(tmp_path / 'x')
  given = f'folder:{tmp_path}/x', 'folder:path=x,ways=9', 'folder:size=9,path=link', 'arrays:./x'
  assert len({data_of(spec) for spec in given}) == 1
  different = 'folder:y', 'omniglot', 'tfds:omniglot', 'tfds:emnist/balanced', 'glyphs:ways=3'
  assert len({data_of(spec) for spec in (*different, given[0])}) == 6


def test_classes_are_named_in_records_and_many_by_their_number_and_sum(tmp_path):
  trained = made(f'arrays:{spoken(tmp_path)},{SIZES}')
  found = class_names(trained, with_tested(trained, 'all'), ('train', 'test'))
  assert found['train'] == list(trained.table('train').names) and len(found['test']) == 30
  assert write_names(found)['train'].startswith('20: ')
  assert class_names(made('sinusoid'), made('sinusoid'), PARTS) == {}
  many = [f'{number}' for number in range(MOST_NAMES + 1)]
  np.savez(tmp_path / 'many.npz', x=np.zeros((len(many), 1)), y=many)
  many_test = with_tested(made(f'arrays:{tmp_path}/many.npz,ways=2,sampler=few_shot'), 'all')
  brief = class_names(
    trained, many_test._replace(table=lambda part: arrays(tmp_path / 'many.npz')), ('test',)
  )
  assert brief['test']['number'] == MOST_NAMES + 1 and len(brief['test']['sha256']) == 64
  assert write_names(brief)['test'].endswith(' and 191 more')


@pytest.mark.parametrize('kind', ['file', 'arrays', 'table'])
def test_float_targets_make_a_regression_of_any_kind_of_arrays(tmp_path, kind):
  def written(place, names):
    groups = np.repeat(names, 5)
    x = np.arange(len(groups) * 2, dtype=np.float32).reshape(-1, 2)
    np.savez(place, x=x, y=np.stack([x[:, 0], 7 - x[:, 1]], 1), groups=groups)
    return place

  if kind == 'file':
    place = written(tmp_path / 'x.npz', list('abcdef'))
  else:
    place = tmp_path / kind
    place.mkdir()
    for part, names in (('train', 'ab'), ('val', 'cd'), ('test', 'ef')):
      written(place / f'{part}.npz', list(names))
      if kind == 'table':
        save_table(arrays(place / f'{part}.npz'), place / part)
        (place / f'{part}.npz').unlink()
  task = made(f'{"table" if kind == "table" else "arrays"}:{place},shots=2,queries=3')
  assert (task.num_outputs, task.metric) == (2, 'loss')
  train, test = task.table('train'), task.table('test')
  np.testing.assert_allclose([train.y.mean(), train.y.std()], [0, 1], atol=1e-6)
  assert len(test.names) in (1, 2) and test.encoding == train.encoding
  assert task.source('train', 1).plan(jax.random.key(0)).support.y.shape == (1, 2)
  assert 'task' in task.said() and 'mean and deviation of training targets' in task.said()
