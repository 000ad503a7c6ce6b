import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from metakit.data import files
from metakit.data.arrays import arrays

X = np.arange(12.0).reshape(6, 2)
LABELS = np.array([2, 0, 1, 1, 0, 2])


def check_same(a, b):
  for value, other in zip(a, b, strict=True):
    np.testing.assert_array_equal(value, other)


@pytest.mark.parametrize('keys', [('x', 'y'), ('images', 'labels'), ('x', 'labels')])
def test_a_file_gives_the_table_of_its_arrays(tmp_path, keys):
  extra = {'names': ['a', 'b', 'c'], 'groups': [1, 0, 1], 'group_names': ['low', 'high']}
  np.savez_compressed(tmp_path / 'data.npz', **{keys[0]: X, keys[1]: LABELS}, **extra)
  table = arrays(tmp_path / 'data.npz')
  check_same(table, arrays(X, LABELS, **extra))
  check_same(table, arrays(str(tmp_path / 'data.npz')))
  assert table.x.tolist() == X[[1, 4, 2, 3, 0, 5]].tolist()
  assert table.names == ('a', 'b', 'c') and table.groups.tolist() == [1, 0, 1]


def test_without_names_every_label_that_occurs_is_a_class():
  assert arrays(X, LABELS * 10 + 5).names == ('5', '15', '25')
  table = arrays(X, ['eel', 'ant', 'cow', 'cow', 'ant', 'eel'])
  assert table.names == ('ant', 'cow', 'eel')
  check_same(table[:3], arrays(X, LABELS)[:3])


def test_groups_may_be_strings():
  table = arrays(X, LABELS, groups=['sea', 'land', 'sea'])
  assert table.group_names == ('land', 'sea') and table.groups.tolist() == [1, 0, 1]


def refused(message, *values, **more):
  with pytest.raises(ValueError, match=message) as error:
    arrays(*values, **more)
  assert '\n' not in str(error.value)


def test_wrong_values_are_named():
  refused('labels are missing', X)
  refused('6 examples but labels of shape .5,.', X, LABELS[:5])
  refused('6 examples but labels of shape .6, 1.', X, LABELS[:, None])
  refused('example 3 holds NaN or infinity', np.where(X == 7, np.nan, X), LABELS)
  refused('y holds one number for each row, and no tasks; give groups', X, LABELS / 2)
  refused('labels are bool; give integers or strings', X, LABELS > 0)
  refused('x is <U32?; give real numbers', X.astype(str), LABELS)
  refused('x is complex128; give real numbers of at most 64 bits', X + 0j, LABELS)
  refused('the data set has no examples', X[:0], [])
  refused('x holds Python objects', np.array([None] * 6), LABELS)
  refused('x is no array of one shape', [[1], [1, 2]], [0, 1])
  refused('label 2 has no name among the 2 class names', X, LABELS, names=['a', 'b'])
  refused("class 'd' has no examples", X, LABELS, names=['a', 'b', 'c', 'd'])
  refused('groups has shape .2,.', X, LABELS, groups=[0, 1])


@pytest.fixture
def path(tmp_path):
  np.savez(tmp_path / 'data.npz', x=np.zeros((500, 20)), y=np.arange(500) % 7)
  return tmp_path / 'data.npz'


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'no file .*none\.npz; give the path'):
    arrays(tmp_path / 'none.npz')


def test_a_truncated_file_is_named_with_its_size(path):
  path.write_bytes(path.read_bytes()[:50_000])
  refused(r'data\.npz: no \.npz file, or truncated \(50000 bytes\)', path)


@pytest.mark.parametrize('data', [b'', b'hello'])
def test_a_file_that_is_no_npz_is_named(path, data):
  path.write_bytes(data)
  refused(r'data\.npz: no \.npz file', path)


def test_an_npy_file_is_refused(tmp_path):
  np.save(tmp_path / 'x.npy', X)
  refused(r'x\.npy: no \.npz file', tmp_path / 'x.npy')


@pytest.mark.parametrize('place', [120, 40_000])
def test_a_flipped_byte_is_found(path, place):
  data = bytearray(path.read_bytes())
  data[place] ^= 1
  path.write_bytes(data)
  refused(r'data\.npz: x: ', path)


