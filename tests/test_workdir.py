"""A run's folder, read: its flags, its data, its checkpoints."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from metakit.checkpoint import checkpoints
from metakit.train import TrainState
from metakit.workdir import open_workdir

STATE = TrainState(jnp.int32(3), {'w': jnp.arange(4.0)}, ())


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
    saved.save(4, STATE._replace(step=jnp.int32(4)), 0.1)
  assert opened.restore(STATE)[0] == 4
  step, state = opened.restore(STATE, best=True)
  assert step == 3 and np.array_equal(state.params['w'], np.arange(4.0))
