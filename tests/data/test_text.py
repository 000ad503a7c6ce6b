"""Texts of a file, and files of columns."""

import gzip
import json
import sys

import numpy as np
import pandas
import pytest

from experiments.components.tasks import TASKS
from metakit.components.specs import build, parse
from metakit.data.columns import read_columns
from metakit.data.ngrams import hashed_ngrams
from metakit.data.text import read_text, text

ROWS = [('eels, swim', 'sea', 'train'), ('cows eat', 'land', 'val'), ('eels sleep', 'sea', 'train')]


def written(folder, text, name='x.csv'):
  (folder / name).write_text(text)
  return folder / name


def as_csv(delimiter=',', quote='"', names='text,label,split'):
  lines = [(f'{quote}{text}{quote}', *more) for text, *more in ROWS]
  return '\n'.join(delimiter.join(row) for row in [names.split(','), *lines]) + '\n'


OBJECTS = [dict(zip(('text', 'label', 'split'), row, strict=True)) for row in ROWS]
FILES = {
  'x.csv': lambda path: path.write_text(as_csv()),
  'semicolons.csv': lambda path: path.write_text('\ufeff' + as_csv(';', '')),
  'tabs.csv': lambda path: path.write_text(as_csv('\t', '').replace('\n', '\r\n')),
  'x.tsv': lambda path: path.write_text(as_csv('\t', '')),
  'x.csv.gz': lambda path: path.write_bytes(gzip.compress(as_csv().encode())),
  'x.jsonl': lambda path: path.write_text('\n\n'.join(map(json.dumps, OBJECTS))),
  'x.json': lambda path: path.write_text(json.dumps(OBJECTS)),
  'x.parquet': lambda path: pandas.DataFrame(OBJECTS).to_parquet(path),
}


@pytest.mark.parametrize('name', FILES)
def test_every_kind_of_file_is_the_same_table(tmp_path, name):
  FILES[name](tmp_path / name)
  assert read_columns(tmp_path / name) == {
    name: [row[place] for row in ROWS] for place, name in enumerate(('text', 'label', 'split'))
  }
  parted = read_text(tmp_path / name)
  assert parted.parts == {'train': ('sea',), 'validation': ('land',)}
  table = text(tmp_path / name, features=64)
  assert table.names == ('land', 'sea') and table.counts.tolist() == [1, 2]
  ordered = ['cows eat', 'eels, swim', 'eels sleep']
  np.testing.assert_array_equal(table.x, hashed_ngrams(ordered, 64))
  assert table.encoding == {
    'kind': 'texts',
    'features': 64,
    'units': 'characters',
    'shortest': 3,
    'longest': 5,
  }


def test_columns_have_any_name_and_a_class_of_a_group_has_both(tmp_path):
  path = written(tmp_path, 'said,by,of\na,1,ann\nb,1,bob\nc,2,bob\n')
  table = text(path, text='said', label='by', group='of', units='words')
  assert table.names == ('ann/1', 'bob/1', 'bob/2')
  assert table.group_names == ('ann', 'bob') and table.groups.tolist() == [0, 1, 1]
  assert table.encoding['longest'] == 1


@pytest.mark.parametrize('name', ['vectors.npy', 'vectors.npz', 'several.npz'])
def test_embeddings_stand_for_the_texts_in_the_order_of_the_file(tmp_path, name):
  x = np.arange(6, dtype=np.float32).reshape(3, 2)
  if name == 'vectors.npy':
    np.save(tmp_path / name, x)
  else:
    np.savez(tmp_path / name, x=x, **({'y': x} if name == 'several.npz' else {}))
  table = text(written(tmp_path, as_csv()), embeddings=tmp_path / name)
  np.testing.assert_array_equal(table.x, x[[1, 0, 2]])
  assert table.encoding is None


def made(spec):
  return build(parse('task', TASKS, spec), data_dir='', budget=1e9)


def test_the_parts_are_those_of_a_column_unless_told_and_it_is_said(tmp_path):
  lines = [f'text {n},topic {n},{["train", "val", "test"][n % 3]}' for n in range(6)]
  path = written(tmp_path, '\n'.join(['text,label,split', *lines, *lines]))
  task = made(f'text:{path},ways=2,queries=1')
  assert task.said() == (
    f'text {path}: 12 examples of 2,048 numbers in 6 classes (2 each); parts train (2 classes), '
    "validation (2 classes), test (2 classes), as the rows of column 'split' say"
  )
  assert task.table('test').names == ('topic 2', 'topic 5') and task.parted() == 'given'
  assert task.table('train').encoding['kind'] == 'texts'
  assert made(f'text:{path},split=class').said().endswith('classes drawn at random')
  lists = written(tmp_path, json.dumps({'train': ['topic 1'], 'test': ['topic 2']}), 'lists.json')
  assert made(f'text:{path},ways=1,queries=1,split={lists}').table('train').names == ('topic 1',)


