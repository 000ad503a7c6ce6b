"""The benchmark's arithmetic on cases of known length, and the binary on tiny sizes."""

import json
import time

import pytest

from experiments.timing import Case, time_cases
from tests.experiments.commands import run


def test_times_rates_and_ratios_are_those_of_the_cases():
  slow = Case('slow', lambda: time.sleep(0.04), 400, 8e6)
  fast = Case('fast', lambda: time.sleep(0.01), 100, None, baseline='slow')
  first, second = time_cases([slow, fast], 5)
  assert first['milliseconds'][0] == pytest.approx(40, rel=0.2)
  assert first['tokens_per_second'] == pytest.approx(400 / 0.04, rel=0.2)
  assert first['gflops_per_second'] == pytest.approx(0.2, rel=0.3)
  assert 'ratio' not in first and second['ratio'][0] == pytest.approx(4, rel=0.3)
  assert second['gflops_per_second'] is None and second['share_of_peak'] is None
  low, high = second['milliseconds'][1:]
  assert low <= second['milliseconds'][0] <= high


@pytest.mark.slow
def test_every_in_context_case_is_timed(tmp_path):
  sizes = ['--tasks=2', '--examples=6', '--features=4', '--width=8', '--depth=1', '--repeats=3']
  status, out, error = run('benchmark', *sizes, f'--output={tmp_path / "benchmark.json"}')
  assert status == 0, error
  record = json.loads((tmp_path / 'benchmark.json').read_text())
  rows = {row['name']: row for row in record['rows']}
  assert len(rows) == len(out.splitlines()) == 12
  assert rows['one more example, extend']['ratio'][0] > 0
  # Loops are counted once by XLA, so their arithmetic is not given.
  assert rows['train, pairs, lstm']['gflops_per_second'] is None
  assert rows['train, pairs']['gflops_per_second'] > 0
  shares = {name: rows[name]['tokens_per_second'] * rows[name]['milliseconds'][0] for name in rows}
  pairs, shifted = shares['train, pairs'], shares['train, shifted']
  assert pairs == pytest.approx(2 * shifted, rel=0.01)  # a token of its own for each question