def test_a_lacking_array_is_named_with_those_there_are(tmp_path):
  np.savez(tmp_path / 'data.npz', x=X, targets=LABELS)
  refused(
    r'data\.npz: give one array y or labels; the file holds x, targets', tmp_path / 'data.npz'
  )


def test_two_arrays_for_one_thing_are_refused(tmp_path):
  np.savez(tmp_path / 'data.npz', x=X, images=X, y=LABELS)
  refused('give one array x or images; the file holds x, images, y', tmp_path / 'data.npz')


def test_python_objects_in_a_file_are_never_unpickled(tmp_path):
  np.savez(tmp_path / 'data.npz', x=X, y=np.array([{}] * 6, object))
  refused(r'data\.npz: y holds Python objects', tmp_path / 'data.npz')


def test_errors_of_the_table_name_the_file(tmp_path):
  np.savez(tmp_path / 'data.npz', x=X, y=LABELS[:4])
  refused(r'data\.npz: 6 examples but labels', tmp_path / 'data.npz')


@pytest.mark.parametrize('names', [None, ['a', 'b', 'c']])
def test_minus_one_is_no_class(tmp_path, names):
  labels = np.where(LABELS == 2, -1, LABELS)
  refused('label -1 is negative: 2 of 6 examples are without a label; leave', X, labels, names)
  assert arrays(X, labels.astype(str)).names == ('-1', '0', '1')
  np.savez(tmp_path / 'data.npz', x=X, y=labels)
  refused(r'data\.npz: label -1 is negative', tmp_path / 'data.npz')


def test_files_of_the_other_order_of_bytes_are_read(tmp_path):
  np.savez(tmp_path / 'data.npz', x=X.astype('>f8'), y=LABELS.astype('>i4'))
  table = arrays(tmp_path / 'data.npz')
  assert table.x.dtype == np.float64 and table.x.dtype.isnative
  check_same(table, arrays(X, LABELS))


def header(shape, descr='<f8'):
  start = io.BytesIO()
  np.lib.format.write_array_header_1_0(
    start, {'descr': descr, 'fortran_order': False, 'shape': shape}
  )
  return start.getvalue()


def packed(folder, **members):
  """An .npz file of raw members beside good labels."""
  path, labels = folder / 'bomb.npz', io.BytesIO()
  np.save(labels, LABELS)
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, data in ({'y': labels.getvalue()} | members).items():
      archive.writestr(f'{name}.npy', data)
  return path


def peak(path, message):
  """Bytes allocated until a file is refused."""
  tracemalloc.start()
  refused(message, path)
  most = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  return most


def test_a_shape_that_the_file_does_not_hold_is_refused_before_it_is_allocated(tmp_path):
  lie = packed(tmp_path, x=header((6, 10**7)) + bytes(96))
  said = r'bomb\.npz: x: truncated: 224 of 480000128 bytes'
  assert peak(lie, said) < 10_000_000
  for shape in ((2**70,), (6, 2**62)):
    refused('x: truncated: ', packed(tmp_path, x=header(shape)))
  refused('x: too long', packed(tmp_path, x=header((6, 2)) + bytes(4000)))
  refused("x holds values of type '?<U0", packed(tmp_path, x=header((10**12,), '<U0')))


def test_a_header_without_end_is_not_read(tmp_path):
  """Version 2 of the format gives a header's length in four bytes."""
  data = b'\x93NUMPY\x02\x00' + (16_000_000).to_bytes(4, 'little') + bytes(16_000_000)
  assert peak(packed(tmp_path, x=data), r'bomb\.npz: x: .*get or make') < 2_000_000


def test_arrays_larger_than_memory_are_refused(tmp_path, monkeypatch):
  path = packed(tmp_path, x=header((6, 400_000)) + bytes(8 * 2_400_000))
  monkeypatch.setattr(files, 'SMALL', 0)
  monkeypatch.setattr(files, 'memory_left', lambda: 10_000_000)
  said = r'bomb\.npz: needs 0\.0 GiB of memory, 0\.0 are left; give less data, or keep it on disk'
  assert peak(path, said) < 2_000_000


def test_a_type_that_npy_files_do_not_name_is_refused(tmp_path):
  refused(r'x holds values of type .V2; save float32', packed(tmp_path, x=header((6,), '<V2')))


def test_values_beside_a_file_are_refused(path):
  refused('labels, names given beside the file', path, LABELS, ['a'])
