"""Trainings that begin with the parameters of another run, or of the zoo."""

import pytest

from experiments.output.results import read_results
from tests.experiments.commands import done, refused, run

TASK = '--task=sinusoid:shots=5,queries=5'
LEARNER = '--learner=maml:inner_learning_rate=0.01'
SIZES = '--tasks_per_step=2', '--validation_episodes=2', '--episodes=20', '--curve=none'
NETWORK = '--network=mlp:width=4,depth=1'


@pytest.mark.slow
def test_a_training_begins_where_another_ended(tmp_path):
  """A step of no length changes nothing: the test has the same errors, which a new run has not."""
  first, second = (f'--workdir={tmp_path / name}' for name in ('first', 'second'))
  begun = ['train', TASK, LEARNER, NETWORK, *SIZES]
  done(*begun, '--steps=3', first)
  still = [*begun, '--steps=1', '--optimizer=sgd:learning_rate=1e-30', second]
  done(*still, f'--start={tmp_path / "first"}')
  ours, theirs = (read_results(tmp_path / name / 'results.json') for name in ('first', 'second'))
  assert theirs['mean'] == ours['mean'] and theirs['start'] == str(tmp_path / 'first')
  assert 'start' not in ours
  error = refused(run(*still))
  assert f'belongs to other flags: --start is {tmp_path / "first"} there and None here' in error


def test_what_a_training_cannot_begin_with_is_refused(tmp_path):
  begun = ['train', TASK, LEARNER, NETWORK, *SIZES, '--steps=3', f'--workdir={tmp_path / "run"}']
  assert 'nowhere is no workdir of a training' in refused(run(*begun, '--start=nowhere'))
  error = refused(run(*begun, '--start=sinusoid-maml'))
  assert 'the parameters to begin with are of another learner' in error
  assert not (tmp_path / 'run').exists()
