"""Image sets as tasks: those that are parted by class, and those whose images are."""

from collections.abc import Callable, Mapping
from typing import Any

from experiments.components.class_parts import ClassParts, official
from experiments.components.table_tasks import EPISODES
from metakit.data.cifar100 import cifar100
from metakit.data.cifar_fs import cifar_fs
from metakit.data.fashion_mnist import fashion_mnist
from metakit.data.fc100 import fc100
from metakit.data.files import PathLike
from metakit.data.kmnist import kmnist
from metakit.data.mini_imagenet import mini_imagenet
from metakit.data.mnist import mnist
from metakit.data.table import ClassTable

Load = Callable[[PathLike | None, str], ClassTable]

# Sets of ten classes of 28x28 pixels, which may stand for one another.
LIKE_MNIST: dict[str, Load] = {'mnist': mnist, 'fashion_mnist': fashion_mnist, 'kmnist': kmnist}


def cifar_fs_parts(data_dir: str, trainval: bool = False) -> ClassParts:
  """CIFAR-FS: 64, 16 and 20 classes of CIFAR-100."""
  return by_class(cifar_fs, data_dir, trainval=trainval)


def fc100_parts(data_dir: str, trainval: bool = False) -> ClassParts:
  """FC100: the classes of 12, 4 and 4 superclasses of CIFAR-100."""
  return by_class(fc100, data_dir, trainval=trainval)


def mini_imagenet_parts(data_dir: str, trainval: bool = False) -> ClassParts:
  """mini-ImageNet: 64, 16 and 20 classes at 84x84 pixels."""
  return by_class(mini_imagenet, data_dir, trainval=trainval)


def cifar100_parts(data_dir: str) -> ClassParts:
  """The 100 classes of CIFAR-100; test episodes from its test images."""
  return _by_image(cifar100, data_dir)


def fashion_mnist_parts(data_dir: str) -> ClassParts:
  """Ten kinds of clothing; test episodes from their test images."""
  return _by_image(fashion_mnist, data_dir)


def kmnist_parts(data_dir: str) -> ClassParts:
  """Ten cursive characters; test episodes from their test images."""
  return _by_image(kmnist, data_dir)


def mnist_parts(data_dir: str) -> ClassParts:
  """The ten digits; test episodes from its test images, the others from its training images."""
  return _by_image(mnist, data_dir)


def by_class(load: Load, data_dir: str, *, trainval: bool) -> ClassParts:
  """Returns the parts of a set whose parts have classes of their own.

  Args:
    load: reads a part.
    data_dir: where the set lies.
    trainval: whether validation classes are trained on too, for results on test classes. Validation
      then says nothing of unseen classes, so choose without it.
  """
  name = lambda part: 'trainval' if trainval and part == 'train' else part
  return official(load.__name__, lambda part: load(data_dir, name(part)))


def _by_image(load: Load, data_dir: str) -> ClassParts:
  name = lambda part: 'test' if part == 'test' else 'train'
  return official(load.__name__, lambda part: load(data_dir, name(part)))


TEN_WAYS = {'ways': 10, 'shots': 1, 'queries': 15}
# Name of a task -> its data set, where each part has classes of its own.
PARTED_BY_CLASS: dict[str, Callable[..., ClassParts]] = {
  'cifar_fs': cifar_fs_parts,
  'fc100': fc100_parts,
  'mini_imagenet': mini_imagenet_parts,
}
# Name of a task -> its data set, whose classes are all in each part, and usual episodes.
PARTED_BY_IMAGE: dict[str, tuple[Callable[..., ClassParts], Mapping[str, Any]]] = {
  'cifar100': (cifar100_parts, EPISODES),
  'fashion_mnist': (fashion_mnist_parts, TEN_WAYS),
  'kmnist': (kmnist_parts, TEN_WAYS),
  'mnist': (mnist_parts, TEN_WAYS),
}
