import numpy as np
import pytest
from PIL import Image

from metakit.data.folder import folder, read_folder

RNG = np.random.default_rng(0)


def write(path, shape=(6, 5), mode=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = RNG.integers(0, 256, shape, np.uint8)
  image = Image.fromarray(pixels)
  (image.convert(mode) if mode else image).save(path)
  return pixels


def refused(message, *values, kind=ValueError, **more):
  with pytest.raises(kind, match=message) as error:
    folder(*values, **more)
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


def test_sixteen_bits_are_rounded_and_said_to_be(tmp_path):
  (tmp_path / 'a').mkdir()
  deep = RNG.integers(0, 65536, (6, 5), np.uint16)
  Image.fromarray(deep).save(tmp_path / 'a/1.png')
  write(tmp_path / 'a/2.png')
  with pytest.warns(UserWarning, match='1 of 2 images have 16 bits .*a/1.png: rounded to 8'):
    table = folder(tmp_path)
  np.testing.assert_array_equal(table.x[0, ..., 0], np.rint(deep / 257))


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


PARTS = {'train': ['ant', 'bee'], 'validation': ['cow'], 'test': ['eel']}
CLASSES = ['ant', 'bee', 'cow', 'eel']


def write_parts(root, names=('Train', 'val', 'TEST'), inner=''):
  """One image of each class; its pixels are the number of the class."""
  for name, classes in zip(names, PARTS.values(), strict=True):
    for each in classes:
      path = root / name / inner / each / '1.png'
      path.parent.mkdir(parents=True)
      Image.new('L', (4, 4), CLASSES.index(each)).save(path)
  return root


@pytest.mark.parametrize('names', [('train', 'val', 'test'), ('Training', 'DEV', 'testing')])
def test_folders_with_names_of_parts_are_the_split(tmp_path, names):
  found = read_folder(write_parts(tmp_path, names))
  assert found.table.names == ('ant', 'bee', 'cow', 'eel') and found.table.group_names == ('0',)
  assert found.parts == {part: tuple(classes) for part, classes in PARTS.items()}
  assert found.said_by == 'folders'
  for part, classes in PARTS.items():
    table = folder(tmp_path, part=part)
    assert table.names == tuple(classes)
    assert table.x[:, 0, 0, 0].tolist() == [CLASSES.index(name) for name in classes]
  pooled = read_folder(tmp_path, pool=True)
  assert pooled.parts is None and pooled.table.names == found.table.names


def test_parts_may_hold_groups(tmp_path):
  table = folder(write_parts(tmp_path, inner='group'))
  assert table.names[0] == 'group/ant' and table.group_names == ('group',)
  assert folder(tmp_path, part='test').names == ('group/eel',)


def test_one_group_may_have_the_name_of_a_part(tmp_path):
  for name in ('Train/steam/1.png', 'Bus/blue/1.png'):
    write(tmp_path / name)
  assert folder(tmp_path).names == ('Bus/blue', 'Train/steam')


def test_what_cannot_be_parts_is_named_with_the_remedy(tmp_path):
  write_parts(tmp_path)
  write(tmp_path / 'other/elk/1.png')
  refused('Train, val are parts .*, but other is none; .* use split=group', tmp_path)
  assert 'TEST/eel' in read_folder(tmp_path, 4, pool=True).table.names
  (tmp_path / 'other').rename(tmp_path / '.other')
  write(tmp_path / 'TEST/ant/1.png')
  refused(
    "one class is in two parts: 'ant' .in train and test.; leave it in one .* split=class", tmp_path
  )
  assert read_folder(tmp_path, 4, pool=True).table.counts.tolist() == [2, 1, 1, 1]
  write(tmp_path / 'val/1.png')
  refused('are parts by their names, but val holds images', tmp_path)


def test_a_part_that_is_missing_is_an_error_when_it_is_asked_for(tmp_path):
  write(tmp_path / 'train/ant/1.png')
  assert folder(tmp_path, part='train').names == folder(tmp_path).names == ('ant',)
  refused(r"no part 'test' .it has train.; add it, or use split=class", tmp_path, None, 'test')


@pytest.mark.parametrize('given', [False, True])
def test_lists_of_classes_are_the_split(tmp_path, given):
  for name in ('ant', 'bee', 'cow', 'eel', 'unlisted'):
    write(tmp_path / 'images' / name / '1.png')
  lists = tmp_path / 'lists' if given else tmp_path / 'images'
  lists.mkdir(exist_ok=True)
  for part, classes in PARTS.items():
    (lists / f'{part}.txt').write_text('\n'.join(classes))
  found = read_folder(tmp_path / 'images', split=lists if given else None)
  assert found.parts == {part: tuple(classes) for part, classes in PARTS.items()}
  assert found.said_by == (str(lists) if given else 'test.txt, train.txt, validation.txt')
  chosen = folder(tmp_path / 'images', part='train', split=lists if given else None)
  assert chosen.names == ('ant', 'bee')


def test_the_csv_files_of_mini_imagenet_name_images(tmp_path):
  pixels = {name: write(tmp_path / 'images' / name) for name in ('1.png', '2.png', '3.png')}
  (tmp_path / 'train.csv').write_text('filename,label\n2.png,n01\n3.png,n02\n')
  (tmp_path / 'test.csv').write_text('filename,label\n1.png,n03\n')
  assert folder(tmp_path, part='train').names == ('n01', 'n02')
  np.testing.assert_array_equal(folder(tmp_path, part='test').x[0, ..., 0], pixels['1.png'])
  for name, bits in pixels.items():  # in the folder itself
    (tmp_path / 'images' / name).rename(tmp_path / name)
    np.testing.assert_array_equal(folder(tmp_path).x[int(name[0]) - 2, ..., 0], bits)
    (tmp_path / name).rename(tmp_path / 'images' / name)
  (tmp_path / 'val.csv').write_text('filename,label\n4.png,n04\n')
  refused('no image 4.png, which a list names', tmp_path)


def test_all_images_that_cannot_be_read_are_named_at_once_and_can_be_left_out(tmp_path):
  write(tmp_path / 'a/00.png')
  write(tmp_path / 'c/00.png', (9, 9))  # of another size: does not hide those behind it
  for number in range(12):
    (tmp_path / f'a/{number + 1:02}.png').write_bytes(b'no image')
  (tmp_path / 'b').mkdir()
  (tmp_path / 'b/01.png').write_bytes(b'')
  refused(
    r'13 images cannot be read: a/01\.png .no image file .8 byte.*.*a/10\.png .*\) and 3 more; .*'
    'skip=true',
    tmp_path,
  )
  with pytest.warns(
    UserWarning, match='left 13 images out that cannot be read: a/01.png, .* 3 more'
  ):
    table = folder(tmp_path, 6, skip=True)
  assert table.names == ('a', 'c') and table.counts.tolist() == [1, 1]
  for path in ('a/00.png', 'c/00.png'):
    (tmp_path / path).unlink()
  refused('13 images cannot be read', tmp_path, 6, skip=True)
