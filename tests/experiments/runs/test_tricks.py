"""Tricks for new classes in sessions, by the command: a record that grows, and its page."""

import json

import numpy as np
import pytest

from experiments.output.tricks import paired
from experiments.runs.tricks import NAMES, Options, read_set, tricks
from experiments.tables.tricks import section
from metakit.episodes import Sessions
from tests.experiments.commands import done, refused, run

SIZES = Sessions(base_ways=4, base_shots=3, ways=1, shots=1, number=2, queries=2)
OPTIONS = Options(
  workdir=None,
  task='',
  trick=['pairs', 'subnetwork'],
  split='test',
  network='mlp:width=16,depth=1',
  steps=3,
  batch_ways=4,
  learning_rate=1e-2,
  shift=0,
  contrastive=1.0,
  turning=1.0,
  free=0.2,
  session_steps=1,
  session_rate=1e-3,
  streams=2,
  seeds=1,
  seed=0,
  data_dir=None,
)


@pytest.fixture
def options(tmp_path):
  """Twelve classes of six images."""
  x = np.random.default_rng(0).random((72, 4, 4, 1), np.float32)
  np.savez(tmp_path / 'images.npz', x=x, y=np.arange(72) % 12)
  task = f'arrays:path={tmp_path / "images.npz"},ways=2,shots=1,queries=2'
  return OPTIONS._replace(workdir=str(tmp_path / 'run'), task=task)


def flags(options):
  """The command line of the options."""
  known = {**options._asdict(), 'trick': options.trick[0], 'base_ways': 4, 'base_shots': 3}
  known |= {'session_ways': 1, 'session_shots': 1, 'sessions': 2, 'session_queries': 2}
  return [f'--{name}={value}' for name, value in known.items() if value is not None]


def cell(name, *seeds):
  """Each seed is the base accuracy after two sessions."""
  values = {'novel': [None, 0.5, 0.5], 'harmonic': [0.5, 0.5, 0.5], 'forgetting': 0.1}
  values |= {'processor_seconds': 2.0}
  seeds = {str(n): {'base': [0.9, 0.8, last], **values} for n, last in enumerate(seeds)}
  return {'tricks': name, 'seeds': seeds}


def test_effects_are_paired_by_seed():
  """Differences of 0.1, 0.2 and 0.3: their mean is 0.2 ± 4.303 * 0.1 / sqrt(3)."""
  found = paired(cell('pairs', 0.6, 0.4, 0.8), cell('baseline', 0.5, 0.2, 0.5, 0.9), 'base')
  assert found.mean == pytest.approx(0.2) and found.ci95 == pytest.approx(0.2484, abs=1e-4)
  assert found.sign == '0' and found.text == '+20.00 ± 24.84 (0)'
  surer = paired(cell('pairs', 0.51, 0.52), cell('baseline', 0.6, 0.61), 'base')
  assert surer.sign == '-' and surer.ci95 == pytest.approx(0, abs=1e-9)


def test_the_page_shows_effects_and_sessions():
  record = {'row': 'Small', 'task': 'glyphs', 'network': 'mlp', 'steps': 3, 'streams': 2}
  record |= {'sizes': SIZES._asdict(), 'device': 'cpu x2', 'command': 'python'}
  record['cells'] = [cell('baseline', 0.5, 0.5), cell('pairs', 0.625, 0.625)]
  page = section('small', record)
  assert '| baseline | 50.0 ± 0.0 | 50.0 ± 0.0 | 50.0 ± 0.0 | 10.0 ± 0.0 | 4 |' in page
  assert '| pairs | +12.50 ± 0.00 (+) | +0.00 ± 0.00 (0) |' in page
  assert '| pairs | 90.0 ± 0.0 | 80.0 ± 0.0 | 62.5 ± 0.0 |' in page
  assert '| tricks | 1 | 2 |' in page  # no new class at first


def test_a_set_of_tricks_has_one_order():
  assert read_set('+'.join(reversed(NAMES))) == NAMES


@pytest.mark.parametrize(
  ('changed', 'said'),
  [
    ({'workdir': None}, '--workdir is missing'),
    ({'trick': ['magic']}, "'magic' is unknown; use contrastive"),
    ({'trick': ['pairs+pairs']}, 'names pairs twice'),
    ({'task': 'sinusoid'}, 'sinusoid has no classes to make sessions of'),
    ({'trick': ['prototypes'], 'network': 'mlp:width=5,depth=1'}, 'classes=6 exceeds the 5'),
    ({'seeds': 2, 'seed': 2**32 - 1}, '--seeds=2 leads beyond the largest seed'),
  ],
)
def test_bad_input_is_one_line(changed, said, options, tmp_path, capsys):
  with pytest.raises(SystemExit):
    tricks(options._replace(**changed), SIZES)
  error = capsys.readouterr().err
  assert said in error and error.count('\n') == 1
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_a_record_goes_on_where_it_was(options, tmp_path):
  """A second seed adds to it; what is there stays. Free weights of share 0 change nothing."""
  done('tricks', *flags(options._replace(trick=['subnetwork'], free=0.0)))
  path = tmp_path / 'run' / 'tricks.json'
  baseline, frozen = json.loads(path.read_text())['cells']
  for name in ('base', 'novel', 'harmonic'):
    ours, theirs = (each['seeds']['0'][name] for each in (frozen, baseline))
    assert len(ours) == 3 and ours == theirs
  out = done('tricks', *flags(options._replace(trick=['pairs'], free=0.0, seeds=2)))
  cells = {each['tricks']: each['seeds'] for each in json.loads(path.read_text())['cells']}
  assert cells['baseline']['0'] == baseline['seeds']['0']
  assert {name: [*seeds] for name, seeds in cells.items()} == {
    'baseline': ['0', '1'],
    'subnetwork': ['0'],
    'pairs': ['0', '1'],
  }
  assert 'baseline, seed 0' not in out and 'baseline, seed 1' in out and 'pairs: base ' in out
  error = refused(run('tricks', *flags(options._replace(steps=4))))
  assert 'was measured with another steps' in error
