import json

import numpy as np
import pytest

from metakit.data.parts import PARTS, part_named, read_lists, select_part
from metakit.data.table import class_table, select_classes

EXPECTED = {'train': ('ant', 'bee'), 'validation': ('cow',), 'test': ('sea/eel',)}
TABLE = class_table(np.arange(5), np.arange(5), ['ant', 'bee', 'cow', 'sea/eel', 'land/eel'])
JSON = {'Train': ['ant', 'bee'], 'val': ['cow'], 'TEST': ['sea/eel']}
FORMS = {
  'json of parts': {'s.json': json.dumps(JSON)},
  'json of classes': {'s.json': json.dumps({n: p for p, ns in EXPECTED.items() for n in ns})},
  'csv with a header': {'s.csv': 'split,class\ntrain,ant\ntrain,bee\nval,cow\ntest,sea/eel\n'},
  'csv without': {'s.csv': 'ant,train\nbee,training\n\ncow,dev\nsea/eel,testing\n'},
  'lists': {'train.txt': 'ant\nbee\n\n', 'val.txt': ' cow\r\n', 'test.txt': 'sea/eel'},
  'csv lists': {'train.csv': 'label\nant\nbee', 'validation.csv': 'cow', 'test.csv': 'sea/eel'},
  'csv lists of files': {
    'train.csv': 'filename,label\n1.png,ant\n2.png,bee\n3.png,bee\n',
    'val.csv': 'filename,label\n4.png,cow\n',
    'test.csv': 'filename,label\n5.png,sea/eel\n',
  },
}


def written(folder, files):
  for name, text in files.items():
    (folder / name).write_text(text)
  return folder if len(files) > 1 else folder / name


@pytest.mark.parametrize('form', FORMS)
def test_all_forms_of_a_split_say_the_same(tmp_path, form):
  lists = read_lists(written(tmp_path, FORMS[form]))
  assert lists.parts == EXPECTED
  images = {'ant': ['1.png'], 'bee': ['2.png', '3.png'], 'cow': ['4.png'], 'sea/eel': ['5.png']}
  assert lists.files == (images if 'files' in form else {})


def test_names_of_parts():
  names = 'train', 'Training', 'VAL', 'valid', 'validation', 'dev', 'Test', 'testing', 'ant', ''
  expected = [*PARTS[:1] * 2, *PARTS[1:2] * 4, *PARTS[2:] * 2, None, None]
  assert [part_named(name) for name in names] == expected


def test_a_part_is_selected_by_names_or_their_last_components():
  parts = {'train': ('cow', 'ant'), 'test': ('sea/eel',)}
  assert select_part(TABLE, parts, 'train', where='x').names == ('ant', 'cow')
  assert select_part(TABLE, parts, 'test', where='x').names == ('sea/eel',)
  with pytest.raises(
    ValueError, match=r"x has no part 'validation' .it has train, test.; add it, or"
  ):
    select_part(TABLE, parts, 'validation', where='x')
  table = select_classes(TABLE, range(4))  # of one eel
  with pytest.raises(ValueError, match=r"one class is in two parts: 'sea/eel' .in train and test."):
    select_part(table, {'train': ('eel',), 'test': ('sea/eel',)}, 'train', where='x')
  for unknown in ('elk', 'eel'):  # of two groups
    with pytest.raises(ValueError, match=f"part train names '{unknown}', of which there are no"):
      select_part(TABLE, {'train': (unknown,)}, 'train', where='x')


@pytest.mark.parametrize(
  ('files', 'said'),
  [
    ({'s.json': '{"train": ["ant", "bee"], "val": ["bee"]}'}, r"'bee' .in train and validation."),
    ({'s.json': '{"train": ["ant"'}, r's\.json: '),
    ({'s.json': '["ant"]'}, r's\.json: no object'),
    ({'s.json': '{"ant": "trial"}'}, r"s\.json: part 'trial' is unknown"),
    ({'s.csv': 'class,number\nant,1\n'}, r's\.csv: no column part or split'),
    ({'s.csv': 'class,part\nant\n'}, r"s\.csv: a row of 1 columns, 'ant'"),
    ({'s.txt': 'ant'}, r's\.txt: the split is no \.json or \.csv file'),
    ({'train.txt': 'ant', 'a.txt': 'bee'}, r'no lists of classes in '),
  ],
)
def test_what_is_no_split_is_named(tmp_path, files, said):
  with pytest.raises((ValueError, FileNotFoundError), match=said) as error:
    read_lists(written(tmp_path, files))
  assert len(str(error.value).splitlines()) == 1
