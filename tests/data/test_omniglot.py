import functools
import io
import re
import shutil
import sys
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from metakit.data.omniglot import omniglot
from tests.data.real import real_data


@functools.cache
def part(split, protocol='vinyals', size=28, rotations=True):
  return omniglot(real_data('omniglot'), split, protocol, size=size, rotations=rotations)


@pytest.fixture
def unread(monkeypatch):
  """Reads no drawing, which takes seconds; all pixels of one are a sum of the name of its file."""
  module = sys.modules['metakit.data.omniglot']

  def sums(images, size):
    values = np.array([zlib.crc32(member) % 256 for _, member in images], np.uint8)
    return np.broadcast_to(values[:, None, None, None], (len(values), size, size, 1))

  monkeypatch.setattr(module, 'read_member', lambda archive, member: member.encode())
  monkeypatch.setattr(module, 'decode_image', lambda data, name: data)
  monkeypatch.setattr(module, 'stack_images', sums)
  return lambda *given, **named: omniglot(real_data('omniglot'), *given, size=1, **named)


def drawing(character, number):
  """Reads one drawing of a background character by itself; True where there is ink."""
  with zipfile.ZipFile(real_data('omniglot', 'images_background.zip')) as archive:
    members = sorted(m for m in archive.namelist() if f'/{character}/' in m and m.endswith('.png'))
    return ~np.asarray(Image.open(io.BytesIO(archive.read(members[number]))))


@pytest.mark.parametrize(
  'split, file, characters',
  [('train', 'train', 1028), ('validation', 'val', 172), ('test', 'test', 423)],
)
def test_vinyals_classes_are_the_published_ones_in_their_order(split, file, characters, unread):
  published = real_data('splits', 'protonet', 'omniglot', 'splits', 'vinyals', f'{file}.txt')
  names = unread(split).names
  assert len(names) == characters * 4
  assert list(names) == published.read_text().split()


every_part = pytest.mark.parametrize(
  'split', ['validation', *(pytest.param(s, marks=pytest.mark.slow) for s in ('test', 'train'))]
)


@every_part
def test_every_class_has_20_drawings_and_its_alphabet_as_group(split):
  table = part(split)
  assert table.x.dtype == np.uint8 and table.x.shape == (20 * len(table.names), 28, 28, 1)
  assert (table.counts == 20).all() and (np.diff(table.starts) == 20).all()
  alphabets = [table.group_names[group] for group in table.groups]
  assert alphabets == [name.split('/')[0] for name in table.names]
  assert set(table.groups) == set(range(len(table.group_names)))


@every_part
def test_paper_is_low_and_ink_high(split):
  x = part(split).x
  assert (x.max(axis=(1, 2, 3)) > 100).all()
  assert np.median(x, axis=(1, 2, 3)).max() == 0
  assert 0.04 < x.mean() / 255 < 0.12


@every_part
def test_rotations_are_quarter_turns_counterclockwise_of_the_same_drawings(split):
  table = part(split)
  x = table.x.reshape(-1, 4, 20, 28, 28)
  for turns in range(4):
    np.testing.assert_array_equal(x[:, turns], np.rot90(x[:, 0], turns, axes=(2, 3)))
  image = Image.fromarray(x[5, 0, 3])
  np.testing.assert_array_equal(x[5, 1, 3], np.asarray(image.rotate(90)))
  assert [name[-6:] for name in table.names[:4]] == ['rot000', 'rot090', 'rot180', 'rot270']


def test_without_rotations_each_character_is_one_class():
  upright, turned = part('validation', rotations=False), part('validation')
  assert len(upright.names) == 172 and upright.names[:1] == ('Hebrew/character01',)
  np.testing.assert_array_equal(
    upright.x, turned.x.reshape(-1, 4, 20, 28, 28, 1)[:, 0].reshape(upright.x.shape)
  )


def test_original_parts_are_25_and_5_and_20_alphabets(unread):
  tables = {s: unread(s, 'original', rotations=False) for s in ('train', 'validation', 'test')}
  assert [len(t.group_names) for t in tables.values()] == [25, 5, 20]
  assert [len(t.names) for t in tables.values()] == [813, 151, 659]
  assert len({name for t in tables.values() for name in t.names}) == 1623
  assert not set(tables['train'].group_names) & set(tables['validation'].group_names)
  assert [name.split('_')[0] for name in tables['validation'].group_names] == [
    'Ojibwe', 'Sanskrit', 'Syriac', 'Tagalog', 'Tifinagh'
  ]  # fmt: skip


def test_trainval_is_train_and_validation(unread):
  """And holds the same files in the same order."""
  both = unread('trainval', 'original', rotations=False)
  parts = [unread(s, 'original', rotations=False) for s in ('train', 'validation')]
  assert both.names == parts[0].names + parts[1].names
  assert both.group_names == parts[0].group_names + parts[1].group_names
  np.testing.assert_array_equal(both.x, np.concatenate([table.x for table in parts]))


