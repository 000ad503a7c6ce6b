"""A folder of images: one folder a class, or one folder a group with a folder a class in it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from metakit.data.files import PathLike
from metakit.data.images import decode_image, stack_images
from metakit.data.table import ClassTable, class_table

SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')


def folder(path: PathLike, size: int | None = None) -> ClassTable:
  """Reads path/class/image or path/group/class/image files.

  Files whose names start with a dot or end in none of SUFFIXES are left alone. Of an animation the
  first frame is taken.

  Args:
    path: the folder.
    size: pixels of height and width to which all images are resized; None if they all have one
      size.

  Returns:
    x [images, height, width, channels] uint8: one channel if all images are grayscale, else RGB.
    Classes (named 'class' or 'group/class') and images are in order of their names.

  Raises:
    FileNotFoundError: if there is no such folder.
    ValueError: if it holds no class folders, both layouts, a damaged image, or (size None) images
      of several sizes; the file is named.
  """
  root = Path(path).expanduser()
  if not root.is_dir():
    raise FileNotFoundError(f'folder: there is no folder {root}; give one with a folder a class')
  classes = _class_folders(root)
  files = [_images(name) for name in classes]
  x = stack_images(_decoded([file for images in files for file in images]), size)
  labels = np.repeat(np.arange(len(classes)), [len(images) for images in files])
  names = [name.relative_to(root).as_posix() for name in classes]
  nested = '/' in names[0]
  group_names = list(dict.fromkeys(name.split('/')[0] for name in names)) if nested else None
  groups = [group_names.index(name.split('/')[0]) for name in names] if group_names else None
  return class_table(x, labels, names, groups, group_names)


def _class_folders(root: Path) -> list[Path]:
  flat = [child for child in _folders(root) if _images(child)]
  nested = [inner for child in _folders(root) for inner in _folders(child) if _images(inner)]
  if flat and nested:
    raise ValueError(
      f'{root}: images both in {flat[0].relative_to(root)} and in {nested[0].relative_to(root)}; '
      'use either class/image or group/class/image'
    )
  if not flat and not nested:
    raise ValueError(f'{root}: no images in class/image or group/class/image')
  return flat or nested


def _folders(path: Path) -> Sequence[Path]:
  return sorted(child for child in path.iterdir() if child.is_dir() and child.name[0] != '.')


def _images(path: Path) -> Sequence[Path]:
  files = (file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
  return sorted(file for file in files if file.is_file() and file.name[0] != '.')


def _decoded(files: Sequence[Path]) -> Iterator[tuple[str, Image.Image]]:
  for file in files:
    yield str(file), decode_image(file.read_bytes(), str(file))
