"""The task of contexts that go with labels."""

import jax
import numpy as np
import pytest

from experiments.components import cue_tasks
from metakit.data.table import class_table
from metakit.keys import roots
from metakit.sources import abstract_episode


@pytest.fixture
def make(monkeypatch):
  """Returns the factory of the task, on small images."""
  images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), np.uint8)
  plain = class_table(images, np.arange(20) % 2)
  monkeypatch.setattr(cue_tasks, '_plain', lambda *_: plain)
  return lambda **given: cue_tasks.spurious_task(budget=1e9, data_dir='', ways=2, **given)


def test_a_task_draws_the_same_rows_of_one_table_at_all_strengths_and_shots(make):
  weak, strong = (make(strength=p, queries=3) for p in (0.0, 1.0))
  np.testing.assert_array_equal(weak.table('test').x, strong.table('test').x)
  plans = [jax.jit(task.source('test').plan)(roots(0).test) for task in (weak, strong)]
  rows = [np.asarray(plan.query.x) % 20 for plan in plans]
  np.testing.assert_array_equal(*rows)
  assert abstract_episode(strong.source('test', 2)).support.x.shape == (4, 4, 4, 3)


def test_a_strength_beyond_one_and_an_unknown_cue_are_refused(make):
  with pytest.raises(ValueError, match=r'strength=1.5 is no probability; use one between 0 and 1'):
    make(strength=1.5, queries=3).source('train')
  with pytest.raises(ValueError, match='cue'):
    make(cue='smell')
