"""Data sets prepared by tensorflow-datasets, read without TensorFlow.

`tfds.data_source` reads data sets that are prepared as array_record. TensorFlow, and so
`tfds.as_dataset` and the default format tfrecord, are not used.
"""

import importlib.util
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metakit.data.files import PathLike, damaged, data_folder, naming
from metakit.data.images import decode_image, stack_images
from metakit.data.table import ClassTable, class_table

# The feature that tells the group of an example, by data set.
GROUP_KEYS = {'omniglot': 'alphabet'}
# Data sets whose paper is high: inverted, so that ink is 255 as in metakit.data.omniglot.
INVERTED = ('omniglot',)


def tfds_table(
  name: str,
  data_dir: PathLike | None = None,
  split: str = 'train',
  *,
  image_key: str = 'image',
  label_key: str = 'label',
  group_key: str | None = None,
  size: int | None = None,
) -> ClassTable:
  """Reads a split of any classification data set that tensorflow-datasets has prepared.

  Encoded images are decoded here, not by tensorflow-datasets, whose bilevel images are {0, 1} or
  {0, 255} depending on whether OpenCV is installed.

  Args:
    name: the data set as in tfds: 'omniglot', 'emnist/balanced', or with a version
      'omniglot:3.0.0'; the newest version by default.
    data_dir: the folder of prepared data sets, the folder above it if it is called 'tfds', or the
      folder of this data set; None stands for the environment variable METAKIT_DATA.
    split: a split in the grammar of tfds, such as 'train' or 'train[:10%]'.
    image_key: the feature that becomes x: an image, or an array of one shape.
    label_key: the feature that is the class, an integer.
    group_key: the integer feature that is the group of the class; 'alphabet' for omniglot, by
      default no groups for others.
    size: pixels of height and width to which images are resized; None keeps their size.

  Returns:
    x [rows, height, width, channels] uint8; the classes that occur in the split, in order of the
    label. Omniglot is inverted (ink 255, paper 0).

  Raises:
    FileNotFoundError: if there is no such prepared data set.
    ImportError: if array_record is not installed.
    ValueError: if a feature or split does not exist, or a file is damaged.

  >>> table = tfds_table('omniglot', 'data', split='test')  # doctest: +SKIP
  >>> table.x.shape, len(table.group_names)  # doctest: +SKIP
  ((13180, 105, 105, 1), 20)
  """
  folder = _version_folder(name, data_dir)
  builder = _builder(folder)
  group_key = group_key or GROUP_KEYS.get(builder.name)
  _check_features(builder, (image_key, label_key, group_key))
  rows = _rows(builder, split, image_key, [key for key in (label_key, group_key) if key])
  x = _inputs(rows, image_key, f'tfds:{name} {split}', size)
  labels, places = np.unique([row[label_key] for row in rows], return_inverse=True)
  features = builder.info.features
  with naming(f'tfds:{name}'):
    return class_table(
      255 - x if builder.name in INVERTED else x,
      places,
      _names(features[label_key], labels),
      **_groups(features, rows, group_key, places),
    )


def _version_folder(name: str, data_dir: PathLike | None) -> Path:
  path, _, version = name.partition(':')
  root = data_folder(data_dir, f'tfds:{name}')
  places = [root / path, root / 'tfds' / path]
  places += [root] if root.name == path.rsplit('/', 1)[-1] else []
  for place in places:
    folders = [info.parent for info in place.glob(f'{version or "*"}/dataset_info.json')]
    if folders:
      return max(folders, key=_version)
  raise FileNotFoundError(
    f'tfds:{name}: no prepared data set in {", ".join(map(str, places))}; set '
    f'data_dir=FOLDER or METAKIT_DATA, or prepare it where TensorFlow is installed: '
    f"tfds.builder('{path}').download_and_prepare(file_format='array_record')"
  )


def _version(folder: Path) -> tuple[int, ...]:
  return tuple(int(part) if part.isdecimal() else -1 for part in folder.name.split('.'))


def _builder(folder: Path) -> Any:
  for module in ('array_record', 'importlib_resources'):
    if importlib.util.find_spec(module) is None:
      raise ImportError(f"tfds needs the package {module}; pip install 'metakit[tfds]'")
  import tensorflow_datasets  # half a second: only who asks for a data set of it pays

  try:
    return tensorflow_datasets.builder_from_directory(folder)
  except Exception as error:  # protobuf's and json's own classes, AttributeError, KeyError, ...
    raise damaged(folder, error) from error


