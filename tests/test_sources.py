import threading

import jax
import numpy as np
import pytest

from metakit.data.saved import open_table, save_table
from metakit.data.table import class_table
from metakit.episodes.few_shot import few_shot
from metakit.keys import task_key
from metakit.sources import as_source, on_host, place, read_ahead
from metakit.types import Episode, Examples

ROOT = jax.random.key(3)
RNG = np.random.default_rng(0)
TABLE = class_table(
  RNG.integers(0, 256, (90, 7, 7, 1), np.uint8),
  RNG.permutation(np.repeat(np.arange(9), 10)),
  names=[f'class {c}' for c in range(9)],
  groups=np.arange(9) // 3,
  group_names=['a', 'b', 'c'],
)


def batch_of(sampler, steps=2, tasks=3):
  """The episodes [steps, tasks, ...] of a dispatch."""

  def task(step, index):
    return sampler(task_key(ROOT, step, index))

  tasks_of = jax.vmap(task, (None, 0))
  every = jax.vmap(tasks_of, (0, None))
  return jax.jit(lambda n: every(n * steps + jax.numpy.arange(steps), jax.numpy.arange(tasks)))


def readers():
  return [t for t in threading.enumerate() if t.name.startswith('read_ahead')]


def test_host_and_device_tables_give_bitwise_the_same_episodes(tmp_path):
  save_table(TABLE, tmp_path / 'table')
  table = open_table(tmp_path / 'table')
  source = few_shot(table, ways=2, shots=1, queries=2)
  assert on_host(place(source, budget_bytes=0)) and isinstance(table.x, np.memmap)
  on_device = batch_of(few_shot(TABLE, ways=2, shots=1, queries=2))
  episodes = list(read_ahead(batch_of(source.plan), source.data, range(5)))
  assert len(episodes) == 5
  for number, episode in enumerate(episodes):
    expected = on_device(number)
    assert episode.support.x.shape == (2, 3, 2, 7, 7, 1)
    jax.tree.map(np.testing.assert_array_equal, episode, expected)
    assert jax.tree.map(lambda v: v.dtype, episode) == jax.tree.map(lambda v: v.dtype, expected)


def test_weights_and_info_pass_through():
  rows = Examples(np.array([4, 0]), np.array([0, 1]), np.array([1.0, 0.0]))
  (episode,) = read_ahead(lambda step: Episode(rows, rows, step), TABLE.x, [7])
  np.testing.assert_array_equal(episode.query.x, TABLE.x[[4, 0]])
  assert episode.query.weight.tolist() == [1, 0] and episode.info == 7


def test_place_keeps_to_its_budget():
  source = few_shot(TABLE, queries=2)
  fits, too_large = place(source, TABLE.x.nbytes), place(source, TABLE.x.nbytes - 1)
  assert isinstance(fits.data, jax.Array) and not on_host(fits)
  assert too_large.data is TABLE.x and on_host(too_large)
  np.testing.assert_array_equal(fits.data, TABLE.x)
  assert place(fits, 0) is fits
  whole = as_source(lambda key: source(key))
  assert place(whole, 0) is whole and not on_host(whole)


class Watched:
  """Data that records the thread and the order of its reads, and may fail at one."""

  def __init__(self, fail_at=None):
    self.reads, self.threads, self.fail_at = 0, set(), fail_at

  def __getitem__(self, rows):
    self.threads.add(threading.current_thread())
    self.reads += 1
    if self.reads == self.fail_at:
      raise OSError('the disk is gone')
    return np.asarray(rows)


def rows_of(step):
  return Episode(Examples(np.array([step]), 0), Examples(np.array([step]), 0))


def first_rows(episode):
  return int(episode.support.x[0])


@pytest.mark.parametrize('depth', [1, 2, 5])
def test_order_is_kept_and_one_other_thread_reads_depth_items_ahead(depth):
  data, planned, yielded = Watched(), [], []

  def plan(step):
    planned.append(step)
    return rows_of(step)

  for episode in read_ahead(plan, data, range(20), depth=depth):
    yielded.append(first_rows(episode))
    assert len(planned) == min(len(yielded) + depth, 20)
  assert yielded == list(range(20)) and data.reads == 40
  assert len(data.threads) == 1 and threading.main_thread() not in data.threads
  assert not readers()


def test_an_error_while_reading_surfaces_at_its_own_episode():
  source = read_ahead(rows_of, Watched(fail_at=7), range(10), depth=3)
  got = []
  with pytest.raises(OSError, match='the disk is gone'):
    for episode in source:
      got.append(first_rows(episode))
  assert got == [0, 1, 2]  # the seventh read is of the fourth episode's support
  assert not readers()


def test_an_error_of_the_plan_or_the_steps_surfaces_and_ends_the_thread():
  with pytest.raises(ZeroDivisionError):
    list(read_ahead(lambda step: rows_of(1 // (3 - step)), Watched(), range(9)))
  assert not readers()


def test_closing_early_ends_the_thread_and_reads_no_more():
  data = Watched()
  source = read_ahead(rows_of, data, iter(int, 1), depth=4)  # steps without end
  for _ in range(3):
    next(source)
  assert len(readers()) == 1
  source.close()
  assert not readers() and data.reads <= 2 * (3 + 4)


def test_no_thread_starts_before_the_first_episode_is_asked_for():
  source = read_ahead(rows_of, Watched(), range(3))
  assert not readers()
  source.close()


def test_depth_is_checked_at_once():
  with pytest.raises(ValueError, match='depth=0 is not positive'):
    read_ahead(rows_of, Watched(), range(3), depth=0)


def test_the_order_of_bytes_reaches_no_device(tmp_path):
  """Of a table that was written elsewhere, or by hand."""
  swapped = TABLE._replace(x=TABLE.x.astype('>f4'))
  save_table(swapped, tmp_path / 'table')
  table = open_table(tmp_path / 'table')
  assert table.x.dtype == '>f4'
  source = few_shot(table, ways=2, shots=1, queries=2)
  np.testing.assert_array_equal(place(source).data, TABLE.x)
  episode = source(ROOT)
  expected = source.replace(data=TABLE.x)(ROOT)
  np.testing.assert_array_equal(episode.query.x, expected.query.x)


def test_integers_that_jax_would_wrap_are_refused():
  wide = np.arange(90) + 2**40
  source = few_shot(TABLE._replace(x=wide), ways=2, shots=1, queries=2)
  said = r'x holds \d+, more than int32 holds; scale the data or give floats'
  with pytest.raises(ValueError, match=said):
    place(source)
  with pytest.raises(ValueError, match=said):
    source(ROOT)
  assert place(source.replace(data=np.arange(90))).data.dtype == jax.numpy.int32
