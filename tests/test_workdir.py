"""A run's folder, read: its flags, its data, its checkpoints."""

import json
import os

import numpy as np
import pytest

from experiments.runs.workdir import own_workdir as of_commands
from metakit.checkpoint import checkpoints
from metakit.train import TrainState
from metakit.workdir import claim_workdir, open_workdir, own_workdir

STATE = TrainState(np.int32(3), {'w': np.arange(4, dtype=np.float32)}, ())


def written(folder, flags):
  (folder / 'flags.json').write_text(json.dumps(flags))
  return folder


def test_flags_and_data_are_told_apart_and_a_run_of_before_noted_no_data(tmp_path):
  opened = open_workdir(written(tmp_path, {'task': 'glyphs', 'data': {'train': 'a'}}), ['task'])
  assert opened.flags == {'task': 'glyphs'} and opened.data == {'train': 'a'}
  opened.check_data({'train': 'a', 'test': 'b'})  # of the test nothing was noted
  with pytest.raises(ValueError, match='the checksum of train is a there and b here'):
    opened.check_data({'train': 'b'})
  assert open_workdir(written(tmp_path, {'task': 'glyphs'})).data == {}


def test_what_is_no_workdir_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'its flags\.json is missing; train first'):
    open_workdir(tmp_path)
  with pytest.raises(ValueError, match=r'is missing or lacks seed; train first'):
    open_workdir(written(tmp_path, {'task': 'glyphs'}), ['task', 'seed'])
  (tmp_path / 'flags.json').write_text('{')
  with pytest.raises(ValueError, match=r'flags\.json is damaged .* restore it from a copy'):
    open_workdir(tmp_path)


def test_the_newest_state_and_the_best_are_read(tmp_path):
  opened = open_workdir(written(tmp_path, {'task': 'glyphs'}))
  with pytest.raises(ValueError, match='has no checkpoint yet; train first'):
    opened.restore(STATE)
  with checkpoints(tmp_path / 'checkpoints') as saved:
    saved.save(3, STATE, 0.9)
    saved.save(4, STATE._replace(step=np.int32(4)), 0.1)
  assert opened.restore(STATE)[0] == 4
  step, state = opened.restore(STATE, best=True)
  assert step == 3 and np.array_equal(state.params['w'], np.arange(4.0))


def test_who_goes_on_from_python_has_the_lock_that_commands_ask_for(tmp_path):
  """A command's own lock is refused while Python has the folder, and Python's while a command."""
  flags = {'task': 'glyphs', 'seed': 0, 'data': {'train': 'a'}}
  claim_workdir(tmp_path / 'run', flags)
  mine = own_workdir(tmp_path / 'run')
  assert mine.flags == {'task': 'glyphs', 'seed': 0} and mine.data == {'train': 'a'}
  for again in (
    lambda: own_workdir(tmp_path / 'run'),
    lambda: of_commands(tmp_path / 'run', flags),
  ):
    with pytest.raises(ValueError, match=f'is in use by process {os.getpid()} '):
      again()
  assert (tmp_path / 'run' / '.metakit.lock').exists()


def test_a_folder_belongs_to_the_flags_and_data_that_it_was_claimed_with(tmp_path):
  flags = {'rate': 0.1, 'seed': 0, 'data': {'train': 'a'}}
  assert own_workdir(tmp_path / 'run', flags).data == {'train': 'a'}
  claim_workdir(tmp_path / 'run', flags)
  with pytest.raises(ValueError, match=r'other flags: rate is 0\.1 there and 0\.2 here; use'):
    claim_workdir(tmp_path / 'run', flags | {'rate': 0.2})
  with pytest.raises(ValueError, match='the checksum of train is a there and b here'):
    claim_workdir(tmp_path / 'run', flags | {'data': {'train': 'b'}})
  with pytest.raises(ValueError, match=r'--rate is None there and 0\.1 here; use another --w'):
    claim_workdir(written(tmp_path, {'seed': 0}), flags, named='--{}'.format)
  claim_workdir(tmp_path, flags, complete=lambda flags: {'rate': 0.1, **flags})


def test_only_a_run_is_gone_on_with(tmp_path):
  with pytest.raises(ValueError, match=r'its flags\.json is missing; train first'):
    own_workdir(tmp_path)
  assert not list(tmp_path.iterdir())
