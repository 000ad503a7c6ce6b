"""Sets in IDX files of the names that MNIST's have, which say nothing of the set."""

from pathlib import Path

from metakit.data.image_sets import ImageSet, Reading, Way
from metakit.data.mnist import ORIGINS, read_part

# Part -> checksum, of images whose mean, 0.2860 of those of training, is the published one. That of
# KMNIST is not known here.
CHECKSUMS = {'fashion_mnist': {'train': '32407e9da3f7332b', 'test': '1c3d3c7a28312bda'}}


def idx_set(name: str, folders: tuple[str, ...]) -> ImageSet:
  """Returns what is known of a set of the form of MNIST with as many images of each class."""
  return ImageSet(
    name=name,
    folders=folders,
    classes=tuple('0123456789'),
    shape=(28, 28, 1),
    counts={'train': 6000, 'test': 1000},
    origin=ORIGINS[name],
    checksums=CHECKSUMS.get(name, {}),
    others={
      checksum: other
      for other, parts in CHECKSUMS.items()
      for checksum in parts.values()
      if other != name
    },
  )


def idx_files(images: ImageSet) -> Way:
  """Returns the way to read the four files, in a folder that has a name of the set."""

  def find(place: Path) -> Reading | None:
    if not any(place.glob('t*-images?idx3-ubyte*')):
      return None
    return Reading(place, [], lambda part: read_part(place, part, images.name), slow=False)

  return Way('train-images-idx3-ubyte.gz and the three others', find, named=True)
