"""Image sets that come as archives, prepared by tensorflow-datasets, or as folders of images.

However a set is read, it must have all classes, as many images of each as the set has, and one
size and mode. The images of a class are then in one order, so equal images make equal tables, and
equal fingerprints (metakit.fingerprint).
"""

import hashlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metakit.data.class_folders import images_of_classes, read_images
from metakit.data.decoded import kept_table
from metakit.data.files import PathLike, data_folder, listed
from metakit.data.table import ClassTable, select_classes
from metakit.data.tfds import tfds_table

SHOWN = 16  # hexadecimal digits of a checksum
SPLITS = ('train', 'validation', 'test', 'trainval')


class ImageSet(NamedTuple):
  """What is known of a set, whichever way it is read.

  Attributes:
    name: of the set, and of the folder that tensorflow-datasets prepares.
    folders: names of its folder, in lower-case letters and digits: 'mini-ImageNet' is
      'miniimagenet'.
    classes: the names of its classes, in the order that tables have.
    shape: (height, width, channels) of an image.
    counts: how many images of each class the parts 'train' and 'test', and 'all', have.
    origin: where to get it.
    groups: the superclass of each class; () if there are none.
    same_pixels: whether every copy has the same pixels. The images of a class are then in the order
      of their SHA-256, and otherwise in that of the names of their files.
    checksums: part -> `checksum` of the official images, where it is known.
    others: the checksum of a part of another set that looks the same -> its name.
  """

  name: str
  folders: tuple[str, ...]
  classes: tuple[str, ...]
  shape: tuple[int, int, int]
  counts: Mapping[str, int]
  origin: str
  groups: tuple[str, ...] = ()
  same_pixels: bool = True
  checksums: Mapping[str, str] = {}
  others: Mapping[str, str] = {}


class Reading(NamedTuple):
  """A way in which a set can be read that is there.

  Attributes:
    place: the folder or file, for messages.
    files: all files that are read. Their names, sizes and times tell whether they have changed.
    read: part -> a table with the classes in any order.
    slow: whether it takes seconds, so that the result is kept.
  """

  place: Path
  files: Sequence[Path]
  read: Callable[[str], ClassTable]
  slow: bool = True


class Way(NamedTuple):
  """A form in which a set may be found.

  Attributes:
    looked_for: what `find` looks for, for messages.
    find: folder -> what it holds, or None.
    named: whether only a folder of the set's name is taken, since other sets look the same.
  """

  looked_for: str
  find: Callable[[Path], Reading | None]
  named: bool = False


def read_set(
  images: ImageSet, ways: Sequence[Way], data_dir: PathLike | None, *, part: str
) -> ClassTable:
  """Reads a part of an image set in the first of several ways that is there.

  Decoded images are kept in the user's cache (metakit.data.decoded), and mapped from there.

  Args:
    images: the set.
    ways: in the order in which they are tried, before prepared folders and folders of images.
    data_dir: the folder of the set, or one or two folders above it; None stands for the environment
      variable METAKIT_DATA.
    part: 'train' or 'test', or 'all' for the images of both.

  Raises:
    FileNotFoundError: if there is none; says what was looked for.
    ValueError: if a file is damaged, or it is not that set.
  """
  found = _find(images, [*ways, prepared(images), folders(images)], data_dir)

  def ordered() -> ClassTable:
    return in_order(images, found.read(part), part, place=found.place)

  kind = f'{images.name}-{part}'
  return kept_table(kind, found.place, found.files, make=ordered) if found.slow else ordered()


def _find(images: ImageSet, ways: Sequence[Way], data_dir: PathLike | None) -> Reading:
  root = data_folder(data_dir, images.name)
  for way in ways:
    for place in _places(root, images.folders):
      if way.named and _plain(place.absolute().name) not in images.folders:
        continue
      if (reading := way.find(place)) is not None:
        return reading
  looked_for = ', '.join(way.looked_for for way in ways)
  raise FileNotFoundError(
    f'{images.name}: none of {looked_for} in {root} or its folder {images.name}; '
    f'set data_dir=FOLDER or METAKIT_DATA to its folder (get it from {images.origin})'
  )


def _places(root: Path, names: Sequence[str]) -> Iterator[Path]:
  """Yields the folders where a set may lie: by their names, and last the folder itself."""
  children = [root / 'tfds', *_named(root, names)]
  for child in children:
    if child.is_dir():
      yield from _named(child, (*names, 'data'))
      if child.name != 'tfds':
        yield child
  yield from _named(root, ('data',))
  yield root


def _named(root: Path, names: Sequence[str]) -> list[Path]:
  if not root.is_dir():
    return []
  return sorted(each for each in root.iterdir() if _plain(each.name) in names and each.is_dir())


def _plain(name: str) -> str:
  return re.sub('[^a-z0-9]', '', name.lower())


def prepared(images: ImageSet) -> Way:
  """Returns the way to read what tensorflow-datasets has prepared, a folder of the set's name."""

  def find(place: Path) -> Reading | None:
    versions = sorted(place.glob('*/dataset_info.json')) if place.name == images.name else []
    if not versions:
      return None
    files = [file for info in versions for file in sorted(info.parent.iterdir())]
    return Reading(place, files, lambda part: _numbered(images, place, part))

  return Way(f'{images.name}/VERSION/dataset_info.json (prepared by tensorflow-datasets)', find)


