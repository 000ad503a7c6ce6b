"""Data sources: each a function that returns a ClassTable."""

from metakit.data.arrays import arrays
from metakit.data.cifar100 import cifar100
from metakit.data.cifar_fs import cifar_fs
from metakit.data.clinc150 import clinc150
from metakit.data.fashion_mnist import fashion_mnist
from metakit.data.fc100 import fc100
from metakit.data.folder import folder
from metakit.data.glyphs import glyphs
from metakit.data.kmnist import kmnist
from metakit.data.levels import split_levels
from metakit.data.mini_imagenet import mini_imagenet
from metakit.data.mnist import mnist
from metakit.data.ngrams import hashed_ngrams
from metakit.data.omniglot import omniglot
from metakit.data.omniglot_runs import omniglot_runs
from metakit.data.rows import rows
from metakit.data.saved import open_table, save_table
from metakit.data.series import series
from metakit.data.splits import split_classes
from metakit.data.table import ClassTable, class_table, select_classes
from metakit.data.targets import regression_table
from metakit.data.text import text
from metakit.data.tfds import tfds_table

__all__ = [
  'ClassTable',
  'arrays',
  'cifar100',
  'cifar_fs',
  'class_table',
  'clinc150',
  'fashion_mnist',
  'fc100',
  'folder',
  'glyphs',
  'hashed_ngrams',
  'kmnist',
  'mini_imagenet',
  'mnist',
  'omniglot',
  'omniglot_runs',
  'open_table',
  'regression_table',
  'rows',
  'save_table',
  'select_classes',
  'series',
  'split_classes',
  'split_levels',
  'text',
  'tfds_table',
]
