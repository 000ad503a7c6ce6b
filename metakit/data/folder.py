"""A folder of images: one folder for each class, perhaps within folders of groups or of parts."""

import collections
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from metakit.data.files import PathLike, listed
from metakit.data.images import decode_image, stack_images
from metakit.data.parts import (
  PARTS,
  ClassLists,
  PartedTable,
  check_apart,
  find_lists,
  part_named,
  read_lists,
  select_part,
)
from metakit.data.table import ClassTable, class_table

SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')


Classes = dict[str, list[Path]]  # name of a class -> its images


def folder(
  path: PathLike,
  size: int | None = None,
  part: str | None = None,
  *,
  split: PathLike | None = None,
  skip: bool = False,
) -> ClassTable:
  """Reads path/class/image or path/group/class/image files, all of them or those of a part.

  If all folders in `path` have names of parts (train, val or validation, test, ... in any case),
  they are parts and not groups: path/train/class/image or path/train/group/class/image. Otherwise
  lists in `path` (train.txt, val.txt and test.txt with a class in each line, the .csv files of
  mini-ImageNet, split.json or split.csv) say which class is in which part, if there are any.

  Files whose names start with a dot, or have an ending that is not in SUFFIXES, are ignored. Of an
  animation the first frame is taken.

  Args:
    path: the folder.
    size: pixels of height and width to which all images are resized; None if they all have one
      size.
    part: 'train', 'validation' or 'test' for its classes alone; None for all.
    split: which class is in which part, in place of what the folder says: a file or a folder of
      lists, see metakit.data.parts.read_lists.
    skip: leave images that cannot be read out, with a warning that says how many.

  Returns:
    x [images, height, width, channels] uint8: one channel if all images are grayscale, else RGB.
    Classes (named 'class' or 'group/class') and images are in order of their names, those of
    train before those of validation and test.

  Raises:
    FileNotFoundError: if there is no such folder or file.
    ValueError: if it holds no class folders, several layouts, a class in two parts, images that
      cannot be read (all are counted, ten named), or (size None) images of several sizes; if
      `part` is none of its parts.

  >>> import tempfile
  >>> from PIL import Image
  >>> with tempfile.TemporaryDirectory() as path:
  ...   for name in ('cat/1.png', 'cat/2.png', 'dog/1.png'):
  ...     (Path(path) / name).parent.mkdir(exist_ok=True)
  ...     Image.new('L', (40, 30)).save(Path(path) / name)
  ...   table = folder(path, size=28)
  >>> table.x.shape, table.names, table.counts.tolist()
  ((3, 28, 28, 1), ('cat', 'dog'), [2, 1])
  """
  parted = read_folder(path, size, split, skip=skip)
  if parted.left_out:
    warnings.warn(
      f'{path}: left {len(parted.left_out)} images out that cannot be read: '
      f'{listed(parted.left_out)}',
      stacklevel=2,
    )
  if part is None:
    return parted.table
  return select_part(parted.table, parted.parts or {}, part, where=f'folder {path}')


def read_folder(
  path: PathLike,
  size: int | None = None,
  split: PathLike | None = None,
  *,
  pool: bool = False,
  skip: bool = False,
) -> PartedTable:
  """As `folder`, but also returns the parts that the folder describes; `pool` ignores those."""
  root = Path(path).expanduser()
  if not root.is_dir():
    raise FileNotFoundError(f'folder: there is no folder {root}; give one with a folder a class')
  by_part = _part_folders(root, strict=split is None and not pool)
  lists, said_by = _lists(root, by_part, split, pool)
  classes = _class_files(root, by_part, lists)
  table, left_out = _table(root, classes, size, skip)
  return PartedTable(table, lists.parts if lists else None, said_by, left_out)


def _part_folders(root: Path, strict: bool) -> dict[str, Classes] | None:
  """Returns the classes of each part, if the folders in `root` have names of parts.

  If only some of the names are those of parts, all are groups or classes: a group may be called
  'Train', say.
  """
  holding = [child for child in _folders(root) if _holds_images(child, depth=2)]
  named = [child for child in holding if part_named(child.name)]
  several = len({part_named(child.name) for child in named}) > 1
  if not named or (len(named) < len(holding) and not several):
    return None
  flat = [child.name for child in named if _holds_images(child, depth=0)]
  other = [child.name for child in holding if child not in named]
  if flat and not several:
    return None
  if not strict and (flat or other):
    return None
  names = listed([child.name for child in named])
  if flat:
    raise ValueError(
      f'{root}: {names} are parts by their names, but {flat[0]} holds images; put them into a '
      'folder for each class, or rename classes that are called so'
    )
  if other:
    raise ValueError(
      f'{root}: {names} are parts by their names, but {other[0]} is none; move it elsewhere, or '
      'use split=group if all are groups'
    )
  parts: dict[str, Classes] = {part: {} for part in PARTS}
  for child in named:
    part = part_named(child.name) or ''
    parts[part] = _merged([parts[part], _classes(child)])  # val and validation, if there are both
  return {part: classes for part, classes in parts.items() if classes}


