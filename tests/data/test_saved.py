import json

import jax
import numpy as np
import pytest

from metakit.data.saved import open_table, save_table
from metakit.data.table import class_table
from metakit.episodes.few_shot import few_shot
from metakit.sources import place

RNG = np.random.default_rng(0)
TABLE = class_table(
  RNG.integers(0, 256, (90, 7, 7, 1), np.uint8),
  RNG.permutation(np.repeat(np.arange(9), 10)),
  names=[f'class {c}' for c in range(9)],
  groups=np.arange(9) // 3,
  group_names=['a', 'b', 'c'],
)


def test_a_saved_table_is_the_same_and_not_loaded(tmp_path):
  save_table(TABLE, tmp_path / 'new' / 'table')
  table = open_table(str(tmp_path / 'new' / 'table'))
  assert isinstance(table.x, np.memmap) and not table.x.flags.writeable
  for value, other in zip(table, TABLE, strict=True):
    np.testing.assert_array_equal(value, other)
  assert table.x.dtype == TABLE.x.dtype and isinstance(table.names, tuple)
  assert [p.name for p in (tmp_path / 'new').iterdir()] == ['table']


@pytest.mark.parametrize('dtype', [jax.numpy.bfloat16, jax.numpy.float8_e4m3fn])
def test_types_that_npy_files_do_not_name_are_kept(tmp_path, dtype):
  table = class_table(np.arange(8).reshape(4, 2).astype(dtype), [0, 0, 1, 1])
  save_table(table, tmp_path / 'table')
  x = open_table(tmp_path / 'table').x
  assert isinstance(x, np.memmap) and x.dtype == dtype
  np.testing.assert_array_equal(x, table.x)
  source = few_shot(table._replace(x=x), ways=2, shots=1, queries=1)
  assert place(source).data.dtype == dtype


def test_a_table_without_numbers_is_refused(tmp_path):
  save_table(TABLE, tmp_path / 'table')
  for x in (np.zeros(90, 'V2'), np.zeros(90, 'U3'), np.float32(3)):
    np.save(tmp_path / 'table' / 'x.npy', x)
    with pytest.raises(ValueError, match=r'x\.npy: .* of shape .*, no rows of numbers; save it'):
      open_table(tmp_path / 'table')


def test_classes_that_do_not_agree_are_damaged(tmp_path):
  save_table(TABLE, tmp_path / 'table')
  path = tmp_path / 'table' / 'classes.json'
  held = json.loads(path.read_text())
  changes = {'starts': held['starts'][::-1], 'names': held['names'][1:], 'groups': [7] * 9}
  for name, value in changes.items():
    path.write_text(json.dumps(held | {name: value}))
    with pytest.raises(ValueError, match=r'classes\.json: its starts, counts, .* do not agree'):
      open_table(tmp_path / 'table')


def test_nothing_is_overwritten(tmp_path):
  (tmp_path / 'notes').write_text('mine')
  with pytest.raises(FileExistsError, match='exists; give a folder that does not'):
    save_table(TABLE, tmp_path)
  assert [p.name for p in tmp_path.iterdir()] == ['notes']


def test_a_failed_write_leaves_no_folder(tmp_path, monkeypatch):
  def full(*_, **__):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(np, 'save', full)
  with pytest.raises(OSError, match='No space left'):
    save_table(TABLE, tmp_path / 'table')
  assert not list(tmp_path.iterdir())


def test_missing_and_damaged_tables_are_named(tmp_path):
  folder = tmp_path / 'table'
  with pytest.raises(FileNotFoundError, match=r'no x\.npy in .*table; write the table'):
    open_table(folder)
  save_table(TABLE, folder)
  x, classes = (folder / 'x.npy').read_bytes(), (folder / 'classes.json').read_text()
  (folder / 'x.npy').write_bytes(x[:-1])
  with pytest.raises(
    ValueError, match=rf'x\.npy: no \.npy file, or truncated \({len(x) - 1} bytes'
  ):
    open_table(folder)
  for rows in (80, 100):
    np.save(folder / 'x.npy', np.concatenate([TABLE.x, TABLE.x])[:rows])
    with pytest.raises(ValueError, match=rf'classes\.json counts 90 rows, x\.npy has {rows}'):
      open_table(folder)
  (folder / 'x.npy').write_bytes(x)
  for text in (classes[:50], '{}', '[1]'):
    (folder / 'classes.json').write_text(text)
    with pytest.raises(ValueError, match=r'classes\.json: no table of classes'):
      open_table(folder)
