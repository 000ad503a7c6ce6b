"""The benchmark's arithmetic on cases of known length, and the binary on tiny sizes."""

import functools
import json
import time

import jax
import numpy as np
import optax
import pytest

from experiments.benchmarks import figure, packages, running, timing
from experiments.benchmarks.running import SUITES, slower
from experiments.benchmarks.suite import Suite
from experiments.benchmarks.suites import (
  growth,
  in_context,
  inner_steps,
  loops,
  meta_step,
  peers,
  predict,
  sampling,
  tables,
)
from experiments.benchmarks.suites.sampling import check_rows
from experiments.benchmarks.timing import Case, time_cases
from experiments.tables import benchmarks
from experiments.tables.pages import keep
from metakit.learners.descent import Descent
from metakit.learners.maml import maml
from metakit.networks.conv4 import conv4
from metakit.networks.mlp import mlp
from metakit.objectives import squared_error
from metakit.train import TrainState
from metakit.trained import MadeOf
from tests.experiments.commands import done


def test_times_rates_and_ratios_are_those_of_the_cases(monkeypatch):
  """On a clock that each case moves by what it takes: 1, 2, 3, ... times its length, in turn."""
  clock, calls = [0.0], []

  def case(name, seconds, *rest, **more):
    def call():
      calls.append(name)
      clock[0] += seconds * (1 + calls.count(name))

    return Case(name, call, *rest, **more)

  monkeypatch.setattr('experiments.benchmarks.timing.time.perf_counter', lambda: clock[0])
  kind = jax.devices()[0].device_kind
  monkeypatch.setitem(timing.PEAKS, (kind, 'float32'), 80e6)
  monkeypatch.setitem(timing.BANDWIDTHS, kind, 1e3)
  slow = case('slow', 0.04, 400, 8e6, moved=100)
  fast = case('fast', 0.01, 100, None, baseline='slow', agreement=0.98761)
  first, second = time_cases([slow, fast], 5)
  assert calls == ['slow', 'fast'] * 6  # side by side; the first round is not counted
  assert first['milliseconds'] == pytest.approx([200, 160, 240])  # 3, 4, 5, 6, 7 times
  assert first['per_second'] == 2000
  assert first['gflop'] == 0.008
  assert first['gflops_per_second'] == pytest.approx(8e6 / 0.2 / 1e9)
  assert first['share_of_peak'] == 0.5 and first['share_of_bandwidth'] == 0.5
  assert 'ratio' not in first and second['ratio'] == [4, 4, 4]
  assert second['gflops_per_second'] is None and second['share_of_peak'] is None
  assert second['share_of_bandwidth'] is None
  assert second['agreement'] == 0.9876 and 'agreement' not in first
  assert running.line(second | {'temporary_mib': 0}).endswith('98.76% the same answers')


SIZES = ['--tasks=2', '--examples=6', '--features=4', '--width=8', '--depth=1', '--repeats=3']
IN_CONTEXT = ['benchmark', '--suite=in_context', *SIZES]


@pytest.fixture(scope='module')
def in_context_record(tmp_path_factory):
  """What the binary stored of the suite on tiny sizes, and what it printed."""
  path = tmp_path_factory.mktemp('benchmark') / 'benchmark.json'
  out = done(*IN_CONTEXT, f'--output={path}')
  return json.loads(path.read_text()), out


@pytest.mark.slow
def test_every_in_context_case_is_timed(in_context_record):
  record, out = in_context_record
  rows = {row['name']: row for row in record['rows']}
  of_pytorch = len(in_context.PYTORCH) if packages.installed('torch') else 0
  assert len(rows) == len(out.splitlines()) == 12 + of_pytorch
  assert rows['one more example, extend']['ratio'][0] > 0
  assert rows['train, pairs, lstm']['gflops_per_second'] > 0
  assert rows['train, pairs, fused']['gflop'] >= rows['train, pairs']['gflop'] > 0  # it pads
  shares = {name: rows[name]['per_second'] * rows[name]['milliseconds'][0] for name in rows}
  pairs, shifted = shares['train, pairs'], shares['train, shifted']
  assert rows['train, pairs']['temporary_mib'] > 0
  assert pairs == pytest.approx(2 * shifted, rel=0.01)  # a token of its own for each question


