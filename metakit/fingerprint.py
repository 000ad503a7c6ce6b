"""What a set of episodes is made of, in a few characters: to notice that data have changed.

A checksum tells that two tables differ by accident or by an edit. It is no signature: who wants to
can make another table of the same sum.
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

WHOLE_BYTES = 64 << 20  # arrays up to this size are read whole, of larger ones BLOCKS blocks
BLOCKS, BLOCK_BYTES = 64, 1 << 20
EPISODES = 4
SHOWN = 16  # hexadecimal digits


def fingerprint(source: EpisodeSource, table: ClassTable | None = None) -> str | None:
  """Returns a checksum of the rows of a source, of its classes, and of how it plans episodes.

  Args:
    source: of episodes. One without a table (of functions) is determined by its arguments, and its
      numbers are rounded in many ways: it has none.
    table: the classes whose numbers and names count too, where there are such.

  Returns:
    Sixteen hexadecimal digits, of all values of a table up to 64 MiB. Of a larger one 64 blocks of
    1 MiB are read, evenly spaced, the first and the last among them, beside its size and type, and
    ' (sampled)' is added: an edit between the blocks goes unnoticed, another order of the rows does
    not.
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
  for leaf in jax.tree.leaves(_plans(source)):
    if np.issubdtype(leaf.dtype, np.integer):  # floats may be rounded otherwise elsewhere
      digest.update(np.ascontiguousarray(leaf).tobytes())
  return digest.hexdigest()[:SHOWN] + (' (sampled)' if data.nbytes > WHOLE_BYTES else '')


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
