"""Pages whose numbers are computed from compiled programs."""

import json
import math

import jax
import pytest

from experiments.benchmarks.chips import CHIPS, bound
from experiments.benchmarks.suites import sizes
from experiments.benchmarks.timing import time_cases
from experiments.tables import accelerators, growth
from experiments.tables.pages import keep
from metakit import heads
from metakit.learners.embedded import embedded
from metakit.networks.mlp import mlp
from metakit.traffic import Sent


def rows(name, power, memory, gflop=1.0):
  """A cost that grows with the power of 10, 100 and 1,000."""
  return [
    {
      'name': name,
      'size': 10 * size,
      'argument_mib': 1.0,
      'temporary_mib': memory * size**power - 1.0,
      'gflop': gflop * size**power,
    }
    for size in (1, 10, 100)
  ]


RECORD = {
  'rows': [*rows('ways: slow', 1, 8.0), *rows('pairs: steep', 2, 8.0), *rows('rows: flat', 0, 8.0)],
  'command': 'python -m experiments.benchmark --suite=growth',
  'versions': {'jax': '0.10.2', 'libtpu': '0.0.42'},
}


def test_exponents_come_from_the_last_two_sizes():
  assert growth.exponent([1, 10, 100], [9.0, 1.0, 1000.0]) == pytest.approx(3)
  slow, steep, flat = growth.growths(RECORD['rows'])
  assert [growth.exponent(g.sizes, g.memory) for g in (slow, steep, flat)] == pytest.approx(
    [1, 2, 0]
  )
  assert growth.at(10_000, steep.sizes, steep.memory) == pytest.approx(8 * 2**20 * 1e6)
  at_most = growth.largest(8 * 2**20 * 1e6, steep.sizes, steep.memory)
  assert at_most == pytest.approx(10_000)
  assert growth.largest(1e30, flat.sizes, flat.memory) == math.inf


def test_a_part_that_does_not_grow_does_not_hide_what_does():
  sizes, values = [10.0, 100.0, 1000.0], [1010.0, 1100.0, 2000.0]  # 1,000 and the size
  assert growth.exponent(sizes, values) < 1
  assert growth.at(5e4, sizes, values) == pytest.approx(5.1e4)
  assert growth.largest(5.1e4, sizes, values) == pytest.approx(5e4)


def test_what_breaks_first_stands_first_and_is_named():
  text = growth.page(RECORD)
  table = [line for line in text.split('## What breaks')[1].splitlines() if line.startswith('| ')]
  assert [line.split(' | ')[1] for line in table[2:]] == ['steep', 'slow', 'flat']
  # 8 MiB grows to 16e9 bytes at 43.7 times the size if its exponent is 2, and at 1,907 if it is 1.
  assert 'first to break is steep, as the pairs grow: from 440 on (44 times the usual' in text
  assert 'Of 3 kinds of growth, 1 end before 1,000 times their usual size on a v5e, and 1' in text
  assert 'still fits a v5e at 1,000 times the size: slow (ways); flat (rows).' in text
  assert table[3].endswith('| 8.4 GB | 2 ms | 1,900 x (19,000) | 9,500 x (95,000) |')


def test_the_costs_of_a_table_are_those_of_its_rows_on_a_device_and_of_a_step_from_a_disk():
  learner = embedded(mlp(None, 4, 1), heads.prototypes(5))
  cases = [
    make('rows', number, learner, source=sizes.table(number))
    for make in (sizes.drawn_case, sizes.read_case)
    for number in (200, 2000)
  ]
  assert cases[1].arguments - cases[0].arguments == 1800 * 784
  assert cases[3].arguments == cases[2].arguments > 16 * 30 * 784
  assert len({case.flops for case in cases}) == 1 and cases[0].flops > 0
  row = time_cases(cases, 3)[1]
  assert row['size'] == 2000 and row['milliseconds'] is None
  assert row['argument_mib'] == round(cases[1].arguments / 2**20, 2)


def test_shapes_alone_are_enough_for_a_step():
  episodes = sizes.episodes(3, 1, (7,))
  assert isinstance(episodes.support.x, jax.ShapeDtypeStruct)
  case = sizes.step_case('x', 3, embedded(mlp(None, 4, 1), heads.prototypes(3)), tasks=episodes)
  assert case.call is None and case.flops > 2 * 18 * 7 * 4 and case.temporaries > 0


STEP = {
  'step': 'a step',
  'dtype': 'float32',
  'devices': 8,
  'tasks': 32,
  'argument_mib': 100.0,
  'temporary_mib': 20_000.0,
  'gflop': 495.0,
  'moved_gb': 819.0,
  'moved_without_padding_gb': 6.7,
  'collectives': {'all-reduce': [1, 4_500_000_000]},
}


def test_a_step_takes_as_long_as_what_takes_longest():
  sent = {'all-reduce': Sent(1, 4_500_000_000)}
  found = bound(CHIPS['H100'], 'float32', flops=495e9, moved=6.7e9, collectives=sent, devices=8)
  assert found == pytest.approx((1e-3, 2e-3, 17.5e-3)) and found.longest == 'links'
  assert accelerators.least(STEP, CHIPS['H100']) == pytest.approx(found)
  assert accelerators.least(STEP, CHIPS['v5e']).memory == pytest.approx(1)  # with the padding
  one, _, line, pod, _ = accelerators.step([STEP]).splitlines()[4:]
  assert line == (
    '| 8 H100 | 32 | 21 GB | 495 | 1 all-reduce of 4.5 GB | 1 ms | 2 ms | 18 ms | 18 ms (links) | '
    '6% | 1,829 |'
  )
  assert one.startswith(
    '| one H100, by the program for 8 | 4 | 21 GB | 495 | - | 1 ms | 2 ms | 0 µs |'
  )
  assert pod.startswith('| v5e 4x4, by the program for 8 | 64 | 21 GB: too large | 495 |')


@pytest.mark.parametrize('page', [growth, accelerators])
def test_a_page_is_made_of_its_record_and_checked(page, tmp_path):
  record = RECORD if page is growth else RECORD | {'rows': [STEP]}
  path = tmp_path / page.RECORD
  path.parent.mkdir(parents=True)
  path.write_text(json.dumps(record))
  keep(tmp_path, page.texts(tmp_path), check=False)
  keep(tmp_path, page.texts(tmp_path), check=True)
  path.write_text(json.dumps(record | {'command': 'another'}))
  with pytest.raises(ValueError, match=f'stale: {page.PAGE}; run '):
    keep(tmp_path, page.texts(tmp_path), check=True)