def test_full_size_pixels_are_the_files_inverted():
  table = part('validation', 'original', 105, False)
  for name, number in (('Tagalog/character03', 0), ('Tifinagh/character55', 19)):
    row = table.starts[table.names.index(name)] + number
    np.testing.assert_array_equal(table.x[row, ..., 0], 255 * drawing(name, number).astype(int))


def test_resizing_keeps_the_ink_of_every_drawing():
  full, small = (part('validation', 'original', size, False).x for size in (105, 28))
  ink = [x.mean(axis=(1, 2, 3)) for x in (full, small)]
  np.testing.assert_allclose(ink[1], ink[0], rtol=0.12, atol=0.3)  # nearest pixel: off by 0.5


def test_data_dir_may_be_the_folder_above():
  real_data('omniglot', 'images_background.zip')
  above = omniglot(real_data(), 'validation', rotations=False)
  np.testing.assert_array_equal(above.x, part('validation', rotations=False).x)


def test_unknown_arguments_are_answered_with_the_accepted_ones():
  with pytest.raises(ValueError, match="split='val' is unknown; use one of train, validation"):
    omniglot('.', 'val')
  with pytest.raises(ValueError, match="protocol='lake' is unknown; use one of vinyals, original"):
    omniglot('.', protocol='lake')
  with pytest.raises(ValueError, match='size=0 is not positive'):
    omniglot(real_data('omniglot'), size=0)


def test_a_missing_zip_is_named_with_the_remedy(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'no images_background.zip in .*brendenlake'):
    omniglot(tmp_path)


@pytest.fixture
def background(tmp_path, monkeypatch):
  """A background set of 136 characters, as if it had no more."""
  path = tmp_path / 'images_background.zip'
  shutil.copyfile(real_data('omniglot', 'images_background_small1.zip'), path)
  characters = sys.modules['metakit.data.omniglot'].CHARACTERS
  monkeypatch.setitem(characters, 'images_background.zip', 136)
  return path


def test_a_truncated_zip_is_named(tmp_path, background):
  path = background
  path.write_bytes(path.read_bytes()[:1_000_000])
  with pytest.raises(
    ValueError, match=r'images_background.zip: no zip file, or truncated .1000000'
  ):
    omniglot(tmp_path, 'validation', 'original')


def test_a_file_that_is_no_zip_is_named(tmp_path):
  (tmp_path / 'images_background.zip').write_text('<html>404</html>')
  with pytest.raises(ValueError, match=r'images_background.zip: no zip file'):
    omniglot(tmp_path, 'validation', 'original')


def test_another_zip_under_the_name_is_refused_with_both_counts(tmp_path):
  small = real_data('omniglot', 'images_background_small1.zip')
  shutil.copyfile(small, tmp_path / 'images_background.zip')
  with pytest.raises(ValueError, match=r'images_background.zip: 136 of 964 characters'):
    omniglot(tmp_path, 'validation', 'original')


def rewrite(path, change):
  """Rewrites the zip with change(member, bytes) in place of each member; None leaves it out."""
  with zipfile.ZipFile(path) as old:
    members = {name: old.read(name) for name in old.namelist()}
  with zipfile.ZipFile(path, 'w') as new:
    for name, data in members.items():
      if (data := change(name, data)) is not None:
        new.writestr(name, data)


def test_a_lacking_drawing_is_named(tmp_path, background):
  rewrite(
    background, lambda name, data: None if 'Latin/character02' in name and '_07' in name else data
  )
  with pytest.raises(ValueError, match='19 of 20 drawings of Latin/character02'):
    omniglot(tmp_path, 'validation', 'original')


@pytest.mark.parametrize('damage', [lambda d: d[:100], lambda d: b'no image', lambda d: b''])
def test_a_damaged_drawing_is_named(tmp_path, damage, background):
  chosen = re.compile(r'.*Greek/character01/\d+_05\.png')
  rewrite(background, lambda name, data: damage(data) if chosen.fullmatch(name) else data)
  with pytest.raises(ValueError, match=r'background\.zip: .*Greek.*_05\.png: ') as error:
    omniglot(tmp_path, 'validation', 'original')
  assert '\n' not in str(error.value)


def test_a_flipped_byte_is_found_by_the_check_sum(tmp_path, background):
  path = background
  with zipfile.ZipFile(path) as archive:
    member = next(i for i in archive.infolist() if 'Greek' in i.filename and '_03' in i.filename)
  data = bytearray(path.read_bytes())
  data[member.header_offset + 200] ^= 1
  path.write_bytes(data)
  with pytest.raises(ValueError, match=r'Greek.*_03\.png: Bad CRC-32'):
    omniglot(tmp_path, 'validation', 'original')
