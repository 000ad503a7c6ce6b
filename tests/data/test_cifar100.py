import os
import pickle
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from metakit.data.cifar100 import cifar100
from metakit.data.cifar_archive import load_plain
from metakit.data.cifar_classes import CLASSES
from metakit.data.table import class_table
from metakit.episodes import few_shot
from metakit.fingerprint import fingerprint
from tests.data.real import real_data
from tests.data.small_sets import (
  cifar_files,
  dictionary2,
  dump3,
  images_of,
  shrink,
  write_cifar,
  write_folders,
  write_prepared,
)

COUNTS = {'train': 2, 'test': 1, 'all': 3}
image_sets = sys.modules['metakit.data.image_sets']


@pytest.fixture
def small(monkeypatch, cache):
  return shrink(monkeypatch, 'cifar100', counts=COUNTS)


@pytest.fixture
def parts(small):
  return images_of(small)


@pytest.fixture
def pictures(tmp_path, small, parts):
  return write_folders(tmp_path / 'wild' / 'CIFAR-100-dataset', small, parts).parent


def same(a, b):
  assert a.names == b.names and a.groups.tolist() == b.groups.tolist()
  np.testing.assert_array_equal(a.x, b.x)


def turned(files):
  """The same images, with the classes numbered from the other end."""
  numbers = {
    part: {**files[part], 'fine_labels': [99 - label for label in files[part]['fine_labels']]}
    for part in ('train', 'test')
  }
  return {'meta': {'fine_label_names': files['meta']['fine_label_names'][::-1]}, **numbers}


def test_every_form_gives_the_same_table(tmp_path, small, parts, pictures, monkeypatch):
  files = cifar_files(small, parts)
  given = {
    'tar': write_cifar(tmp_path / 'tar', files, packed=True),
    'unpacked': write_cifar(tmp_path / 'unpacked', files, packed=False).parent,
    'Python 3': write_cifar(tmp_path / 'new', turned(files), packed=False, dump=dump3),
  }
  prepared = tmp_path / 'tfds' / 'cifar100' / '3.0.2'
  prepared.mkdir(parents=True)
  (prepared / 'dataset_info.json').write_text('{}')
  given['prepared'] = tmp_path / 'tfds'

  def read_prepared(name, place, split):
    assert (name, place, split) == ('cifar100', prepared.parent, 'train+test')
    x, labels = (np.concatenate(each) for each in zip(*parts.values(), strict=True))
    return class_table(x[::-1], labels[::-1], [f'tfds {c}' for c in CLASSES])

  monkeypatch.setattr(image_sets, 'tfds_table', read_prepared)
  whole = cifar100(pictures, 'all')
  assert whole.names == CLASSES and whole.x.shape == (300, 32, 32, 3)
  assert whole.group_names[whole.groups[CLASSES.index('whale')]] == 'aquatic_mammals'
  for folder in given.values():
    same(cifar100(folder, 'all'), whole)
  checks = {
    fingerprint(few_shot(t, 5, 1, queries=1), t) for t in (whole, cifar100(given['tar'], 'all'))
  }
  assert len(checks) == 1
  # The images are with their classes, and those of train and test apart.
  for part, (x, labels) in parts.items():
    table = cifar100(tmp_path / 'tar', part)
    by_class = np.split(table.x, table.starts[1:])
    held = [sorted(image.tobytes() for image in of_class) for of_class in by_class]
    assert held == [sorted(i.tobytes() for i in x[labels == c]) for c in range(100)]
    same(cifar100(pictures, part), table)


@pytest.mark.slow  # it imports tensorflow-datasets; above its table is made up
def test_a_prepared_folder_gives_the_same_table(tmp_path, small, parts, pictures):
  write_prepared(tmp_path, small, parts)
  for part in COUNTS:
    for folder in (tmp_path, tmp_path / 'tfds', tmp_path / 'tfds' / 'cifar100'):
      same(cifar100(folder, part), cifar100(pictures, part))


def test_decoded_images_are_kept_until_a_file_changes(pictures, cache, monkeypatch):
  module = sys.modules['metakit.data.class_folders']
  decode, decoded = module.decode_image, []
  monkeypatch.setattr(module, 'decode_image', lambda *a: decoded.append(a[1]) or decode(*a))
  first = cifar100(pictures, 'test')
  assert len(decoded) == 100 and isinstance(first.x, np.memmap)
  same(cifar100(pictures, 'test'), first)
  assert len(decoded) == 100
  file = next(pictures.glob('*/test/apple/*'))
  Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(file)
  assert not cifar100(pictures, 'test').x[0].any() and len(decoded) == 200
  for kept in cache.rglob('x.npy'):
    kept.write_bytes(b'cut')
  assert len(cifar100(pictures, 'test').x) == 100 and len(decoded) == 300


def refused(folder, message, part='all', kind=ValueError):
  with pytest.raises(kind, match=message) as error:
    cifar100(folder, part)
  assert '\n' not in str(error.value)


