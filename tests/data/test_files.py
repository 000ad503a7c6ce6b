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
  assert '--data_dir or METAKIT_DATA' in message and 'https://letters.org' in message


def test_no_folder_and_a_folder_that_is_not_there_are_named(folder):
  with pytest.raises(FileNotFoundError, match='letters: no data folder given; set --data_dir'):
    files.find_data(None, 'letters', 'a.zip')
  with pytest.raises(FileNotFoundError, match=r'there is no folder .*nowhere'):
    files.find_data(folder / 'nowhere', 'letters', 'a.zip')


def test_a_choice_is_answered_with_the_accepted_ones():
  with pytest.raises(ValueError, match="split='val' is unknown; use one of train, test"):
    files.check_choice('split', 'val', ('train', 'test'))


def test_size_errors_tell_shorter_from_longer():
  assert 'x.gz: truncated: 5 of 9 bytes' in str(files.truncated('x.gz', 5, 9))
  assert 'x.gz: too long: 9 of 5 bytes' in str(files.truncated('x.gz', 9, 5))