@pytest.mark.slow
def test_every_form_of_the_meta_step_is_compiled_and_timed(monkeypatch):
  small = {'WIDTH': 4, 'DEPTH': 1, 'WAYS': 2, 'QUERIES': 1, 'STEPS': 2, 'TASKS': 2}
  for name, value in small.items():
    monkeypatch.setattr(meta_step, name, value)
  rows = {row['name']: row for row in time_cases(meta_step.cases(), 3)}
  ours = [name for name, row in rows.items() if not row['peer']]
  modes = {'second order', *meta_step.EXACT, *meta_step.APPROXIMATE}
  others = {'iMAML, implicit', 'prototypical networks', 'second order, one device', 'Meta-SGD'}
  assert modes | others == set(ours)
  assert rows['second order']['gflop'] == rows['second order, one device']['gflop']
  for name in (*ours, 'grouped convolutions'):
    assert rows[name]['compile_seconds'] > 0 and rows[name]['temporary_mib'] > 0
    assert rows[name].get('baseline', 'second order') == 'second order'


def test_what_became_slower_is_named_however_fast_the_machine_is():
  row = lambda name, ms, **more: {'name': name, 'milliseconds': [ms, ms, ms], **more}
  stored = [row('a', 10), row('b', 20), row('theirs', 30, peer=True)]
  twice = [row('a', 20), row('b', 40), row('theirs', 60, peer=True)]
  assert slower(twice, stored) == slower(stored, twice) == []
  faster = [row('a', 5), row('b', 20), row('theirs', 30, peer=True)]  # b is no slower for that
  assert slower(faster, stored) == []
  assert slower([row('a', 10), row('b', 24), row('theirs', 30, peer=True)], stored) == [
    'b: takes 1.2 times as long, beside what is not metakit'
  ]
  assert slower([row('a', 10), row('b', 20), row('theirs', 60, peer=True)], stored) == []
  with pytest.raises(ValueError, match='a record of the same suite'):
    slower([row('c', 1.0)], stored)


def test_cases_without_a_peer_are_compared_with_one_another():
  row = lambda name, ms, **more: {'name': name, 'milliseconds': ms and [ms, ms, ms], **more}
  stored = [
    row('a', 1),
    row('b', 2),
    row('c', 3, temporary_mib=10),
    row('d', None, temporary_mib=8),
  ]
  assert slower([row('a', 2), row('b', 4), row('c', 6), row('d', None)], stored) == []
  grown = [row('a', 1), row('b', 3), row('c', 3, temporary_mib=9), row('d', None, temporary_mib=9)]
  assert slower(grown, stored) == [
    'b: takes 1.5 times as long, beside the other cases',
    'd: takes 1.12 times as much memory',
  ]


@pytest.mark.parametrize(
  'rows', [[[[0, 0], [20, 21]]], [[[0, 1], [2, 3]]], [[[0, 21], [22, 23]]], [[[0, 1]], [[3, 3]]]]
)
def test_a_plan_that_repeats_or_mixes_is_not_timed(rows):
  check_rows([[[0, 1], [20, 21]], [[39, 20], [1, 0]]], 20)
  with pytest.raises(ValueError, match='repeats a class or a row, or mixes classes'):
    check_rows(np.array(rows), 20)


def test_forms_that_compute_something_else_are_not_timed():
  right, wrong = [np.array([3.0, 4.0])], [np.array([3.0, 4.05])]
  meta_step.check_gradient('a', right, right)
  with pytest.raises(AssertionError, match=r'a: weight 0 .* by 0.01 of its norm'):
    meta_step.check_gradient('a', wrong, right)
  meta_step.check_value('a', (1.0, right), (1.001, right))
  with pytest.raises(AssertionError, match=r'a: the loss is 1, not 1\.1'):
    meta_step.check_value('a', (1.0, right), (1.1, right))
  with pytest.raises(AssertionError, match='a: weight 0'):
    meta_step.check_value('a', (1.0, wrong), (1.0, right))
  with pytest.raises(AssertionError, match='a cache is another one'):
    in_context.check_same('a cache', *(1.1 * right[0], right[0]))
  steps = [Case('unroll, 4 steps', lambda: right), Case('mixed, 4 steps', lambda: wrong)]
  with pytest.raises(AssertionError, match='mixed, 4 steps: weight 0 has another gradient'):
    inner_steps.check_same(steps)
  inner_steps.check_same([steps[0], Case('mixed, 8 steps', lambda: wrong)])
  state = lambda params: (TrainState(0, params, ()), {})
  ends = [Case('1', lambda: state(right)), Case('8', lambda: state(wrong))]
  with pytest.raises(AssertionError, match='8'):
    growth.check_same(ends)


