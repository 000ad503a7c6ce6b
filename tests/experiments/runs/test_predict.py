"""Predictions of a user's own examples: what is written is what the learner says."""

import csv
import dataclasses
import functools

import jax
import numpy as np
import pytest
from PIL import Image

import metakit
from experiments.runs.predict import Options, predict
from metakit.data.encodings import text_encoding
from metakit.trained import Inputs, MadeOf, Trained
from tests.experiments.commands import run
from tests.experiments.output.test_report import Page

ENCODING = text_encoding(64, 'words', shortest=1, longest=1)
MADE = {
  'pictures': (
    MadeOf('prototypical', 'mlp:width=8,depth=1', 2),
    Inputs((8, 8, 1), 'uint8', 99, 60),
  ),
  'texts': (
    MadeOf('prototypical', 'mlp:width=8,depth=1', 2),
    Inputs((64,), 'float32', 0.01, 0.1, ENCODING),
  ),
  'numbers': (MadeOf('maml', 'mlp:width=8,depth=1', 2), Inputs((2,), 'float32', 0, 1)),
  'regression': (
    MadeOf('maml', 'mlp:width=8,depth=1', 1, 'squared_error'),
    Inputs((2,), 'float32', 0, 1),
  ),
}


@functools.cache
def made(kind):
  parts, inputs = MADE[kind]
  classifies = parts.objective == 'cross_entropy'
  number = parts.num_outputs
  x = np.zeros((number, *inputs.shape), inputs.dtype)
  y = np.arange(number, dtype=np.int32) if classifies else np.zeros((number, 1), np.float32)
  episode = metakit.Episode(*[metakit.Examples(x, y)] * 2)
  params = jax.device_get(jax.jit(parts.make().init)(jax.random.key(1), episode))
  card = {'metric': 'accuracy', 'mean': 0.5, 'ci95': 0.1, 'task': '<b>glyphs', 'training_task': 'g'}
  return Trained(parts.make, params, inputs, number, classifies, parts, card)


@pytest.fixture
def here(tmp_path, monkeypatch):
  """An empty folder with a trained learner of each kind."""
  monkeypatch.chdir(tmp_path)
  for kind in MADE:
    metakit.save(f'{kind}.safetensors', made(kind))
  return tmp_path


