"""What changes a checksum of data, and what does not."""

import jax.numpy as jnp
import numpy as np
import pytest

from metakit import fingerprint as module
from metakit.data.table import class_table
from metakit.episodes import few_shot, sinusoid
from metakit.fingerprint import fingerprint

X = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1), np.uint8)
LABELS = np.arange(60) // 6


def summed(x=X, labels=LABELS, shots=1, as_array=np.asarray, **more):
  table = class_table(x, labels, **more)
  source = few_shot(table._replace(x=as_array(table.x)), 3, shots, queries=2)
  return fingerprint(source, table)


def test_it_is_the_same_wherever_the_rows_are():
  assert summed() == summed(as_array=jnp.asarray) == summed(X.copy())


@pytest.mark.parametrize(
  'changed',
  [
    {'x': np.where(np.arange(60)[:, None, None, None] == 59, X + np.uint8(1), X)},
    {'labels': np.random.default_rng(1).permutation(LABELS)},
    {'x': (X / 255).astype(np.float32)},
    {'x': X.reshape(60, 16)},
    {'names': [f'class {i}' for i in range(10)]},
    {'groups': np.arange(10) % 2},
    {'shots': 2},
  ],
  ids=['a row', 'labels', 'type', 'shape', 'names', 'groups', 'plan'],
)
def test_it_tells_data_apart(changed):
  assert summed(**changed) != summed()


def test_of_a_large_table_blocks_are_read_and_it_says_so(monkeypatch):
  monkeypatch.setattr(module, 'WHOLE_BYTES', 500)
  monkeypatch.setattr(module, 'BLOCK_BYTES', 16)
  monkeypatch.setattr(module, 'BLOCKS', 8)
  assert summed().endswith(' (sampled)')
  assert summed() != summed(np.random.default_rng(2).permutation(X))
  assert summed() != summed(X[:-1], LABELS[:-1])


def test_functions_have_none():
  assert fingerprint(sinusoid()) is None
