import math
import tracemalloc
import zipfile

import pytest

from metakit.data import files


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.delenv('METAKIT_DATA', raising=False)
  (tmp_path / 'letters').mkdir()
  (tmp_path / 'letters' / 'a.zip').touch()
  return tmp_path


def test_data_dir_names_the_folder_of_the_data_set_or_the_one_above(folder):
  expected = folder / 'letters' / 'a.zip'
  assert files.find_data(folder, 'letters', 'a.zip') == expected
  assert files.find_data(str(folder / 'letters'), 'letters', 'a.zip') == expected


@pytest.mark.parametrize('data_dir', [None, ''])
def test_metakit_data_is_the_default_and_data_dir_wins(folder, monkeypatch, data_dir):
  monkeypatch.setenv('METAKIT_DATA', str(folder))
  assert files.find_data(data_dir, 'letters', 'a.zip') == folder / 'letters' / 'a.zip'
  (folder / 'other').mkdir()
  with pytest.raises(FileNotFoundError):
    files.find_data(folder / 'other', 'letters', 'a.zip')


def test_the_first_name_that_exists_is_taken(folder):
  assert files.find_data(folder, 'letters', 'b.zip', 'a.zip').name == 'a.zip'
  (folder / 'letters' / 'b.zip').touch()
  assert files.find_data(folder, 'letters', 'b.zip', 'a.zip').name == 'b.zip'


def test_a_missing_file_is_one_line_with_places_and_remedy(folder):
  with pytest.raises(FileNotFoundError) as error:
    files.find_data(folder, 'letters', 'c.zip', 'c.gz', origin='https://letters.org')
  message = str(error.value)
  assert '\n' not in message
  assert f'no c.zip or c.gz in {folder} or {folder / "letters"}' in message
  assert 'data_dir=FOLDER or METAKIT_DATA' in message and 'https://letters.org' in message


def test_no_folder_and_a_folder_that_is_not_there_are_named(folder):
  with pytest.raises(FileNotFoundError, match='letters: no data folder given; set data_dir'):
    files.find_data(None, 'letters', 'a.zip')
  with pytest.raises(FileNotFoundError, match=r'there is no folder .*nowhere'):
    files.find_data(folder / 'nowhere', 'letters', 'a.zip')


def test_a_choice_is_answered_with_the_accepted_ones():
  with pytest.raises(ValueError, match="split='val' is unknown; use one of train, test"):
    files.check_choice('split', 'val', ('train', 'test'))


def test_size_errors_tell_shorter_from_longer():
  assert 'x.gz: truncated: 5 of 9 bytes' in str(files.truncated('x.gz', 5, 9))
  assert 'x.gz: too long: 9 of 5 bytes' in str(files.truncated('x.gz', 9, 5))


def archive_of(folder, data, packing=zipfile.ZIP_DEFLATED, says=None):
  path = folder / 'a.zip'
  with zipfile.ZipFile(path, 'w', packing) as archive:
    archive.writestr('drawing', data)
  if says is not None:  # the size in the table of contents
    content = bytearray(path.read_bytes())
    place = content.index(b'PK\x01\x02') + 24
    content[place : place + 4] = says.to_bytes(4, 'little')
    path.write_bytes(content)
  return zipfile.ZipFile(path)


def refused(archive, message, **more):
  tracemalloc.start()
  with archive, pytest.raises(ValueError, match=message) as error:
    files.read_member(archive, 'drawing', **more)
  most = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert '\n' not in str(error.value) and most < 1_000_000


def test_a_member_is_read_whole(tmp_path):
  with archive_of(tmp_path, b'ink' * 9000) as archive:
    assert files.read_member(archive, 'drawing') == b'ink' * 9000


def test_a_member_that_is_or_unpacks_to_more_than_it_may_is_refused(tmp_path):
  bomb = bytes(20_000_000)
  said = r'a\.zip: drawing: 20,000,000 bytes, more than the 1,000 that are read'
  refused(archive_of(tmp_path, bomb), said, most=1000)
  refused(archive_of(tmp_path, bomb, says=100), r'a\.zip: drawing: .*get or make the file again')
  refused(archive_of(tmp_path, bomb, zipfile.ZIP_LZMA), 'drawing: compression 14 is not read; pack')


def test_memory_is_asked_for_before_it_is_taken(monkeypatch):
  files.check_memory('small', 1000)
  left = files.memory_left()
  assert 0 < left < 2**50
  with pytest.raises(
    ValueError, match=r'x\.gz: needs 1,048,576\.0 GiB of memory, .* are left; give'
  ):
    files.check_memory('x.gz', 2**50)
  monkeypatch.setattr(files, 'memory_left', lambda: math.inf)
  files.check_memory('x.gz', 2**50)  # of a machine that does not say


def test_no_memory_is_one_line_that_names_the_file():
  with (
    pytest.raises(ValueError, match=r'^x: more memory than there is; give less'),
    files.naming('x'),
  ):
    raise MemoryError
