"""Small copies of image sets in every form that they are found in."""

import gzip
import io
import json
import pickle
import struct
import sys
import tarfile

import numpy as np
from PIL import Image

from tests.data.test_mnist import idx


def shrink(monkeypatch, name, **changes):
  """Makes a source expect a small set; returns what it now knows of the set."""
  module = sys.modules[f'metakit.data.{name}']
  small = module.IMAGES._replace(checksums={}, **changes)
  monkeypatch.setattr(module, 'IMAGES', small)
  return small


def images_of(images, seed=0):
  """Part -> (x, labels) of a set, mixed as in an archive."""
  random = np.random.default_rng(seed)
  parts = {}
  for part in ('train', 'test'):
    labels = random.permutation(np.repeat(np.arange(len(images.classes)), images.counts[part]))
    x = random.integers(0, 256, (len(labels), *images.shape), np.uint8)
    parts[part] = x, labels
  return parts


def write_folders(folder, images, parts, ending='png'):
  """Writes PART/CLASS/image, numbered within a part."""
  for part, (x, labels) in parts.items():
    for number, (pixels, label) in enumerate(zip(x, labels, strict=True)):
      place = folder / part / images.classes[label]
      place.mkdir(parents=True, exist_ok=True)
      Image.fromarray(pixels.squeeze()).save(place / f'{part}_{number:04}.{ending}')
  return folder


def write_idx(folder, parts):
  folder.mkdir(parents=True, exist_ok=True)
  for part, (x, labels) in parts.items():
    stem = {'train': 'train', 'test': 't10k'}[part]
    for name, values in (('images-idx3', x[..., 0]), ('labels-idx1', labels)):
      (folder / f'{stem}-{name}-ubyte.gz').write_bytes(gzip.compress(idx(values)))
  return folder


def text2(value):
  """A text as Python 2 pickles it."""
  return b'U' + bytes([len(value)]) + value.encode()


def array2(x):
  """A uint8 array as Python 2 pickles it: its bytes are a text, and NumPy's modules are old."""
  kind = b'cnumpy\ndtype\n' + text2('u1') + b'K\x00K\x01\x87R' + b'(K\x03' + text2('|') + b'NNN'
  kind += b'J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb'
  shape = b''.join(b'J' + struct.pack('<i', n) for n in x.shape) + b'\x86'
  made = b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85' + text2('b') + b'\x87R'
  data = x.tobytes()
  return made + b'(K\x01' + shape + kind + b'\x89T' + struct.pack('<i', len(data)) + data + b'tb'


def dictionary2(values):
  """A dictionary of lists and arrays as Python 2 pickles it, as in the archive of CIFAR-100."""
  items = b''
  for key, value in values.items():
    if isinstance(value, np.ndarray):
      items += text2(key) + array2(value)
    else:
      each = (text2(v) if isinstance(v, str) else b'K' + bytes([v]) for v in value)
      items += text2(key) + b'](' + b''.join(each) + b'e'
  return b'\x80\x02}(' + items + b'u.'


def cifar_files(images, parts):
  files = {'meta': {'fine_label_names': list(images.classes)}}
  for part, (x, labels) in parts.items():
    data = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    files[part] = {'fine_labels': labels.tolist(), 'data': data}
  return files


def write_cifar(folder, files, packed, dump=dictionary2):
  """Writes the official files, in a .tar.gz or as they unpack."""
  place = folder if packed else folder / 'cifar-100-python'
  place.mkdir(parents=True, exist_ok=True)
  if not packed:
    for name, values in files.items():
      (place / name).write_bytes(dump(values))
    return place
  with tarfile.open(folder / 'cifar-100-python.tar.gz', 'w:gz') as tar:
    for name, values in files.items():
      data, member = dump(values), tarfile.TarInfo(f'cifar-100-python/{name}')
      member.size = len(data)
      tar.addfile(member, io.BytesIO(data))
  return folder


def dump3(values):
  return pickle.dumps(values, protocol=2)


def field(number, data):
  """A field of a protocol buffer that holds bytes."""
  size, length = len(data), b''
  while size > 127:
    length, size = length + bytes([size & 127 | 128]), size >> 7
  return bytes([number << 3 | 2]) + length + bytes([size]) + data


def example(pixels, label):
  """A tf.train.Example: a map from names of features to lists of bytes (1) or integers (3)."""
  png = io.BytesIO()
  Image.fromarray(pixels).save(png, 'PNG')
  values = {
    'image': field(1, field(1, png.getvalue())),
    'label': field(3, field(1, bytes([label]))),
  }
  entries = (field(1, field(1, n.encode()) + field(2, value)) for n, value in values.items())
  return field(1, b''.join(entries))


def feature(kind, **told):
  return {'pythonClassName': f'tensorflow_datasets.core.features.{kind}', **told}


def write_prepared(folder, images, parts):
  """Writes what tensorflow-datasets prepares as array_record, without TensorFlow."""
  from array_record.python.array_record_module import ArrayRecordWriter

  place = folder / 'tfds' / images.name / '3.0.2'
  place.mkdir(parents=True)
  shape = {'dimensions': [str(n) for n in images.shape]}
  image = {'dtype': 'uint8', 'encodingFormat': 'png', 'shape': shape}
  classes = {'numClasses': str(len(images.classes))}
  told = {
    'image': feature('image_feature.Image', image=image),
    'label': feature('class_label_feature.ClassLabel', classLabel=classes),
  }
  features = feature('features_dict.FeaturesDict', featuresDict={'features': told})
  (place / 'features.json').write_text(json.dumps(features))
  (place / 'label.labels.txt').write_text('\n'.join(f'label {name}' for name in images.classes))
  splits = []
  for part, (x, labels) in parts.items():
    file = place / f'{images.name}-{part}.array_record-00000-of-00001'
    writer = ArrayRecordWriter(str(file), 'group_size:1')
    for pixels, label in zip(x, labels.tolist(), strict=True):
      writer.write(example(pixels, label))
    writer.close()
    splits.append({
      'filepathTemplate': '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}',
      'name': part,
      'numBytes': str(file.stat().st_size),
      'shardLengths': [str(len(x))],
    })  # fmt: skip
  info = {'name': images.name, 'fileFormat': 'array_record', 'version': '3.0.2', 'splits': splits}
  (place / 'dataset_info.json').write_text(json.dumps(info))
  return folder
