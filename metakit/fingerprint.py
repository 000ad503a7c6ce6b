"""A checksum of the data that episodes are made of. It shows that data have changed.

The checksum finds that two tables differ by accident or by an edit. It is no signature: somebody
who wants to can make another table with the same checksum.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metakit.data.table import ClassTable
from metakit.keys import fixed_key, task_key
from metakit.sources import EpisodeSource
from metakit.types import Params

WHOLE_BYTES = 64 << 20  # larger arrays are read in BLOCKS blocks
BLOCKS, BLOCK_BYTES = 64, 1 << 20
EPISODES = 4
SHOWN = 16  # hexadecimal digits


def fingerprint(source: EpisodeSource, table: ClassTable | None = None) -> str | None:
  """Returns a checksum of the rows of a source, of its classes, and of how it plans episodes.

  Args:
    source: the episodes. A source without a table (of functions) has no checksum: its arguments
      determine it, and machines round its numbers differently.
    table: its classes, whose numbers and names count too; None if there are none.

  Returns:
    Sixteen hexadecimal digits. For a table up to 64 MiB all values count. Of a larger one 64 evenly
    spaced blocks of 1 MiB count, the first and the last among them, and its size and type. Then
    ' (sampled)' follows the digits. An edit between the blocks is not noticed, but another order
    of rows is.
  """
  if source.data is None:
    return None
  digest, data = hashlib.sha256(), source.data
  digest.update(f'{data.dtype} {data.shape}'.encode())
  for block in _blocks(data):
    digest.update(block)
  if table is not None:
    for values in (table.starts, table.counts, table.groups):
      digest.update(np.ascontiguousarray(values, np.int64).tobytes())
    digest.update(repr((table.names, table.group_names)).encode())
    if table.y is not None:
      digest.update(np.ascontiguousarray(table.y, np.float64).tobytes())
  for leaf in jax.tree.leaves(_plans(source)):
    if np.issubdtype(leaf.dtype, np.integer):  # another machine may round floats differently
      digest.update(np.ascontiguousarray(leaf).tobytes())
  return digest.hexdigest()[:SHOWN] + (' (sampled)' if data.nbytes > WHOLE_BYTES else '')


def fingerprint_of_params(params: Params) -> str:
  """Returns a checksum of all arrays of a tree, sixteen hexadecimal digits.

  >>> one, other = {'w': np.zeros(2)}, {'w': np.array([0.0, 1e-30])}
  >>> fingerprint_of_params(one) == fingerprint_of_params(other)
  False
  """
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    digest.update(f'{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}'.encode())
    digest.update(np.ascontiguousarray(leaf).tobytes())
  return digest.hexdigest()[:SHOWN]


def _blocks(data: Any) -> Iterator[bytes]:
  rows, size = len(data), data.nbytes
  if size <= WHOLE_BYTES:
    yield np.ascontiguousarray(data).tobytes()
    return
  taken = max(1, BLOCK_BYTES * rows // size)
  for start in np.linspace(0, rows - taken, BLOCKS).astype(int):
    yield np.ascontiguousarray(data[start : start + taken]).tobytes()


def _plans(source: EpisodeSource) -> Any:
  """A few planned episodes of a key of their own."""
  root = fixed_key(0)
  plan = jax.jit(lambda i: source.plan(task_key(root, 0, i)))
  return jax.device_get([plan(i) for i in jnp.arange(EPISODES, dtype=jnp.int32)])