def draw(path, level, size=(8, 8)):
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = np.full(size, 60, np.uint8)
  pixels[: size[0] // 2] = level
  Image.fromarray(pixels).save(path)


def fill(here):
  """Writes good examples of every kind."""
  for name, level in (('cat', 90), ('dog & <b>', 250)):
    for number in range(2):
      draw(here / 'photos' / name / f'{number}.png', level - number)
      draw(here / 'new' / name / f'{number + 2}.png', level - number - 3)
  (here / 'said.csv').write_text('text,label\nhow much,price\n"where, then",place\n')
  (here / 'asked.csv').write_text('id,text,label\n7,where,place\n8,how <much>,\n')
  (here / 'points.csv').write_text('id;a;b;label\np;1;2;x\nq;-1;0;y\n')
  (here / 'more.csv').write_text('b;a\n2;1\n0;-1\n1e-3;4\n')
  (here / 'targets.csv').write_text('a,b,height,name\n1,2,0.5,p\n-1,0,1.5,q\n')


def options(kind, support, query, **changed):
  usual = {'output': 'out.csv', 'label': ['label'], 'overwrite': False, 'seed': 0}
  return Options(f'{kind}.safetensors', str(support), str(query), **{**usual, **changed})


def written(path='out.csv'):
  with open(path, newline='') as file:
    return list(csv.reader(file))


def test_pictures_in_folders(here, capsys):
  fill(here)
  predict(options('pictures', 'photos', 'new'))
  said, warned = capsys.readouterr()
  assert warned.startswith(
    '4 examples of 2 classes (cat, dog & <b>) in photos; 4 queries in new, 4 of them with a class; '
    'prototypical on pictures, inductive: each query is predicted by itself\n'
  )
  assert 'accuracy 100.0%: 4 of 4 queries are right' in said
  paths = sorted((here / 'new').rglob('*.png'))
  fitted = made('pictures').adapt(sorted((here / 'photos').rglob('*.png')), [0, 0, 1, 1])
  expected = fitted.predict_proba(paths)
  head, *rows = written()
  assert head == ['query', 'class', 'probability', 'cat', 'dog & <b>']
  assert [row[0] for row in rows] == [str(each.relative_to(here / 'new')) for each in paths]
  assert [row[1] for row in rows] == ['cat', 'cat', 'dog & <b>', 'dog & <b>']
  np.testing.assert_allclose(np.array([row[3:] for row in rows], float), expected, atol=1e-6)
  assert [float(row[2]) for row in rows] == [max(map(float, row[3:])) for row in rows]
  page = Page((here / 'out.html').read_text())
  assert len(page.all('li', class_='right')) == 4 and len(page.all('img')) == 8
  assert all(each['alt'] and each['src'].startswith('data:') for each in page.all('img'))
  assert '✓ dog & <b>' in page.text and '<b>glyphs' in page.text and 'http' not in page.text


def test_a_flat_folder_a_single_picture_and_paths_in_a_file(here, capsys):
  fill(here)
  draw(here / 'flat' / 'one.png', 250, size=(20, 16))
  draw(here / 'flat' / 'old' / 'two.png', 90)
  predict(options('pictures', 'photos', 'flat'))
  assert [row[:2] for row in written()[1:]] == [['old/two.png', 'cat'], ['one.png', 'dog & <b>']]
  assert 'accuracy' not in capsys.readouterr().out
  predict(options('pictures', 'photos', 'flat/one.png', overwrite=True))
  assert [row[1] for row in written()[1:]] == ['dog & <b>']
  lines = ['path,label,taken', 'photos/cat/0.png,3,x', 'photos/dog & <b>/0.png,10,x']
  (here / 'list.csv').write_text('\n'.join(lines))
  predict(options('pictures', 'list.csv', 'list.csv', overwrite=True))
  assert [row[:2] for row in written()] == [
    ['query', 'class'],
    ['photos/cat/0.png', '3'],
    ['photos/dog & <b>/0.png', '10'],
  ]
  assert '2 of the queries are examples that are learned from' in capsys.readouterr().err


def test_texts_and_the_accuracy_on_those_with_a_class(here, capsys):
  fill(here)
  predict(options('texts', 'said.csv', 'asked.csv'))
  out, error = capsys.readouterr()
  assert '2 queries in asked.csv, 1 of them with a class' in error
  assert 'accuracy 100.0%: 1 of 1 queries are right' in out
  assert [row[:2] for row in written()[1:]] == [['7', 'place'], ['8', 'price']]
  text = Page((here / 'out.html').read_text()).text
  assert 'how <much>' in text and 'where, then' in text and '✓ place' in text


def test_numbers_by_the_names_of_their_columns(here):
  fill(here)
  predict(options('numbers', 'points.csv', 'more.csv'))
  x = np.array([[1, 2], [-1, 0]], np.float32)
  fitted = made('numbers').adapt(x, ['x', 'y'])
  queries = np.array([[1, 2], [-1, 0], [4, 1e-3]], np.float32)
  head, *rows = written()
  assert head[3:] == ['x', 'y'] and [row[0] for row in rows] == ['row 1', 'row 2', 'row 3']
  found = np.array([row[3:] for row in rows], float)
  np.testing.assert_allclose(found, fitted.predict_proba(queries), atol=1e-6)


def test_a_regression(here, capsys):
  fill(here)
  predict(options('regression', 'targets.csv', 'targets.csv', label=['height']))
  x, y = np.array([[1, 2], [-1, 0]], np.float32), np.array([0.5, 1.5])
  fitted = made('regression').adapt(x, y)
  expected = fitted.predict(x)
  head, *rows = written()
  assert (head, [row[0] for row in rows]) == (['query', 'prediction'], ['p', 'q'])
  np.testing.assert_allclose([float(row[1]) for row in rows], expected, rtol=1e-5)
  error = np.square(expected - y).mean()
  assert f'mean squared error {error:.4g}: of 2 queries with a target' in capsys.readouterr().out
  assert '(is 1.5)' in Page((here / 'out.html').read_text()).text


def test_a_file_of_objects_is_as_good(here):
  fill(here)
  (here / 'said.jsonl').write_text('{"text": "how much", "label": 1}\n{"text": "then", "label": 2}')
  predict(options('texts', 'said.jsonl', 'said.jsonl'))
  assert [row[:2] for row in written()] == [['query', 'class'], ['how much', '1'], ['then', '2']]


def test_transductive_learners_are_said_to_be(here, capsys):
  fill(here)
  parts = MadeOf('prototypical:protocol=transductive', 'conv4:width=4,depth=1', 2, num_classes=9)
  trained = dataclasses.replace(made('pictures'), made_of=parts, make=parts.make)
  episode = metakit.Episode(*[metakit.Examples(np.zeros((2, 8, 8, 1), np.uint8), np.arange(2))] * 2)
  params = jax.device_get(jax.jit(parts.make().init)(jax.random.key(0), episode))
  metakit.save('pictures.safetensors', dataclasses.replace(trained, params=params))
  predict(options('pictures', 'photos', 'new'))
  assert 'transductive: the prediction of a query depends on the other' in capsys.readouterr().err


def test_the_command_line(here):
  fill(here)
  named = [f'--{name}={here / file}' for name, file in FILES.items()]
  status, out, error = run('predict', *named, '--label=label')
  assert (status, out.splitlines()[1]) == (0, f'predictions: {here / "out.csv"}'), error
  assert written()[1][:2] == ['7', 'place']
  again, out, error = run('predict', *named)
  assert (again, out) == (1, '') and 'out.csv exists; use another --output' in error


FILES = {
  'workdir': 'texts.safetensors',
  'support': 'said.csv',
  'query': 'asked.csv',
  'output': 'out.csv',
}
PICTURES, WORDS = ('pictures', 'photos', 'new'), ('texts', 'said.csv', 'asked.csv')
POINTS, HEIGHTS = (
  ('numbers', 'points.csv', 'more.csv'),
  ('regression', 'targets.csv', 'targets.csv'),
)
HEIGHT = {'label': ['height']}
write = lambda name, text: lambda here: (here / name).write_text(text)
touch = lambda name: lambda here: (here / name).write_bytes(b'\x89PNG no picture')


def empty(here):
  (here / 'photos' / 'bird').mkdir()
  (here / 'photos' / 'bird' / 'bird.heic').write_text('')


# What is said: what is asked, how the good examples are changed, other options.
MISTAKES = {
  'none.safetensors is no workdir of a training, checkpoint or': (
    ('none', *PICTURES[1:]),
    None,
    {},
  ),
  '--support=none: there is no such folder or file': (('pictures', 'none', 'new'), None, {}),
  '--query=none: there is no such folder or file': (('pictures', 'photos', 'none'), None, {}),
  'bird holds no picture (.bmp, .gif': (PICTURES, empty, {}),
  'beside folders of classes (cat, dog & <b>); put each': (
    PICTURES,
    touch('photos/stray.png'),
    {},
  ),
  'new/cat holds no folders; put the pictures of each class': (
    ('pictures', 'new/cat', 'new'),
    None,
    {},
  ),
  'photos/cat/0.png: no image file (15 bytes) of BMP': (PICTURES, touch('photos/cat/0.png'), {}),
  'new/cat/2.png: no image file (15 bytes) of BMP': (PICTURES, touch('new/cat/2.png'), {}),
  'cannot read gone.png: No such file': (
    ('pictures', 'photos', 'list.csv'),
    write('list.csv', 'path\ngone.png\n'),
    {},
  ),
  'photos is for pictures, and this learner was trained on texts; give a CSV file with the columns '
  'text, label': (('texts', 'photos', 'asked.csv'), None, {}),
  "said.csv has no column 'path'; it has text, label; this learner was trained on pictures": (
    ('pictures', 'said.csv', 'new'),
    None,
    {},
  ),
  "said.csv has no column 'class'; it has text, label; name the column": (
    WORDS,
    None,
    {'label': ['class']},
  ),
  'said.csv, row 2, column label is empty; fill it': (
    WORDS,
    write('said.csv', 'text,label\na,b\nc,\n'),
    {},
  ),
  "asked.csv, row 1: 'plaice' is no class of the support (place, price); mend it": (
    WORDS,
    write('asked.csv', 'text,label\nwhere,plaice\n'),
    {},
  ),
  'said.csv: line 2 has 3 cells and the first row names 2 columns; put cells': (
    WORDS,
    write('said.csv', 'text,label\na, b,c\n'),
    {},
  ),
  'said.csv has no rows below the names of its columns': (
    WORDS,
    write('said.csv', 'text,label\n'),
    {},
  ),
  "said.csv has two columns 'text'; give each a name": (
    WORDS,
    write('said.csv', 'text,text\na,b\n'),
    {},
  ),
  'said.csv is no UTF-8 text (invalid start byte); save it as UTF-8': (
    WORDS,
    touch('said.csv'),
    {},
  ),
  '3 classes are more than the 2 outputs of this learner': (
    POINTS,
    write('points.csv', 'a,b,label\n1,2,x\n1,2,y\n1,2,z\n'),
    {},
  ),
  'points.csv has 3 columns of numbers (a, b, c), and this learner was trained on 2 numbers': (
    POINTS,
    write('points.csv', 'a,b,c,label\n1,2,3,x\n'),
    {},
  ),
  "points.csv, row 1, column b: 'nan' is no number; mend it": (
    POINTS,
    write('points.csv', 'a,b,label\n1,nan,x\n'),
    {},
  ),
  'more.csv, row 2, column a is empty': (POINTS, write('more.csv', 'b,a\n1,2\n3,\n'), {}),
  "more.csv has no column 'b', which points.csv has; it has a, c": (
    POINTS,
    write('more.csv', 'a,c\n1,2\n'),
    {},
  ),
  "more.csv has a column 'c', which points.csv lacks; drop it": (
    POINTS,
    write('more.csv', 'a,b,c\n1,2,3\n'),
    {},
  ),
  '--label=a,b names 2 columns, and this learner predicts 1': (
    HEIGHTS,
    None,
    {'label': ['a', 'b']},
  ),
  "targets.csv, row 1, column height: 'tall' is no number; mend it": (
    HEIGHTS,
    write('targets.csv', 'a,b,height\n1,2,tall\n'),
    HEIGHT,
  ),
  'targets.csv, row 1, column height is empty; fill it': (
    HEIGHTS,
    write('targets.csv', 'a,b,height\n1,2,\n'),
    HEIGHT,
  ),
  'out.csv exists; use another --output, or --overwrite': (PICTURES, write('out.csv', 'mine'), {}),
  '--output=out.txt does not end in .csv; name it so': (PICTURES, None, {'output': 'out.txt'}),
  'cannot write said.csv/out.csv: said.csv is not a folder': (
    PICTURES,
    None,
    {'output': 'said.csv/out.csv'},
  ),
}


@pytest.mark.parametrize('said', MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(said, here, capsys):
  asked, change, other = MISTAKES[said]
  fill(here)
  if change:
    change(here)
  before = {path: path.read_bytes() for path in here.rglob('*') if path.is_file()}
  with pytest.raises(SystemExit) as end:
    predict(options(*asked, **other))
  out, error = capsys.readouterr()
  *_, last = error.splitlines()
  assert (end.value.code, out) == (1, '')
  assert last.startswith('error: ') and said in last
  assert sum(line.startswith('error') for line in error.splitlines()) == 1
  assert {path: path.read_bytes() for path in here.rglob('*') if path.is_file()} == before
