"""Base sets of a user's own, for random projections: arrays, a folder of images, IDX files."""

from pathlib import Path

import numpy as np

from metakit.data.arrays import arrays
from metakit.data.files import naming
from metakit.data.folder import folder
from metakit.data.images import shrink_images
from metakit.data.mnist import mnist
from metakit.data.table import ClassTable, part_of_rows

HELD_OUT = 6  # every sixth example of a class is for tests, and of the others for validation


def own_base(place: Path, pixels: int) -> dict[str, ClassTable]:
  """Returns the examples of each part; all classes are in each.

  Args:
    place: an .npz file of arrays; a folder of images, one folder for each class; or a folder of
      the four files of MNIST's format, whose test images are then for tests.
    pixels: pixels of height and width that images are reduced to; features stay as they are.

  Raises:
    ValueError: in one line, for what cannot be read, for targets in place of classes, a class of
      fewer than three examples, and images of other sizes than a multiple of `pixels`.
  """
  if place.is_dir() and any(place.glob('*idx3-ubyte*')):
    rest, test = (_shrunk(mnist(place, part), pixels) for part in ('train', 'test'))
  else:
    whole = folder(place, pixels) if place.is_dir() else arrays(place)
    with naming(place):
      whole = _shrunk(whole, pixels)
      rest, test = (part_of_rows(whole, HELD_OUT, held_out=held) for held in (False, True))
  with naming(place):
    train, validation = (part_of_rows(rest, HELD_OUT, held_out=held) for held in (False, True))
  return {'train': train, 'validation': validation, 'test': test}


def _shrunk(table: ClassTable, pixels: int) -> ClassTable:
  if table.y is not None:
    raise ValueError('a base set has classes, and these are targets of a regression')
  if np.ndim(table.x) == 3:  # images without an axis of channels
    table = table._replace(x=table.x[..., None])
  return shrink_images(table, pixels) if np.ndim(table.x) == 4 else table
