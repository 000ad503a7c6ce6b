"""Strategies on a stream, by the command line: a record, a figure, and what a kill leaves."""

import json
import time

import jax
import numpy as np
import pytest

from experiments.components.in_context_events import components, through_levels
from experiments.components.streams import ORDER, real
from experiments.output.stream_figure import draw
from experiments.runs.stream import Options, Trial, stream, trials_of
from experiments.tables.streams import section
from metakit.builder import meta_learner
from metakit.types import Examples
from tests.data.real import real_data
from tests.experiments.commands import done, start

OPTIONS = Options(
  workdir=None,
  stream='made:events=3',
  strategy=['class_means', 'dynamic_knn'],
  network='mlp:width=8,depth=1',
  rates=['0.01'],
  trial_steps=['20'],
  batch=16,
  seed=0,
  data_dir=None,
)
FLAGS = ['--stream=made:events=3', '--network=mlp:width=8,depth=1', '--rates=0.01', '--batch=16']
FLAGS += ['--strategy=class_means', '--strategy=dynamic_knn', '--trial_steps=20']


def cell(strategy, steps, **changed):
  known = {'error': [0.5, 0.25], 'dev_error': [0.5, 0.25], 'start': [-1, 0], 'trial': [0, 1]}
  known |= {'train_flops': [3e9, 2e9], 'predict_flops': [1e9, 1e9], 'events': ['first', 'second']}
  known |= {'peak_bytes': [1000, 3000], 'parameters': [7, 7]}
  return {'strategy': strategy, 'trial_steps': steps, **known, **changed}


def test_a_page_shows_what_each_strategy_took(tmp_path):
  cells = [cell('previous', 200), cell('class_means', None, error=[0.25, 0.75], start=[-1, -1])]
  record = {'row': 'Two', 'stream': 'made', 'network': 'mlp', 'rates': [0.01], 'batch': 8}
  record |= {'seed': 0, 'device': 'cpu x2', 'command': 'python', 'cells': cells}
  page = section('two', record)
  assert '| previous, 200 steps | 0.375 | 7 | 5 | 2 | 3 kB | 7 |' in page
  assert '| 0 | first | 0.500 | **0.250** |' in page
  assert '| 1 | second | **0.250**, 0 | 0.750 |' in page
  kinds = {'kinds': ['regression', 'classification']}
  page = section('two', {**record, 'cells': [each | kinds for each in cells]})
  assert '| previous, 200 steps | 0.375 | 0.250 | 0.500 | 7 | 5 | 2 |' in page
  draw(cells, tmp_path / 'two.svg', title='two')
  assert 'previous, 200 steps' in (tmp_path / 'two.svg').read_text()


def test_a_strategy_that_trains_runs_at_each_budget():
  asked = OPTIONS._replace(trial_steps=['20', '50'])
  expected = [Trial('class_means', None), Trial('dynamic_knn', 20), Trial('dynamic_knn', 50)]
  assert list(trials_of(asked)) == expected


@pytest.mark.parametrize(
  ('changed', 'said'),
  [
    ({}, '--workdir is missing'),
    ({'strategy': ['best']}, "unknown strategy 'best'"),
    ({'stream': 'made:events=0'}, 'events=0 is not positive'),
    ({'network': 'transformer'}, 'does not read single examples'),
    ({'rates': ['0.1', '-1']}, '--rates=0.1,-1 is no list of positive numbers'),
    ({'trial_steps': ['many']}, '--trial_steps=many is no list of positive numbers'),
    ({'stream': 'made:transfer=some'}, "transfer='some' is unknown"),
  ],
)
def test_bad_input_is_one_line(changed, said, tmp_path, capsys):
  place = {'workdir': str(tmp_path / 'run')} if changed else {}
  with pytest.raises(SystemExit):
    stream(OPTIONS._replace(**place, **changed))
  error = capsys.readouterr().err
  assert said in error and error.count('\n') == 1
  assert not (tmp_path / 'run').exists()


def test_principal_components_are_those_of_a_decomposition():
  random = np.random.default_rng(0)
  x = random.standard_normal((50, 8)) * 3.0 ** -np.arange(8)
  with jax.enable_x64(True):
    basis = np.asarray(components(x, 2))
  ours, theirs = basis @ basis.T, np.linalg.svd(x, full_matrices=False)[2][:2]
  np.testing.assert_allclose(ours, theirs.T @ theirs, atol=1e-4)


def test_levels_stand_for_targets_by_their_order():
  """A learner that is sure of the class of each example answers with the mean of its tenth."""
  known = lambda key, params, support: support.y
  sure = meta_learner(lambda key, episode: {}, known, lambda y, x: 1e3 * jax.nn.one_hot(y, 10))
  y = np.random.default_rng(0).permutation(20).astype(np.float32)[:, None]
  learner, x = through_levels(sure), np.zeros((20, 1), np.float32)
  answers = learner.predict(learner.adapt(jax.random.key(0), {}, Examples(x, y)), x)
  np.testing.assert_allclose(answers, y // 2 * 2 + 0.5)


@pytest.mark.slow  # what a stream does when it is stopped is quick in tests/streams
def test_a_stream_that_was_killed_ends_with_the_same_record(tmp_path):
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  done('stream', *FLAGS, f'--workdir={whole}')
  process = start('stream', *FLAGS, f'--workdir={killed}')
  while process.poll() is None and not (killed / 'checkpoints/dynamic_knn_20/1.json').exists():
    time.sleep(0.01)
  process.kill()
  process.wait()
  out = done('stream', *FLAGS, f'--workdir={killed}')
  first, second = (json.loads((each / 'stream.json').read_text()) for each in (whole, killed))
  assert first['cells'] == second['cells'] and len(first['cells'][1]['error']) == 3
  assert 'class_means: ' not in out  # it was over
  assert (killed / 'stream.svg').exists()
  again = done('stream', *FLAGS, f'--workdir={killed}', '--strategy=previous')
  assert 'previous (20 steps): 2 of family 0: error' in again
  record = json.loads((killed / 'stream.json').read_text())
  assert record['cells'][:2] == first['cells'] and len(record['cells']) == 3


@pytest.mark.slow
def test_real_tasks_make_a_stream():
  events = real(str(real_data('weather_europe').parent)).events
  assert [event.name for event in events] == list(ORDER)
  for event in events:
    assert np.square(event.train.x).mean() == pytest.approx(1, rel=1e-3)
    if not event.objective.classifies:
      assert event.train.y.std() == pytest.approx(1, rel=1e-3)
