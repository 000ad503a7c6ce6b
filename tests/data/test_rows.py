"""Rows of a file: classes or tasks of a regression, of columns of numbers and texts."""

import numpy as np
import pandas
import pytest

from experiments.components.tasks import TASKS
from metakit.components.specs import build, parse
from metakit.data.encodings import encode
from metakit.data.rows import read_rows, rows
from metakit.data.targets import standardised
from metakit.tasks import training_classes

TABLE = """shop,size,age,colour,price
north,10,1,red,100.5
south,20,,blue,200
north,30,3,red,300
south,40,5,,400
"""


def written(folder, text=TABLE, name='x.csv'):
  (folder / name).write_text(text)
  return folder / name


def made(spec):
  return build(parse('task', TASKS, spec), data_dir='', budget=1e9)


def test_each_value_of_a_column_is_a_task_of_cells_and_targets(tmp_path):
  table = rows(written(tmp_path), target='price', task='shop')
  assert table.names == ('north', 'south') and table.x.dtype == np.float32
  scale = lambda values, of: (np.array(values) - np.mean(of)) / np.std(of)
  size, age = scale([10, 30, 20, 40], [10, 20, 30, 40]), scale([1, 3, 3, 5], [1, 3, 5])
  texts = [[0, 0, 1], [0, 0, 1], [0, 1, 0], [1, 0, 0]]  # nothing, blue, red
  np.testing.assert_allclose(table.x, np.column_stack([size, age, texts]), rtol=1e-6)
  price = [100.5, 300, 200, 400]
  np.testing.assert_allclose(table.y[:, 0], scale(price, price))


def test_the_same_rows_in_any_form_are_the_same_numbers(tmp_path):
  raw = read_rows(written(tmp_path), target='price', task='shop').table
  encoding = standardised(raw, raw).encoding
  objects = [
    {'price': 0, 'colour': 'blue', 'age': None, 'size': 20},
    {'colour': ' red', 'age': '3', 'size': '30.0', 'shop': 'east'},
  ]
  expected = encode(encoding, objects)
  columns = [[20, float('nan'), 'blue'], (30, 3, 'red')]
  for x in (columns, np.array(columns, object), pandas.DataFrame(objects)):
    np.testing.assert_array_equal(encode(encoding, x), expected)
  green = encode(encoding, [{'colour': 'green', 'age': '', 'size': 25}])
  assert green.tolist() == [[0, 0, 0, 0, 0]]


def test_statistics_are_of_the_training_tasks_alone_and_it_is_said(tmp_path):
  lines = [
    f't{n % 5},{n},{"pq"[n % 2]},{n * n},{["train", "val", "test"][n % 5 % 3]}' for n in range(30)
  ]
  path = written(tmp_path, '\n'.join(['task,a,b,y,split', *lines]))
  task = made(f'rows:{path},target=y,task=task,shots=2,queries=2')
  assert (task.num_outputs, task.metric, training_classes(task)) == (1, 'loss', None)
  train, test = task.table('train'), task.table('test')
  assert train.names == ('t0', 't3') and test.names == ('t2',)
  np.testing.assert_allclose(train.x[:, 0].mean(), 0, atol=1e-6)
  np.testing.assert_allclose([train.x[:, 0].std(), train.y.std()], 1, rtol=1e-6)
  assert test.encoding == train.encoding and abs(test.x[:, 0].mean()) > 0.01
  assert task.source('train').data.shape == (12, 3)
  assert task.said() == (
    f'rows {path}: 30 examples of 2 columns (a, b) in 5 tasks (6 each); parts train (2 tasks), '
    "validation (2 tasks), test (1 task), as the rows of column 'split' say; mean and deviation of "
    'training targets: 271.2 and 251.9'
  )
  other = made(f'rows:{path},target=y,task=task,shots=2,queries=2,split=class')
  assert 'tasks drawn at random' in other.said()
  assert len(other.table('all').names) == 5


def test_without_a_task_the_values_of_the_target_are_classes(tmp_path):
  lines = [f'k{n % 10},{n},{n % 3},w{n}' for n in range(60)]
  path = written(tmp_path, '\n'.join(['kind,a,b,note', *lines]))
  task = made(f'rows:{path},target=kind,columns=a+b,ways=2,shots=2,queries=2')
  table = task.table('train')
  assert task.metric == 'accuracy' and len(table.names) == 6 and table.y is None
  assert [column['name'] for column in table.encoding['columns']] == ['a', 'b']
  np.testing.assert_allclose(table.x.mean(0), 0, atol=1e-6)
  assert '60 examples of 2 columns (a, b) in 10 classes (6 each)' in task.said()