def _lists(
  root: Path, by_part: dict[str, Classes] | None, split: PathLike | None, pool: bool
) -> tuple[ClassLists | None, str]:
  """Returns which class is in which part, and what says so."""
  if split is not None:
    return read_lists(split), str(split)
  if pool:
    return None, ''
  if by_part:
    parts = {part: tuple(classes) for part, classes in by_part.items()}
    remedy = 'leave it in one of them, or use split=class, which pools the parts and splits anew'
    check_apart(parts, root, remedy)
    return ClassLists(parts, {}), 'folders'
  files = find_lists(root)
  return (read_lists(root), listed([file.name for file in files])) if files else (None, '')


def _class_files(
  root: Path, by_part: dict[str, Classes] | None, lists: ClassLists | None
) -> Classes:
  """Returns the images of each class: of its folders, or those that lists name."""
  if by_part:
    return _merged(list(by_part.values()))
  if lists and lists.files:
    names = {each.name for child in _folders(root) for each in (child, *_folders(child))}
    if not names.issuperset(lists.files):  # no folders of classes
      listed_names = [name for names in lists.parts.values() for name in names]
      return {name: _find_all(root, lists.files[name]) for name in listed_names}
  return _classes(root)


def _merged(several: Sequence[Classes]) -> Classes:
  joined: Classes = {}
  for classes in several:
    for name, images in classes.items():
      joined[name] = [*joined.get(name, []), *images]
  return joined


def _find_all(root: Path, names: Sequence[str]) -> list[Path]:
  """Finds the images that a list names, in the folder or in its folder `images`."""
  paths = []
  for name in names:
    places = root / name, root / 'images' / name
    path = next((place for place in places if place.is_file()), None)
    if path is None:
      raise ValueError(f'{root}: no image {name}, which a list names, here or in the folder images')
    paths.append(path)
  return paths


def _classes(root: Path) -> Classes:
  """Returns the images of each class, 'class' or 'group/class'."""
  flat = [child for child in _folders(root) if _holds_images(child, depth=0)]
  inner = [each for child in _folders(root) for each in _folders(child)]
  nested = [each for each in inner if _holds_images(each, depth=0)]
  if flat and nested:
    raise ValueError(
      f'{root}: images both in {flat[0].relative_to(root)} and in {nested[0].relative_to(root)}; '
      'use either class/image or group/class/image'
    )
  if not flat and not nested:
    raise ValueError(f'{root}: no images in class/image or group/class/image')
  return {each.relative_to(root).as_posix(): _images(each) for each in flat or nested}


def _folders(path: Path) -> Sequence[Path]:
  return sorted(child for child in path.iterdir() if child.is_dir() and child.name[0] != '.')


def is_image(file: Path) -> bool:
  """Tells whether a file is read as an image: by its ending, unless its name starts with a dot."""
  return file.suffix.lower() in SUFFIXES and file.name[0] != '.' and file.is_file()


def _holds_images(path: Path, depth: int) -> bool:
  """Whether there are images in a folder, or in one up to `depth` folders further down."""
  if any(is_image(file) for file in path.iterdir()):
    return True
  return depth > 0 and any(_holds_images(child, depth - 1) for child in _folders(path))


def _images(path: Path) -> list[Path]:
  return sorted(file for file in path.iterdir() if is_image(file))


def _table(
  root: Path, classes: Classes, size: int | None, skip: bool
) -> tuple[ClassTable, tuple[str, ...]]:
  """Decodes all images; returns their table and those that are left out."""
  labels: list[int] = []
  failed: dict[Path, Exception] = {}

  def decoded() -> Iterator[tuple[str, Image.Image]]:
    for number, files in enumerate(classes.values()):
      for file in files:
        try:
          image = decode_image(file.read_bytes(), str(file))
        except (ValueError, OSError) as error:
          failed[file] = error
        else:
          labels.append(number)
          yield str(file), image

  images = decoded()
  try:
    x = stack_images(images, size)
  except ValueError:
    if failed or labels:
      collections.deque(images, maxlen=0)  # reads on, so that all unreadable images are named
    _check_read(root, failed, skip and bool(labels))
    raise
  _check_read(root, failed, skip)
  present, places = np.unique(labels, return_inverse=True)
  names = [list(classes)[number] for number in present]
  left_out = tuple(file.relative_to(root).as_posix() for file in failed)
  groups, group_names = _groups(names)
  return class_table(x, places, names, groups=groups, group_names=group_names), left_out


def _check_read(root: Path, failed: dict[Path, Exception], skip: bool) -> None:
  """Raises ValueError naming the images that cannot be read, unless they are skipped."""
  if not failed or skip:
    return
  if len(failed) == 1:
    raise ValueError(f'{next(iter(failed.values()))}; or skip=true, which leaves it out')
  reason = lambda file: str(failed[file]).removeprefix(f'{file}: ').partition(';')[0]
  said = [f'{file.relative_to(root).as_posix()} ({reason(file)})' for file in failed]
  raise ValueError(
    f'{root}: {len(failed)} images cannot be read: {listed(said)}; get or make them again, or '
    'skip=true, which leaves them out'
  )


def _groups(names: Sequence[str]) -> tuple[list[int] | None, list[str] | None]:
  """Returns the group of each class, and the names of the groups; None if there are none."""
  group_of = [name.rpartition('/')[0] for name in names]
  if not any(group_of):
    return None, None
  group_names = list(dict.fromkeys(group_of))
  return [group_names.index(name) for name in group_of], group_names
