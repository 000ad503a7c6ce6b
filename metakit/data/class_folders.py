"""Folders of images as image sets are passed on: CLASS/image, or PART/CLASS/image."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from metakit.data.files import check_memory, listed
from metakit.data.folder import SUFFIXES
from metakit.data.images import decode_image
from metakit.data.parts import part_named
from metakit.data.table import ClassTable

Classes = dict[str, list[Path]]  # name of a class -> its images


def images_of_classes(place: Path, classes: Sequence[str]) -> dict[str, Classes] | None:
  """Returns the images of each class, by the folders of parts they are in.

  Args:
    place: the folder.
    classes: some names. A folder is one of classes if it has folders of parts (train, val, ...),
      which have folders themselves, or one of these names. (CIFAR-100 has a class `train`.)

  Returns:
    Part -> class -> files, 'all' if there are no folders of parts; None if it is another folder.
  """
  children = _folders(place)
  parts = [each for each in children if part_named(each.name) and _folders(each)]
  if parts:
    found: dict[str, Classes] = {}
    for folder in parts:
      of_part = found.setdefault(str(part_named(folder.name)), {})
      for each in _folders(folder):
        of_part[each.name] = [*of_part.get(each.name, []), *_images(each)]
    return found
  if {each.name for each in children}.isdisjoint(classes):
    return None
  return {'all': {each.name: _images(each) for each in children}}


def _folders(path: Path) -> list[Path]:
  if not path.is_dir():
    return []
  return sorted(child for child in path.iterdir() if child.name[0] != '.' and child.is_dir())


def _images(path: Path) -> list[Path]:
  """Returns the images of a folder; as metakit.data.folder.is_image, but asks for no file."""
  with os.scandir(path) as entries:
    return [
      path / entry.name
      for entry in entries
      if entry.name[0] != '.' and entry.name.lower().endswith(SUFFIXES) and entry.is_file()
    ]


def read_images(
  classes: Mapping[str, Sequence[Path]], shape: tuple[int, int, int], place: Path
) -> ClassTable:
  """Decodes the images of each class, in the order of the names of their files.

  Args:
    classes: name of a class -> its images.
    shape: (height, width, channels) that every image must have.
    place: their folder, for messages.

  Raises:
    ValueError: if an image cannot be read, or some have another size or mode; in one line, which
      says how many.
  """
  files = [
    file for each in classes.values() for file in sorted(each, key=lambda f: (f.name, str(f)))
  ]
  check_memory(place, len(files) * int(np.prod(shape)))
  x = np.empty((len(files), *shape), np.uint8)
  wrong: list[tuple[Path, str]] = []
  for number, file in enumerate(files):
    pixels = np.atleast_3d(np.asarray(decode_image(file.read_bytes(), str(file))))
    if pixels.shape == shape:
      x[number] = pixels
    else:
      wrong.append((file, _form(pixels.shape)))
  if wrong:
    some = [f'{file.relative_to(place)} ({form})' for file, form in wrong]
    raise ValueError(
      f'{place}: {len(wrong)} of {len(files)} images are not {_form(shape)}: {listed(some, 3)}; '
      'convert them, or get the images again'
    )
  counts = np.array([len(each) for each in classes.values()])
  groups = np.zeros(len(counts), np.int64)
  return ClassTable(x, np.cumsum(counts) - counts, counts, tuple(classes), groups, ('0',))


def _form(shape: Sequence[int]) -> str:
  colours = 'grayscale' if shape[2] == 1 else 'RGB'
  return f'{shape[0]}x{shape[1]} {colours}'
