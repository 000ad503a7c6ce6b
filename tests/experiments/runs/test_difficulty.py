"""The difficulty of a test in its record: how many examples and classes an episode has."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.components.tasks import TASKS
from experiments.runs.difficulty import record_difficulty, sampled
from metakit.data.table import class_table
from metakit.difficulty import classification_bits, manifold_of


def ready(**sizes):
  task = TASKS['glyphs'](budget=2**30, alphabets=9, **sizes)
  return SimpleNamespace(task=task, source=task.source('test'))


def test_it_is_that_of_the_classes_and_the_examples_of_an_episode():
  found = ready(ways=4, shots=3)
  where = manifold_of(*sampled(found.task.table('test')))
  bits = classification_bits(where, 12, classes=4, error=0.05)
  assert record_difficulty(found)['difficulty'] == pytest.approx(math.log10(bits), abs=1e-3)


def test_rows_are_spread_over_all_classes_and_scaled():
  table = class_table(np.arange(2000.0)[:, None], np.arange(2000) // 500)
  x, classes = sampled(table._replace(starts=table.starts[1:], counts=table.counts[1:]))
  assert np.bincount(classes).tolist() == [167, 166, 167] and x.max() == 1
  assert (classes == (x[:, 0] * 1999).round() // 500 - 1).all()


def test_a_task_without_classes_has_none():
  task = TASKS['sinusoid']()
  assert record_difficulty(SimpleNamespace(task=task, source=task.source('test'))) == {}
