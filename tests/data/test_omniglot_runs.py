"""The official one-shot runs."""

import shutil
import zipfile

import numpy as np
import pytest

from metakit.data.omniglot import omniglot
from metakit.data.omniglot_runs import omniglot_runs
from tests.data.real import real_data


@pytest.fixture(scope='module')
def runs():
  return omniglot_runs(real_data('omniglot'))


def test_every_drawing_is_one_of_the_evaluation_set_with_its_character(runs):
  """All 800: both drawings of a right answer are of one character, a run is of one alphabet."""
  table = omniglot(real_data('omniglot'), 'test', 'original', rotations=False)
  character = np.repeat(np.arange(len(table.names)), table.counts)
  place = {image.tobytes(): number for image, number in zip(table.x, character, strict=True)}
  find = lambda part: np.array([[place[image.tobytes()] for image in run] for run in part.x])
  support, query = find(runs.support), find(runs.query)
  assert support.shape == query.shape == (20, 20)
  np.testing.assert_array_equal(np.take_along_axis(support, runs.query.y, 1), query)
  alphabets = np.asarray(table.groups)[support]
  assert (alphabets == alphabets[:, :1]).all()
  assert len(set(alphabets[:, 0])) == 10
  assert all(len(set(run)) == 20 for run in support)


def test_shapes_are_those_of_episodes(runs):
  for part in runs[:2]:
    assert part.x.shape == (20, 20, 28, 28, 1) and part.x.dtype == np.uint8
    assert (np.sort(part.y, axis=1) == np.arange(20)).all() and part.y.dtype == np.int32


def copied(folder, change):
  """all_runs.zip changed by (name, content) -> content, or None to leave a member out."""
  with (
    zipfile.ZipFile(real_data('omniglot', 'all_runs.zip')) as source,
    zipfile.ZipFile(folder / 'all_runs.zip', 'w') as target,
  ):
    for name in source.namelist():
      content = change(name, source.read(name))
      if content is not None:
        target.writestr(name, content)
  return folder


def test_what_is_missing_or_damaged_is_named(tmp_path):
  lost = lambda name, content: None if name.endswith('run03/training/class07.png') else content
  with pytest.raises(ValueError, match=r'all_runs\.zip: no run03/training/class07\.png'):
    omniglot_runs(copied(tmp_path, lost))
  cut = lambda name, content: content[:200] if name == 'run05/class_labels.txt' else content
  with pytest.raises(ValueError, match=r'run05/class_labels\.txt does not name 20 drawings'):
    omniglot_runs(copied(tmp_path, cut))
  broken = lambda name, content: b'PNG' if name == 'run02/test/item01.png' else content
  with pytest.raises(ValueError, match=r'run02/test/item01\.png: no image file'):
    omniglot_runs(copied(tmp_path, broken))
  shutil.rmtree(tmp_path)
  tmp_path.mkdir()
  with pytest.raises(FileNotFoundError, match=r'no all_runs\.zip in .*one-shot-classification'):
    omniglot_runs(tmp_path)
