import importlib.util
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from metakit.data.omniglot import omniglot
from metakit.data.tfds import _decoders, tfds_table
from tests.data.real import DATA, real_data

VERSION = ('tfds', 'omniglot', '3.0.0')


def test_tfds_omniglot_has_the_same_drawings_as_the_zip_files():
  table = tfds_table('omniglot', real_data(*VERSION).parents[1], 'small2')
  zipped = omniglot(real_data('omniglot'), 'validation', 'original', size=105, rotations=False)
  compared = 0
  for c, name in enumerate(table.names):
    alphabet, number = name.rsplit('_', 1)
    assert table.group_names[table.groups[c]] == alphabet
    key = f'{alphabet}/character{int(number) + 1:02d}'
    if key in zipped.names:
      z = zipped.names.index(key)
      # tfds shuffles the drawings of a class.
      ours = sorted(x.tobytes() for x in table.x[table.starts[c] :][: table.counts[c]])
      theirs = sorted(x.tobytes() for x in zipped.x[zipped.starts[z] :][: zipped.counts[z]])
      assert ours == theirs, name
      compared += 1
  assert compared == 42 + 17  # Sanskrit and Tagalog


@pytest.mark.parametrize('below', [(), ('tfds',), ('tfds', 'omniglot')])
def test_data_dir_may_be_the_data_set_or_one_or_two_folders_above(below):
  real_data(*VERSION)
  table = tfds_table('omniglot', DATA.joinpath(*below), 'small1[:50]')
  assert table.counts.sum() == 50 and len(table.names) <= 50


def test_only_the_classes_of_the_split_are_there_in_order_of_the_label():
  table = tfds_table('omniglot:3.0.0', real_data('tfds'), 'small1', size=28)
  assert table.x.shape == (2720, 28, 28, 1) and table.x.dtype == np.uint8
  assert len(table.names) == 136 and (table.counts == 20).all()
  labels = real_data(*VERSION, 'label.labels.txt').read_text().split()
  places = [labels.index(name) for name in table.names]
  assert places == sorted(places)
  assert sorted(table.group_names) == ['Balinese', 'Early_Aramaic', 'Greek', 'Korean', 'Latin']


def test_an_array_feature_may_be_the_input():
  table = tfds_table('omniglot', real_data('tfds'), 'small2[:30]', image_key='alphabet_char_id')
  assert table.x.shape == (30,) and np.issubdtype(table.x.dtype, np.integer)


def test_importing_takes_neither_tensorflow_nor_plots_nor_a_network():
  """Of the library and of this source; a connection would be an error."""
  check = (
    'import socket, sys; socket.socket.connect = None; import metakit, metakit.data.tfds; '
    'heavy = {"tensorflow", "tensorflow_datasets", "matplotlib", "torch", "flax"}; '
    'sys.exit(", ".join(heavy & sys.modules.keys()) or 0)'
  )
  subprocess.run([sys.executable, '-c', check], check=True)


def copy_of(tmp_path):
  target = tmp_path.joinpath(*VERSION)
  shutil.copytree(real_data(*VERSION), target, copy_function=shutil.copyfile)
  for path in (target, *target.iterdir()):
    path.chmod(0o755)
  return target


def check_refused(folder, message, kind=ValueError, **arguments):
  with pytest.raises(kind, match=message) as error:
    tfds_table(**{'name': 'omniglot', 'data_dir': folder, 'split': 'small1', **arguments})
  assert '\n' not in str(error.value)


def test_a_missing_data_set_or_version_is_named_with_the_remedy():
  folder = real_data('tfds')
  message = r"no prepared data set in .*tfds/.*; set data_dir=FOLDER .*file_format='array_record'"
  check_refused(folder, f'tfds:cifar10: {message}', FileNotFoundError, name='cifar10')
  check_refused(folder, f'omniglot:1.2.3: {message}', FileNotFoundError, name='omniglot:1.2.3')


def test_images_are_decoded_by_us_alone_also_those_that_nobody_asked_for():
  """tensorflow-datasets would decode any format, PostScript by an interpreter."""
  f = tfds.features
  image = f.Image(shape=(None, None, 3))
  features = f.FeaturesDict({
    'image': image,
    'label': f.ClassLabel(num_classes=3),
    'mask': image,
    'frames': f.Sequence(image),
    'inner': {'mask': image, 'boxes': f.Sequence(f.Tensor(shape=(2,), dtype=np.int32))},
  })  # fmt: skip
  data = b'%!PS-Adobe-3.0 EPSF-3.0'
  inner = {'mask': data, 'boxes': np.zeros((2, 2), np.int32)}
  record = {'image': data, 'label': np.int64(2), 'mask': data, 'frames': [data], 'inner': inner}
  decoders = _decoders(features, 'x', 'image', ['label'])
  found = features.decode_example_np(record, decoders=decoders)
  assert found['image'] == found['mask'] == found['inner']['mask'] == data
  assert found['frames'] == [data] and found['label'] == 2
  for key in ('frames', 'inner'):
    with pytest.raises(ValueError, match=f"feature '{key}' holds images within others"):
      _decoders(features, 'x', key, ['label'])


def test_missing_features_and_splits_are_answered_with_those_there_are():
  folder, features = real_data('tfds'), 'alphabet, alphabet_char_id, image, label'
  for key in ('image_key', 'label_key', 'group_key'):
    check_refused(folder, f"no feature 'pixels'; use one of {features}", **{key: 'pixels'})
  check_refused(folder, "split='val'.*'train', 'test', 'small1', 'small2'", split='val')
  check_refused(folder, "split='train.'", split='train[')


def test_a_group_must_not_differ_within_a_class():
  arguments = {'label_key': 'alphabet', 'group_key': 'label'}
  check_refused(real_data('tfds'), "feature 'label' differs within a class", **arguments)


def test_array_record_is_named_if_it_is_not_installed(monkeypatch):
  find = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util, 'find_spec', lambda m: None if m == 'array_record' else find(m)
  )
  check_refused(real_data('tfds'), r'array_record; pip install .metakit\[tfds\]', ImportError)


def test_a_truncated_or_missing_record_file_is_an_error_that_names_its_folder(tmp_path):
  folder = copy_of(tmp_path)
  record = next(folder.glob('omniglot-small1.array_record*'))
  record.write_bytes(record.read_bytes()[:-300_000])
  check_refused(tmp_path, r'omniglot.3\.0\.0: .*[Rr]iegeli')
  record.unlink()
  check_refused(tmp_path, r'omniglot.3\.0\.0: .*No such file or directory')


def test_a_data_set_prepared_as_tfrecord_is_refused_with_the_remedy(tmp_path):
  info = copy_of(tmp_path) / 'dataset_info.json'
  info.write_text(json.dumps(json.loads(info.read_text()) | {'fileFormat': 'tfrecord'}))
  check_refused(tmp_path, "prepared as tfrecord.*file_format='array_record'")


@pytest.mark.parametrize('file', ['dataset_info.json', 'features.json'])
def test_a_damaged_description_is_an_error_that_names_its_folder(tmp_path, file):
  (copy_of(tmp_path) / file).write_text('{"na')
  check_refused(tmp_path, r'omniglot.3\.0\.0: ')