SMALL = {
  sampling: {'PLANS': 32, 'WHOLE': 16, 'NUMBERS_OF_CLASSES': (50,), 'NUMBERS_OF_ROWS': (200,)}
  | {'SIZES': {name: sampling.SIZES[name] for name in (sampling.OURS, '20-way 5-shot')}},
  loops: {'STEPS': 40, 'STEPS_PER_DISPATCH': 20, 'EVALUATED': 64, 'JUDGED': 8}
  | {'TRANSDUCTIVE': ('soft_kmeans', 'pt_map')},
  predict: {
    'LEARNERS': {'prototypical': MadeOf('prototypical', 'conv4:width=4,depth=2', 5)},
    'MANY': 20,
  },
  peers: {'EPISODES': 2, 'FEATURES': 32},
  tables: {'TABLES': 2, 'ROWS': 30, 'QUERIES': 8, 'WIDTH': 8, 'DEPTH': 1, 'HEADS': 2},
}

# Suites that are large whatever the sizes. Their cases have tests of their own, above and below.
LARGE = (
  'growth', 'in_context', 'learner_memory', 'learners', 'memory', 'meta_step', 'scaling', 'startup'
)  # fmt: skip


@pytest.mark.parametrize(
  'suite',
  [
    pytest.param(suite, marks=[] if suite in ('plans', 'predict') else pytest.mark.slow)
    for suite in SUITES
    if suite not in LARGE
  ],
)
def test_every_suite_checks_its_values_and_is_timed(suite, monkeypatch):
  for module, sizes in SMALL.items():
    for name, value in sizes.items():
      monkeypatch.setattr(module, name, value)
  rows = time_cases(SUITES[suite].cases(), 3)
  assert len(rows) >= 3 and all(row['per_second'] > 0 for row in rows)
  assert any('ratio' in row for row in rows)


@pytest.mark.slow
def test_steps_of_networks_are_timed_by_the_size_of_their_images(monkeypatch):
  monkeypatch.setattr(growth, 'NETWORKS', {'Conv4': lambda: conv4(width=2)})
  cases = [growth._image_step('Conv4', shape) for shape in ((16, 1), (32, 3))]
  rows = time_cases(cases, 1)
  assert [row['name'] for row in rows] == ['Conv4, 16x16x1', 'Conv4, 32x32x3']
  assert rows[1]['gflop'] > 4 * rows[0]['gflop'] and rows[0]['unit'] == 'images'


def test_a_predict_that_compiles_for_each_number_is_not_timed(monkeypatch):
  parts = MadeOf('prototypical', 'mlp:width=4,depth=1', 5)
  fitted = predict.trained(parts).adapt(predict.pictures(5), range(5))
  monkeypatch.setattr('metakit.trained.trained.bucket', lambda rows: rows)
  monkeypatch.setattr(predict, 'MOST', 9)
  with pytest.raises(AssertionError, match='it: 9 programs for 2 sizes'):
    predict._any_number('it', fitted)


def test_a_loop_by_hand_that_does_something_else_is_not_timed(monkeypatch):
  monkeypatch.setattr(loops, 'STEPS', 20)
  learner = maml(mlp(1, 40, 2), Descent(optax.sgd(0.02), 5), objective=squared_error)
  monkeypatch.setattr(loops, '_sinusoid_maml', lambda: learner)
  with pytest.raises(AssertionError, match='Not equal to tolerance'):
    loops.training()


def test_what_became_slower_than_a_record_is_an_error_of_one_line(monkeypatch, tmp_path, capsys):
  """Cases that take no time: one of three took a thousandth of it in the record."""
  monkeypatch.setattr(jax.config, 'update', lambda *_: None)  # this process keeps its cache
  cases = [Case(name, functools.partial(time.sleep, 0.002)) for name in 'abc']
  monkeypatch.setitem(SUITES, 'plans', Suite(lambda: cases))
  options = dict.fromkeys(running.Options._fields) | {'suite': 'plans', 'repeats': 3}
  options = running.Options(**options | {'inner_steps': [], 'output': str(tmp_path / 'now.json')})
  running.benchmark(options)
  record, path = json.loads((tmp_path / 'now.json').read_text()), tmp_path / 'before.json'
  record['rows'][0]['milliseconds'] = [0.001 * ms for ms in record['rows'][0]['milliseconds']]
  path.write_text(json.dumps(record))
  with pytest.raises(SystemExit, match='1'):
    running.benchmark(options._replace(output=None, against=str(path)))
  said = capsys.readouterr()
  assert len(said.out.splitlines()) == 6
  assert said.err.startswith(f'error: slower than in {path}: a: takes ')


