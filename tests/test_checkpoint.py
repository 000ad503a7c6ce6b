import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metakit.checkpoint import checkpoints
from metakit.train import TrainState


def state(step=0, width=3, dtype=jnp.float32):
  params = {'kernel': (jnp.arange(width) + step).astype(dtype), 'bias': jnp.float32(step)}
  return TrainState(jnp.int32(step), params, optax.adam(1e-3).init(params))


def save(folder, *steps, **options):
  with checkpoints(folder, **options) as saved:
    for step in steps:
      saved.save(step, state(step))


def test_the_newest_state_comes_back_bit_for_bit(tmp_path):
  save(tmp_path, 1, 2, 3)
  with checkpoints(tmp_path) as saved:
    assert saved.latest_step() == 3
    restored = saved.restore(state())
  jax.tree.map(np.testing.assert_array_equal, restored, state(3))
  assert jax.tree.structure(restored) == jax.tree.structure(state(3))


def test_a_state_known_by_its_shapes_alone_is_restored(tmp_path):
  save(tmp_path, 4)
  with checkpoints(tmp_path) as saved:
    restored = saved.restore(jax.eval_shape(state))
  jax.tree.map(np.testing.assert_array_equal, restored, state(4))


def test_an_empty_folder_has_no_step(tmp_path):
  with checkpoints(tmp_path / 'new') as saved:
    assert saved.latest_step() is None


def test_only_the_newest_are_kept(tmp_path):
  save(tmp_path, 1, 2, 3, 4, keep=2)
  assert sorted(p.name for p in tmp_path.iterdir()) == ['3', '4']


def test_a_save_cut_short_leaves_the_step_before_it_the_newest(tmp_path):
  save(tmp_path, 1)
  (tmp_path / '2.orbax-checkpoint-tmp').mkdir()  # what kill -9 leaves behind
  with checkpoints(tmp_path) as saved:
    assert saved.latest_step() == 1
    saved.save(2, state(2))
    saved.wait()
    assert saved.latest_step() == 2
    jax.tree.map(np.testing.assert_array_equal, saved.restore(state()), state(2))


@pytest.mark.parametrize('other', [state(width=4), state(dtype=jnp.bfloat16)])
def test_another_configuration_is_refused_by_the_name_of_a_leaf(tmp_path, other):
  save(tmp_path, 1)
  with checkpoints(tmp_path) as saved, pytest.raises(ValueError, match=r'step 1 .*kernel'):
    saved.restore(other)


def test_a_relative_folder_works(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  save('here', 1)
  assert (tmp_path / 'here' / '1').is_dir()