PRICES = {'target': 'price', 'task': 'shop'}
MISTAKES = {  # what: (a change of TABLE, arguments, what is said)
  'no target': (
    (),
    {'task': 'shop'},
    "no column 'target' .the first row names 'shop', 'size',",
  ),
  'no task': ((), {**PRICES, 'task': 'town'}, "no column 'town' .*; use task=COLUMN"),
  'no such column': ((), {**PRICES, 'columns': 'sise'}, "'sise' .*; use columns=COLUMN"),
  'fractions as classes': ((), {'target': 'price'}, 'holds fractions, which are no classes; for a'),
  'a task without a name': (('south,20', ',20'), PRICES, "row 2 has nothing in column 'shop'"),
  'no target in a row': (('400', ''), PRICES, "row 4 has '' in column 'price', whose numbers are"),
  'a target that is none': (('400', 'dear'), PRICES, "row 4 has 'dear' in column 'price'"),
  'a number that is none': (('5,,', 'old,,'), PRICES, "row 4 has 'old' in column 'age', which hol"),
  'an infinite number': (('40,', 'inf,'), PRICES, "row 4 has 'inf' in column 'size', which holds"),
  'no columns left': ((), {**PRICES, 'columns': 'shop'}, 'has no columns for examples beside'),
  'groups of tasks': ((), {**PRICES, 'group': 'colour'}, 'group=colour is for classes; leave it'),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_mistake_gets_one_line(tmp_path, mistake):
  change, arguments, said = MISTAKES[mistake]
  path = written(tmp_path, TABLE.replace(*change) if change else TABLE)
  with pytest.raises(ValueError, match=said) as error:
    rows(path, **arguments)
  assert '\n' not in str(error.value) and str(path) in str(error.value)


def test_too_many_texts_are_no_column(tmp_path):
  path = written(tmp_path, 'target,note\n' + '\n'.join(f'a,note {n}' for n in range(201)))
  with pytest.raises(ValueError, match=r"'note' has 201 different texts.*; leave it out: columns="):
    rows(path)


def test_what_tasks_cannot_do_is_named_with_the_remedy(tmp_path):
  lines = [f't{n},{n},{n}' for n in [*range(5)] * 5 + [9]]
  path = written(tmp_path, '\n'.join(['task,a,target', *lines]))
  spec = f'rows:{path},task=task,queries=1'
  written(tmp_path, 't0\nt9', 'train.txt')
  written(tmp_path, 't1', 'test.txt')
  wrong = {
    'ways=3 is for classes, and rows .*x.csv is a regression; leave it out': 'ways=3',
    'sampler=within_group is for classes': 'sampler=within_group',
    r"exceeds the 1 examples of task 't9'; leave the task out .skip=true.": f'split={tmp_path}',
  }
  for said, more in wrong.items():
    with pytest.raises(ValueError, match=said):
      made(f'{spec},{more},shots=2').source('train')
  task = made(f'{spec},shots=2,skip=true,split={tmp_path}')
  assert task.source('train').data.shape == (6, 1) and task.table('train').names == ('t0',)
  assert 'left out of train: 1 task of fewer than 3 examples (t9)' in task.said()
  with pytest.raises(ValueError, match='2 tasks are too few for three parts; use at least 4, or'):
    made(f'rows:{written(tmp_path)},target=price,task=shop').source('train')


def test_other_rows_than_those_of_training_are_named():
  encoding = {
    'kind': 'rows',
    'columns': [{'name': 'a', 'mean': 0, 'deviation': 1}, {'name': 'b', 'texts': ['p']}],
  }
  wrong = {
    "row 1 of x lacks column 'b'; this learner was trained on a, b": [{'a': 1, 'b': 2}, {'a': 1}],
    "x lacks column 'a'": pandas.DataFrame({'b': [1]}),
    'x is one dict; give a list of rows, each with a, b': {'a': 1, 'b': 2},
    r'x has shape \(1, 3\), and this learner was trained on rows of 2 columns: a, b': [[1, 2, 3]],
    r'x has shape \(4, 1\), and': np.zeros((4, 1)),
    'row 1 of x is list, and others are dictionaries': [{'a': 1, 'b': 2}, [1, 2]],
    "row 1 has 'x' in column 'a', which holds numbers": [['x', 'p']],
  }
  for said, x in wrong.items():
    with pytest.raises(ValueError, match=said):
      encode(encoding, x)