MISTAKES = {  # file: (its text, how it is asked for, what is said)
  'of no kind': ('x.doc', 'a', '', 'its ending is none of .csv, .tsv, .jsonl'),
  'empty': ('x.csv', '', '', 'has no rows below the names of its columns'),
  'of names alone': ('x.csv', 'text,label\n', '', 'has no rows below the names'),
  'without names': (
    'x.csv',
    'good,1\nbad,0\n',
    '',
    "no column 'text' (the first row names",
  ),
  'of numbers': ('x.csv', '1,2\n3,4\n', '', 'its first row holds numbers alone; put the names'),
  'of two equal names': ('x.csv', 'text,text\na,b\n', '', "has two columns 'text'; give each a"),
  'with a short row': ('x.csv', 'text,label\na,b\nc\n', '', 'line 3 has 1 cells and the first row'),
  'with a free comma': ('x.csv', 'text,label\na,b,c\n', '', 'line 2 has 3 cells .* double quotes'),
  'with an open quote': ('x.csv', 'text,label\n"a,b\n', '', 'line 2: unexpected end of data'),
  'of another code': (
    'x.csv',
    b'text,label\n\xff,a\n',
    '',
    'is no UTF-8 text (invalid',
  ),
  'of no lines of JSON': (
    'x.jsonl',
    '{"text": "a"}\n{',
    '',
    'line 2 is no JSON (Expecting',
  ),
  'of lists': ('x.jsonl', '["a", "b"]', '', "row 1 is no object .*but ['a', 'b']"),
  'without a label': ('x.csv', 'text,label\na,b\nc,\n', '', "row 2 has nothing in column 'label'"),
  'without a text': ('x.csv', 'text,label\na,b\n ,c\n', '', "row 2 has no text in column 'text'"),
  'of other columns': ('x.csv', 'a,b\n1x,2\n', ',text=a,label=c', 'use label=COLUMN'),
  'of an unknown part': (
    *('x.csv', 'text,label,split\na,b,trial\n', ''),
    "row 1, column 'split': part 'trial' is unknown: use one of train, validation, test",
  ),
  'of a class in two parts': (
    *('x.csv', 'text,label,split\na,b,train\nc,b,test\n', ''),
    "one class is in two parts: 'b' (in train and test); tests .*: split=class parts them anew",
  ),
  'of few classes': ('x.csv', 'text,label\na,b\n', '', 'part train of text .*: ways=5 exceeds'),
  'no Parquet': ('x.parquet', 'a', '', 'x.parquet: .*; get or make the file again'),
  'without embeddings': ('x.csv', 'text,label\na,b\n', ',embeddings=v.npy', 'no file v.npy of emb'),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_file_that_is_wrong_gets_one_line(tmp_path, mistake):
  name, content, more, said = MISTAKES[mistake]
  (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
  said = said.replace('(', r'\(').replace(')', r'\)').replace('[', r'\[').replace(']', r'\]')
  with pytest.raises((ValueError, OSError), match=said) as error:
    made(f'text:{tmp_path / name}{more}').source('train')
  assert '\n' not in str(error.value)


def test_embeddings_of_another_number_and_a_missing_file_are_named(tmp_path, monkeypatch):
  path = written(tmp_path, as_csv())
  np.save(tmp_path / 'v.npy', np.zeros((2, 4)))
  with pytest.raises(ValueError, match=r'v.npy holds an array of shape \(2, 4\), and there are 3'):
    text(path, embeddings=tmp_path / 'v.npy')
  (tmp_path / 'v.npy').write_bytes(b'damaged')
  with pytest.raises(ValueError, match=r'v.npy: .*; get or make the file again'):
    text(path, embeddings=tmp_path / 'v.npy')
  np.savez(tmp_path / 'v.npz', a=np.zeros(3), b=np.zeros(3))
  with pytest.raises(ValueError, match='it holds a, b; call the embeddings x'):
    text(path, embeddings=tmp_path / 'v.npz')
  with pytest.raises(FileNotFoundError, match=r'there is no file y.csv; give a .csv, .tsv'):
    text('y.csv')
  monkeypatch.setitem(sys.modules, 'pandas', None)
  with pytest.raises(ValueError, match=r'pip install metakit\[tables\], or give a CSV file'):
    read_columns(written(tmp_path, 'a', 'x.parquet'))