def _numbered(images: ImageSet, place: Path, part: str) -> ClassTable:
  """Reads a prepared folder; its classes get the names that they have here, by their numbers."""
  table = tfds_table(images.name, place, 'train+test' if part == 'all' else part)
  if len(table.names) != len(images.classes):
    raise ValueError(
      f'{place}: {len(table.names)} classes, where {images.name} has {len(images.classes)}; '
      'prepare it again'
    )
  return table._replace(names=images.classes)


def folders(images: ImageSet) -> Way:
  """Returns the way to read a folder of images, CLASS/image or PART/CLASS/image."""

  def find(place: Path) -> Reading | None:
    parts = images_of_classes(place, images.classes)
    if parts is None:
      return None

    def read(part: str) -> ClassTable:
      if part != 'all' and part not in parts:
        raise ValueError(
          f'{place}: no folder {part} of {images.name} in it, which says which images are for '
          f'{part}; give one with the folders train and test (get it from {images.origin})'
        )
      merged: dict[str, list[Path]] = {}
      for each in parts.values() if part == 'all' else [parts[part]]:
        for name, files in each.items():
          merged[name] = [*merged.get(name, []), *files]
      check_counts(images, {name: len(files) for name, files in merged.items()}, part, place=place)
      return read_images({name: merged[name] for name in images.classes}, images.shape, place)

    files = [file for classes in parts.values() for each in classes.values() for file in each]
    return Reading(place, files, read)

  return Way('train/CLASS/*.png (or .jpg, ...)', find)


def in_order(images: ImageSet, table: ClassTable, part: str, *, place: Path) -> ClassTable:
  """Returns a table with classes and images in the order of the set.

  Raises:
    ValueError: if it lacks classes or images, or these have another size.
  """
  found = dict(zip(table.names, table.counts.tolist(), strict=True))
  check_counts(images, found, part, place=place)
  if table.x.shape[1:] != images.shape:
    raise ValueError(
      f'{place}: images of {_size(table.x.shape[1:])}, where {images.name} has '
      f'{_size(images.shape)}; get it from {images.origin}'
    )
  if table.names != images.classes:
    table = select_classes(table, [table.names.index(name) for name in images.classes])
  if images.same_pixels:
    keys = pixel_keys(table.x)
    labels = np.repeat(np.arange(len(table.names)), table.counts)
    order = np.array(sorted(range(len(keys)), key=lambda row: (labels[row], keys[row])))
    table = table._replace(x=table.x[order])
    _check_pixels(images, checksum([keys[row] for row in order]), part, place=place)
  if images.groups:
    names = tuple(sorted(set(images.groups)))
    numbers = np.array([names.index(group) for group in images.groups])
    return table._replace(groups=numbers, group_names=names)
  return table._replace(groups=np.zeros(len(table.names), np.int64), group_names=('0',))


def check_counts(images: ImageSet, found: Mapping[str, int], part: str, *, place: Path) -> None:
  """Raises ValueError unless each class has as many images as the set has.

  Args:
    images: the set.
    found: how many images of each class there are. Further classes do not matter.
    part: 'train', 'test' or 'all'.
    place: where they are, for the message.
  """
  expected, remedy = images.counts[part], f'get it from {images.origin}'
  missing = [name for name in images.classes if not found.get(name)]
  if len(missing) == len(images.classes):
    raise ValueError(
      f'{place}: none of the {len(missing)} classes of {images.name}, but {listed([*found], 3)}: '
      f'another set; give the folder of {images.name} ({remedy})'
    )
  if missing:
    raise ValueError(
      f'{place}: no images of {len(missing)} of the {len(images.classes)} classes of '
      f'{images.name}: {listed(missing)}; {remedy}'
    )
  of_part = '' if part == 'all' else f' for {part}'
  wrong = [f'{found[name]} of {name}' for name in images.classes if found[name] != expected]
  if wrong:
    raise ValueError(
      f'{place}: {images.name} has {expected} images of each class{of_part}, this copy '
      f'{listed(wrong, 3)}; {remedy}'
    )


def pixel_keys(x: np.ndarray) -> list[bytes]:
  """Returns the SHA-256 of each image of x [images, height, width, channels] uint8."""
  return [hashlib.sha256(image.tobytes()).digest() for image in x]


def checksum(keys: Sequence[bytes]) -> str:
  """Returns the checksum of a part: of the SHA-256 of its images, class by class and sorted."""
  return hashlib.sha256(b''.join(keys)).hexdigest()[:SHOWN]


def _check_pixels(images: ImageSet, found: str, part: str, *, place: Path) -> None:
  """Warns if the images are not those of the official files; ValueError if they are of others."""
  if found in images.others:
    raise ValueError(
      f'{place}: the images of {images.others[found]}, not of {images.name}; '
      f'get it from {images.origin}'
    )
  official = images.checksums.get(part, found)
  if found != official:
    warnings.warn(
      f'{place}: other pixels than the official images of {images.name} ({part}: checksum '
      f'{found}, not {official}); scores are not comparable. Get it from {images.origin}',
      stacklevel=2,
    )


def _size(shape: Sequence[int]) -> str:
  return ' x '.join(map(str, shape))


def part_of_classes(
  table: ClassTable, parts: Mapping[str, Sequence[str]], split: str
) -> ClassTable:
  """Returns the classes of a part, in the order of the table.

  Args:
    table: all classes.
    parts: the classes of 'train', 'validation' and 'test'.
    split: one of these, or 'trainval' for those of train and validation.
  """
  chosen = {*parts['train'], *parts['validation']} if split == 'trainval' else {*parts[split]}
  return select_classes(table, [n for n, name in enumerate(table.names) if name in chosen])