def _check_features(builder: Any, keys: Iterable[str | None]) -> None:
  for key in keys:
    if key is not None and key not in builder.info.features:
      features = ', '.join(sorted(builder.info.features))
      raise ValueError(f'tfds:{builder.name}: no feature {key!r}; use one of {features}')


def _rows(
  builder: Any, split: str, image_key: str, others: Sequence[str]
) -> list[Mapping[str, Any]]:
  decoders = _decoders(builder.info.features, builder.name, image_key, others)
  try:
    source = builder.as_data_source(split=split, decoders=decoders)
  except NotImplementedError as error:
    raise ValueError(
      f'{builder.data_path}: prepared as {builder.info.file_format.value}, which needs TensorFlow; '
      "prepare it again with file_format='array_record'"
    ) from error
  except ValueError as error:
    reason = ' '.join(str(error).split())
    raise ValueError(f'tfds:{builder.name}: split={split!r}: {reason}') from error
  try:
    return [source[row] for row in range(len(source))]
  except Exception as error:  # array_record raises RuntimeError, decoding a record several others
    raise damaged(builder.data_path, error) from error


# A decoder of tensorflow-datasets that leaves a feature as it is, sequences too.
_RAW = types.SimpleNamespace(
  setup=lambda feature: None,
  decode_example_np=lambda value: value,
  decode_batch_example_np=lambda value: value,
  decode_ragged_example_np=lambda value: value,
)


def _decoders(features: Any, name: str, image_key: str, others: Sequence[str]) -> dict[str, Any]:
  """Returns decoders that leave every image to `decode_image`.

  tensorflow-datasets decodes images of any format, by external programs too, of features that
  nobody asks for as well.
  """
  import tensorflow_datasets as tfds

  encoded = isinstance(features[image_key], tfds.features.Image)
  read = others if encoded else [image_key, *others]
  for key in read:
    if _holds_images(features[key]):
      raise ValueError(f'tfds:{name}: feature {key!r} holds images within others; use another')
  return {key: _left_raw(feature) for key, feature in features.items() if key not in read}


def _left_raw(feature: Any) -> Any:
  inner = _inner(feature)
  if isinstance(inner, Mapping):
    return {key: _left_raw(value) for key, value in inner.items()}
  return _RAW if inner is None else _left_raw(inner)


def _holds_images(feature: Any) -> bool:
  import tensorflow_datasets as tfds

  inner = _inner(feature)
  if isinstance(inner, Mapping):
    return any(_holds_images(value) for value in inner.values())
  return isinstance(feature, tfds.features.Image) if inner is None else _holds_images(inner)


def _inner(feature: Any) -> Any:
  """Returns the features, by name, or the feature that a feature consists of; else None."""
  import tensorflow_datasets as tfds

  if isinstance(feature, tfds.features.FeaturesDict):
    return dict(feature.items())
  return feature.feature if isinstance(feature, tfds.features.Sequence) else None


def _inputs(rows: list[Mapping[str, Any]], key: str, name: str, size: int | None) -> np.ndarray:
  values = [row[key] for row in rows]
  if values and isinstance(values[0], bytes):
    files = ((f'{name} example {i}', value) for i, value in enumerate(values))
    return stack_images(((file, decode_image(value, file)) for file, value in files), size)
  if size is not None:
    raise ValueError(f'{name}: feature {key!r} is no image; leave size= out')
  if len({np.shape(value) for value in values}) > 1:
    raise ValueError(f'{name}: feature {key!r} has arrays of several shapes; x needs one')
  return np.asarray(values)


def _names(feature: Any, values: np.ndarray) -> list[str]:
  named = getattr(feature, 'int2str', str)  # ClassLabel has names, a plain integer has not
  return [named(int(value)) for value in values]


def _groups(
  features: Any, rows: list[Mapping[str, Any]], key: str | None, places: np.ndarray
) -> dict[str, Any]:
  if key is None:
    return {}
  values, groups = np.unique([row[key] for row in rows], return_inverse=True)
  of_class = np.zeros(places.max() + 1, np.int64)
  of_class[places] = groups
  if (of_class[places] != groups).any():
    raise ValueError(f'feature {key!r} differs within a class; it cannot be its group')
  return {'groups': of_class, 'group_names': _names(features[key], values)}
