"""The benchmark's arithmetic on cases of known length, and the binary on tiny sizes."""

import json

import pytest

from experiments import benchmark_meta_step
from experiments.timing import Case, time_cases
from tests.experiments.commands import run


def test_times_rates_and_ratios_are_those_of_the_cases(monkeypatch):
  """On a clock that each case moves by what it takes: 1, 2, 3, ... times its length, in turn."""
  clock, calls = [0.0], []

  def case(name, seconds, *rest, **more):
    def call():
      calls.append(name)
      clock[0] += seconds * (1 + calls.count(name))

    return Case(name, call, *rest, **more)

  monkeypatch.setattr('experiments.timing.time.perf_counter', lambda: clock[0])
  slow = case('slow', 0.04, 400, 8e6)
  fast = case('fast', 0.01, 100, None, baseline='slow')
  first, second = time_cases([slow, fast], 5)
  assert calls == ['slow', 'fast'] * 6  # side by side; the first round is not counted
  assert first['milliseconds'] == pytest.approx([200, 160, 240])  # 3, 4, 5, 6, 7 times
  assert first['per_second'] == 2000
  assert first['gflop'] == 0.008
  assert first['gflops_per_second'] == pytest.approx(8e6 / 0.2 / 1e9, abs=0.05)
  assert 'ratio' not in first and second['ratio'] == [4, 4, 4]
  assert second['gflops_per_second'] is None and second['share_of_peak'] is None


@pytest.mark.slow
def test_every_in_context_case_is_timed(tmp_path):
  sizes = ['--tasks=2', '--examples=6', '--features=4', '--width=8', '--depth=1', '--repeats=3']
  status, out, error = run('benchmark', *sizes, f'--output={tmp_path / "benchmark.json"}')
  assert status == 0, error
  record = json.loads((tmp_path / 'benchmark.json').read_text())
  rows = {row['name']: row for row in record['rows']}
  assert len(rows) == len(out.splitlines()) == 12
  assert rows['one more example, extend']['ratio'][0] > 0
  assert rows['train, pairs, lstm']['gflops_per_second'] > 0
  assert rows['train, pairs, fused']['gflop'] >= rows['train, pairs']['gflop'] > 0  # it pads
  shares = {name: rows[name]['per_second'] * rows[name]['milliseconds'][0] for name in rows}
  pairs, shifted = shares['train, pairs'], shares['train, shifted']
  assert rows['train, pairs']['temporary_mib'] > 0
  assert pairs == pytest.approx(2 * shifted, rel=0.01)  # a token of its own for each question


@pytest.mark.slow
def test_every_form_of_the_meta_step_is_compiled_and_timed(monkeypatch):
  for name, value in {'WIDTH': 4, 'QUERIES': 1, 'STEPS': 2}.items():
    monkeypatch.setattr(benchmark_meta_step, name, value)
  rows = {row['name']: row for row in time_cases(benchmark_meta_step.cases(), 3)}
  modes = ['second order', 'second order, mixed', 'first order', 'grouped convolutions']
  assert list(rows)[:4] == modes
  for name in modes:
    assert rows[name]['compile_seconds'] > 0 and rows[name]['temporary_mib'] > 0
    assert rows[name].get('baseline', 'second order') == 'second order'