def test_what_another_command_has_measured_is_not_overwritten(tmp_path):
  command = 'python -m experiments.benchmark --suite=plans --repeats=5 --output=plans.json'
  path = tmp_path / 'plans.json'
  running.check_output(path, command)
  path.write_text(json.dumps({'command': command, 'rows': []}))
  running.check_output(path, command.replace('=5', '=9') + ' --against=before.json')
  with pytest.raises(ValueError, match=r'plans.json was measured with another command; .*--output'):
    running.check_output(path, command.replace('plans ', 'heads '))


def test_an_aim_is_met_or_missed_by_what_was_measured():
  row = lambda name, ms, **more: {'name': name, 'milliseconds': [ms, ms, ms], **more}
  rows = [row('second order', 100, compile_seconds=16, temporary_mib=3)]
  rows.append(row('first order', 80, baseline='second order', ratio=[1.25], temporary_mib=2))
  lines = benchmarks.aims({'meta_step': {'rows': rows}}).splitlines()
  said = {line.split(' | ')[2]: line.split(' | ')[3:] for line in lines if '| meta_step |' in line}
  assert said['at most 1.35 times as long as first order'] == ['1.25', 'met |']
  assert said['at most 15 compile seconds'] == ['16', 'missed |']
  assert said['at least 15 times as fast as grouped convolutions'] == ['unmeasured', ' |']


def test_a_figure_names_every_case_that_was_run(tmp_path):
  row = lambda name, times, **more: {'name': name, 'milliseconds': times, **more}
  rows = [row('ours', [2, 1, 3]), row('theirs', [200, 100, 300], peer=True), row('large', None)]
  figure.draw(rows, tmp_path / 'a.svg', 'a suite')
  drawn = (tmp_path / 'a.svg').read_text()
  assert all(f'>{text}<' in drawn for text in ('ours', 'theirs', 'a suite', '2', '200'))
  assert '>large<' not in drawn
  again = tmp_path / 'b.svg'
  figure.draw(rows, again, 'a suite')
  assert again.read_text() == drawn  # a figure changes with its numbers alone


def test_the_tables_are_written_from_the_records_and_checked(tmp_path):
  record = {'command': 'python -m experiments.benchmark', 'device': 'cpu', 'repeats': 3}
  record['versions'] = {'jax': '0.10', 'python': '3.11'}
  names = ('5-way 1-shot', 'NumPy')
  rows = [
    {'name': name, 'milliseconds': [ms, ms, ms], 'per_second': round(2e6 / ms), 'unit': 'episodes'}
    | {'temporary_mib': 0, 'peer': name == 'NumPy'}
    for name, ms in zip(names, (10, 200), strict=True)
  ]
  rows[1] |= {'baseline': '5-way 1-shot', 'ratio': [0.05, 0.04, 0.06]}
  folder = tmp_path / benchmarks.RESULTS
  folder.mkdir(parents=True)
  (folder / 'plans.json').write_text(json.dumps(record | {'rows': rows}))
  keep(tmp_path, benchmarks.texts(tmp_path), check=False)
  keep(tmp_path, benchmarks.texts(tmp_path), check=True)
  page = (tmp_path / benchmarks.PAGE).read_text()
  assert '| plans | 5-way 1-shot | at least 150,000 per second | 2e+05 | met |' in page
  assert '1,000,000 classes | at most 1.1 times as long as 5-way 1-shot | unmeasured |' in page
  rows[0]['milliseconds'] = [11, 11, 11]
  (folder / 'plans.json').write_text(json.dumps(record | {'rows': rows}))
  with pytest.raises(ValueError, match=r'stale: .*benchmarks.md; run '):
    keep(tmp_path, benchmarks.texts(tmp_path), check=True)
