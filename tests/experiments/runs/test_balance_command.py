"""The command that compares ways to train on families of unequal sizes."""

import json

import numpy as np
import pytest

from experiments.tables.balance import section
from tests.experiments.commands import done, run

SMALL = (
  '--learner=cnp:width=4,depth=1,decoder_depth=1',
  *('--tasks=200', '--shots=2', '--queries=2', '--steps=4', '--points=2', '--tasks_per_step=2'),
  *('--episodes=3', '--draws=4', '--seeds=2'),
)


@pytest.mark.slow  # a program for each way to train
def test_the_command_trains_in_each_way(tmp_path):
  """Cooldown is the temperature at first. Weights are of the same tasks as those by size."""
  output = tmp_path / 'found.json'
  out = done('balance', *SMALL, f'--output={output}')
  record = json.loads(output.read_text(encoding='utf-8'))
  curves = {way: np.array(each) for way, each in record['curves'].items()}
  assert curves['by size'].shape == (2, 2, 2, 4)  # seeds, points, new and seen, families
  np.testing.assert_array_equal(curves['cooldown'][:, 0], curves['temperature'][:, 0])
  for way, other in (('cooldown', 'temperature'), ('weights', 'by size')):
    assert (curves[way][:, 1] != curves[other][:, 1]).any()
  assert out.count('measured (closed form)') == 2
  assert '| cooldown |' in section('found', record | {'row': 'a few'})


@pytest.mark.parametrize(
  ('flag', 'message'),
  [
    ('--points=3', 'points=3 does not divide steps=4'),
    ('--tasks=20', 'leaves less than one task of the last kind'),
    ('--learner=cnp:width=0', 'width=0 is not positive'),
  ],
)
def test_bad_input_is_one_line(tmp_path, flag, message):
  output = tmp_path / 'found.json'
  status, _, error = run('balance', *SMALL, flag, f'--output={output}')
  assert status and message in error and error.count('\n') == 1 and not output.exists()
