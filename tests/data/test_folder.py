import numpy as np
import pytest
from PIL import Image

from metakit.data.folder import folder

RNG = np.random.default_rng(0)


def write(path, shape=(6, 5), mode=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = RNG.integers(0, 256, shape, np.uint8)
  image = Image.fromarray(pixels)
  (image.convert(mode) if mode else image).save(path)
  return pixels


def refused(message, *values, kind=ValueError):
  with pytest.raises(kind, match=message) as error:
    folder(*values)
  assert '\n' not in str(error.value)


def test_a_folder_is_a_class_and_pixels_are_kept(tmp_path):
  pixels = [write(tmp_path / name) for name in ('b/2.png', 'b/1.png', 'a/3.bmp')]
  table = folder(tmp_path)
  assert table.names == ('a', 'b') and table.counts.tolist() == [1, 2]
  assert table.group_names == ('0',)
  np.testing.assert_array_equal(table.x, np.stack([pixels[2], pixels[1], pixels[0]])[..., None])


def test_nested_folders_are_groups(tmp_path):
  for name in ('sea/eel/1.png', 'land/ant/1.png', 'land/cow/1.png', 'land/cow/2.png'):
    write(tmp_path / name)
  table = folder(str(tmp_path))
  assert table.names == ('land/ant', 'land/cow', 'sea/eel')
  assert table.group_names == ('land', 'sea') and table.groups.tolist() == [0, 0, 1]
  assert table.counts.tolist() == [1, 2, 1]


def test_one_colour_image_makes_all_rgb(tmp_path):
  gray, colour = write(tmp_path / 'a/1.png'), write(tmp_path / 'b/1.png', (6, 5, 3))
  table = folder(tmp_path)
  np.testing.assert_array_equal(table.x[0], np.repeat(gray[..., None], 3, axis=2))
  np.testing.assert_array_equal(table.x[1], colour)


@pytest.mark.parametrize('mode', ['1', 'P', 'LA', 'RGBA'])
def test_other_modes_become_grayscale_or_rgb(tmp_path, mode):
  write(tmp_path / 'a/1.png', (6, 5) if mode in ('1', 'LA') else (6, 5, 3), mode)
  table = folder(tmp_path)
  assert table.x.shape == (1, 6, 5, 1 if mode in ('1', 'LA') else 3)
  assert table.x.dtype == np.uint8 and table.x.max() > 200


def test_size_resizes_all_images(tmp_path):
  write(tmp_path / 'a/1.png', (40, 30))
  Image.new('L', (100, 60), 77).save(tmp_path / 'a/2.png')
  table = folder(tmp_path, size=8)
  assert table.x.shape == (2, 8, 8, 1) and (table.x[1] == 77).all()


def test_an_image_of_another_size_is_named_with_the_remedy(tmp_path):
  write(tmp_path / 'a/1.png')
  write(tmp_path / 'b/2.png', (9, 5))
  refused(r'2\.png: 9x5 pixels where the first image has 6x5; give size= .*size=6', tmp_path)


@pytest.mark.parametrize('data', [b'', b'no image at all'])
def test_a_file_that_is_no_image_is_named(tmp_path, data):
  write(tmp_path / 'a/1.png')
  (tmp_path / 'a/2.jpg').write_bytes(data)
  refused(rf'2\.jpg: no image file \({len(data)} bytes\)', tmp_path)


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'gif', 'bmp', 'tif'])
def test_a_truncated_image_is_named(tmp_path, suffix):
  path = tmp_path / f'a/1.{suffix}'
  write(path, (64, 64))
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  refused(rf'1\.{suffix}: ', tmp_path)


def test_one_transparent_drawing_leaves_a_table_gray(tmp_path):
  gray = write(tmp_path / 'a/1.png')
  ink = np.zeros((6, 5, 4), np.uint8)
  ink[2, 1:4, 3] = 255
  Image.fromarray(ink).save(tmp_path / 'a/2.png')
  table = folder(tmp_path)
  np.testing.assert_array_equal(table.x[..., 0], [gray, 255 - ink[..., 3]])


def test_files_that_are_no_images_are_left_alone(tmp_path):
  write(tmp_path / 'a/1.png')
  for name in ('a/.hidden.png', 'a/notes.txt', 'readme.md', 'empty/x.txt', '.git/b/1.png'):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text('no image')
  assert folder(tmp_path).names == ('a',)


def test_wrong_folders_are_named(tmp_path):
  refused('there is no folder .*nowhere', tmp_path / 'nowhere', kind=FileNotFoundError)
  write(tmp_path / '1.png')
  refused('no images in class/image or group/class/image', tmp_path)
  write(tmp_path / 'a/1.png')
  write(tmp_path / 'b/c/1.png')
  refused('images both in a and in b.c; use either', tmp_path)
  refused('size=0 is not positive', tmp_path / 'b', 0)
