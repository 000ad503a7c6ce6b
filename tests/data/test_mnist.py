import gzip
import tracemalloc

import numpy as np
import pytest

from metakit.data.mnist import mnist
from tests.data.real import real_data


def idx(array):
  array = np.asarray(array, np.uint8)
  header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, '>u4').tobytes()
  return header + array.tobytes()


IMAGES = np.arange(20 * 28 * 28).reshape(20, 28, 28) % 251
LABELS = np.arange(20) % 10


def write(folder, images=None, labels=None, dash='-', compressed=True):
  files = {
    f't10k-images{dash}idx3-ubyte': idx(IMAGES) if images is None else images,
    f't10k-labels{dash}idx1-ubyte': idx(LABELS) if labels is None else labels,
  }
  for name, data in files.items():
    path = folder / (f'{name}.gz' if compressed else name)
    path.write_bytes(gzip.compress(data) if compressed else data)
  return folder


@pytest.mark.parametrize(
  'split, counts',
  [
    ('train', [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
    ('test', [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
  ],
)
def test_real_mnist_has_the_known_counts_of_each_digit(split, counts):
  table = mnist(real_data('mnist'), split)
  assert table.x.shape == (sum(counts), 28, 28, 1) and table.x.dtype == np.uint8
  assert table.counts.tolist() == counts
  assert table.names == tuple('0123456789')


def test_real_images_are_with_their_labels():
  # The published statistics of the training images; and zeros are hollow where ones have ink.
  table = mnist(real_data('mnist').parent)
  assert abs(table.x.mean() / 255 - 0.1307) < 1e-4
  centre = [x[:, 12:16, 13:15].mean() for x in np.split(table.x, table.starts[1:])]
  assert centre[0] < 30 and centre[1] > 150
  assert np.argmin(centre) == 0 and np.argmax(centre) in (1, 3, 8)


@pytest.mark.parametrize('dash', ['-', '.'])
@pytest.mark.parametrize('compressed', [True, False])
def test_all_names_of_the_files_are_found_and_read(tmp_path, dash, compressed):
  table = mnist(write(tmp_path, dash=dash, compressed=compressed), 'test')
  assert table.counts.tolist() == [2] * 10
  np.testing.assert_array_equal(table.x[6:8, ..., 0], IMAGES[[3, 13]])  # both of class 3


def test_an_unknown_split_is_answered_with_the_accepted_ones(tmp_path):
  with pytest.raises(ValueError, match="split='validation' is unknown; use one of train, test"):
    mnist(tmp_path, 'validation')


def test_a_missing_file_is_named(tmp_path):
  (write(tmp_path) / 't10k-labels-idx1-ubyte.gz').unlink()
  with pytest.raises(FileNotFoundError, match=r'mnist: no t10k-labels-idx1-ubyte\.gz or'):
    mnist(tmp_path, 'test')


def check_refused(folder, message):
  with pytest.raises(ValueError, match=message) as error:
    mnist(folder, 'test')
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('compressed', [True, False])
def test_a_truncated_file_says_how_much_is_there(tmp_path, compressed):
  write(tmp_path, images=idx(IMAGES)[:1234], compressed=compressed)
  check_refused(tmp_path, r't10k-images-idx3-ubyte.*: truncated: 1234 of 15696 bytes')


def test_a_truncated_gzip_file_says_how_much_is_there(tmp_path):
  path = write(tmp_path) / 't10k-images-idx3-ubyte.gz'
  path.write_bytes(path.read_bytes()[:150])
  check_refused(tmp_path, r'images-idx3-ubyte\.gz: truncated: \d+ of 15696 bytes')


def test_a_file_that_is_too_long_is_refused(tmp_path):
  write(tmp_path, images=idx(IMAGES) + b'12')
  check_refused(tmp_path, r'images-idx3-ubyte\.gz: too long: 15698 of 15696 bytes')


def test_a_file_cut_within_its_header_is_refused(tmp_path):
  write(tmp_path, images=idx(IMAGES)[:10])
  check_refused(tmp_path, 'truncated: 10 of 16 bytes')


def test_what_a_gzip_file_holds_beyond_its_header_is_not_unpacked(tmp_path):
  write(tmp_path, images=idx(IMAGES) + bytes(30_000_000))
  tracemalloc.start()
  check_refused(tmp_path, r'images-idx3-ubyte\.gz: too long: ')
  most = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert most < 1_000_000


@pytest.mark.parametrize('compressed', [True, False])
def test_a_header_of_more_than_memory_is_refused(tmp_path, compressed):
  header = bytes([0, 0, 8, 3]) + np.array([2**31, 28, 28], '>u4').tobytes()
  write(tmp_path, images=header + bytes(100), compressed=compressed)
  check_refused(tmp_path, r'images-idx3-ubyte.*: needs 1,568\.0 GiB of memory, .* are left')


def test_a_gzip_file_without_its_check_sum_is_refused(tmp_path):
  path = write(tmp_path) / 't10k-images-idx3-ubyte.gz'
  path.write_bytes(path.read_bytes()[:-6])
  check_refused(tmp_path, r'images-idx3-ubyte\.gz: truncated: it ends before its check sum')


@pytest.mark.parametrize('data', [b'', b'<html>404', idx(LABELS)])
def test_a_wrong_magic_number_is_shown(tmp_path, data):
  write(tmp_path, images=data)
  check_refused(tmp_path, rf"no IDX file of 3 dimensions \(it starts with '{data[:4].hex()}'\)")


def test_a_file_that_is_no_gzip_is_refused(tmp_path):
  (write(tmp_path) / 't10k-images-idx3-ubyte.gz').write_bytes(b'<html>404 not found</html>')
  check_refused(tmp_path, r'images-idx3-ubyte\.gz: no gzip file, or damaged')


def test_a_flipped_byte_is_found_by_the_check_sum(tmp_path):
  path = write(tmp_path) / 't10k-images-idx3-ubyte.gz'
  data = bytearray(gzip.compress(idx(IMAGES), compresslevel=0))
  data[5000] ^= 1
  path.write_bytes(data)
  check_refused(tmp_path, 'no gzip file, or damaged .*incorrect data check')


def test_labels_must_match_images(tmp_path):
  write(tmp_path, labels=idx(LABELS[:19]))
  check_refused(tmp_path, 'labels-idx1-ubyte.gz: 19 labels for the 20 images of t10k-images')


def test_labels_must_be_digits_and_every_digit_occur(tmp_path):
  write(tmp_path, labels=idx(LABELS + 1))
  check_refused(tmp_path, 'labels-idx1-ubyte.gz: label 10 has no name')
  write(tmp_path, labels=idx(np.where(LABELS == 4, 3, LABELS)))
  check_refused(tmp_path, "labels-idx1-ubyte.gz: class '4' has no examples")


def test_a_set_of_the_same_format_is_read_from_its_own_folder_alone(tmp_path):
  (tmp_path / 'kmnist').mkdir()
  write(tmp_path / 'kmnist')
  assert len(mnist(tmp_path, 'test', 'kmnist').x) == 20
  with pytest.raises(FileNotFoundError, match='fashion_mnist'):
    mnist(tmp_path, 'test', 'fashion_mnist')
  write(tmp_path)  # MNIST's own, say: the files have the same names
  with pytest.raises(FileNotFoundError, match='fashion_mnist'):
    mnist(tmp_path, 'test', 'fashion_mnist')
  with pytest.raises(ValueError, match='emnist'):
    mnist(tmp_path, 'test', 'emnist')