def test_what_is_not_this_set_gets_one_line(tmp_path, pictures):
  root = pictures / 'CIFAR-100-dataset'
  apple = sorted((root / 'train' / 'apple').iterdir())[0]
  data = apple.read_bytes()
  Image.new('L', (32, 32)).save(apple)
  refused(pictures, r'1 of 300 images are not 32x32 RGB: train/apple/\S* \(32x32 grayscale\); conv')
  Image.new('RGB', (32, 30)).save(apple)
  refused(pictures, r'1 of 300 images are not 32x32 RGB: train/apple/\S* \(30x32 RGB\); convert')
  apple.write_bytes(data[:50])
  refused(pictures, r'train_\d+\.png: .*; get or make the file again')
  apple.unlink()
  refused(pictures, 'cifar100 has 3 images of each class, this copy 2 of apple; get it from http')
  refused(pictures, 'has 2 images of each class for train, this copy 1 of apple', 'train')
  shutil.rmtree(root / 'train' / 'apple')
  refused(pictures, 'no images of 1 of the 100 classes of cifar100: apple; get it', 'train')
  shutil.copytree(root / 'test', tmp_path / 'one')
  refused(tmp_path / 'one', 'no folder train of cifar100 in it, which says which images', 'train')
  other = tmp_path / 'other' / 'train' / 'n01532829'
  other.mkdir(parents=True)
  refused(other.parents[1], 'none of the 100 classes of cifar100, but n01532829: another set; give')
  (tmp_path / 'empty').mkdir()
  looked_for = r'cifar100: none of cifar-100-python.tar.gz, .*, cifar100/VERSION/dataset_info.json '
  looked_for += r'\(.*\), train/CLASS/\*.png .* in .*empty or .*; set data_dir=FOLDER .* \(get it'
  refused(tmp_path / 'empty', looked_for, kind=FileNotFoundError)


def test_an_archive_of_another_set_gets_one_line(tmp_path, small, parts):
  files = cifar_files(small, parts)
  of_ten = files | {'test': {'labels': [1, 2], 'data': files['test']['data']}}
  write_cifar(tmp_path, of_ten, packed=False)
  refused(
    tmp_path, 'test: no fine_labels in it, but data, labels: another set; use cifar-100', 'test'
  )
  write_cifar(tmp_path / 'b', {'data_batch_1': {}, 'meta': {}}, packed=True)
  refused(tmp_path / 'b', r'no test, train of CIFAR-100, but cifar-100-python/data_batch_1, ')
  write_cifar(tmp_path / 'c', files | {'test': {**files['test'], 'data': np.zeros((2, 7), 'u1')}},
              packed=False)  # fmt: skip
  refused(tmp_path / 'c', r'test: data of uint8 \(2, 7\): another set', 'test')
  archive = write_cifar(tmp_path / 'd', files, packed=True) / 'cifar-100-python.tar.gz'
  archive.write_bytes(archive.read_bytes()[:20000])
  refused(tmp_path / 'd', r'python\.tar\.gz: no \.tar archive, or truncated')


class Harmful:
  def __reduce__(self):
    return os.mkdir, ('harmed',)


@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_a_pickle_runs_nothing(tmp_path, monkeypatch, protocol):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=r'it: it names (posix|nt)\.mkdir, which no image set needs'):
    load_plain(pickle.dumps({'data': Harmful()}, protocol=protocol), 'it')
  assert not os.listdir()
  for name in ('builtins.eval', 'numpy.load', 'numpy.ndarray.tofile', 'codecs.open'):
    module, _, function = name.rpartition('.')
    with pytest.raises(ValueError, match='it names'):
      load_plain(f'c{module}\n{function}\n.'.encode(), 'it')
  zipped = b'c_codecs\nencode\n(U\x01xU\x04zlibtR.'
  with pytest.raises(ValueError, match='it encodes a text as zlib'):
    load_plain(zipped, 'it')


def test_a_damaged_pickle_gets_one_line():
  whole = dictionary2({'data': np.arange(12, dtype=np.uint8).reshape(3, 4), 'names': ['a', 'b']})
  assert load_plain(whole, 'it')['data'].tolist() == np.arange(12).reshape(3, 4).tolist()
  random = np.random.default_rng(0)
  broken = [whole[:cut] for cut in range(len(whole))]
  for _ in range(300):
    data = bytearray(whole)
    data[random.integers(len(data))] ^= 1 << random.integers(8)
    broken.append(bytes(data))
  refused_ones = 0
  for data in broken:
    try:
      load_plain(data, 'it')
    except ValueError as error:
      assert str(error).startswith('it: ') and '\n' not in str(error)
      refused_ones += 1
  assert refused_ones > len(whole)


def test_other_pixels_than_the_official_ones_are_said(monkeypatch, pictures):
  module = sys.modules['metakit.data.cifar100']
  official = module.IMAGES._replace(checksums={'test': '0123'})
  monkeypatch.setattr(module, 'IMAGES', official)
  with pytest.warns(UserWarning, match='other pixels than the official images of cifar100 .test: '):
    cifar100(pictures, 'test')


def test_what_cannot_be_kept_is_read_and_said(tmp_path, monkeypatch, pictures):
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  with pytest.warns(UserWarning, match=r'is decoded at every start.*; set XDG_CACHE_HOME to'):
    assert len(cifar100(pictures, 'test').x) == 100


def test_real_images_have_the_published_mean_and_deviation(cache):
  """(0.5071, 0.4865, 0.4409) and (0.2673, 0.2564, 0.2762) of the training images."""
  real_data('cifar100')
  x = np.asarray(cifar100(real_data(), 'train').x).reshape(-1, 3)
  np.testing.assert_allclose(x.mean(0) / 255, [0.5071, 0.4865, 0.4409], atol=1e-4)
