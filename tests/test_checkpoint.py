import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from metakit.checkpoint import checkpoints
from metakit.episodes.few_shot import sampler_of
from metakit.learners import prototypical
from metakit.models import from_nnx
from metakit.train import TrainState, init_state
from metakit.types import MetaLearner
from tests import tiny
from tests.disks import small_disk

FAMILIES = ('prototypical', 'maml', 'in_context')


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


def test_an_optimizer_whose_first_part_has_no_state_is_restored(tmp_path):
  """As clipping gradients has none: nothing is saved at index 0 of the chain, and the rest is."""
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
  clipped = state(4)._replace(opt_state=optimizer.init(state(4).params))
  with checkpoints(tmp_path) as saved:
    saved.save(4, clipped)
  with checkpoints(tmp_path) as saved:
    restored = saved.restore(jax.tree.map(jnp.zeros_like, clipped))
  jax.tree.map(np.testing.assert_array_equal, restored, clipped)


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


def linear() -> MetaLearner:
  model = from_nnx(lambda rngs: nnx.Linear(64, 4, rngs=rngs))
  flat = lambda params, x, weight=None: model.apply(params, x.reshape(len(x), -1) / 255)
  return prototypical(model._replace(apply=flat), tiny.WAYS)


@pytest.mark.parametrize('make', [*(lambda n=n: tiny.learners()[n] for n in FAMILIES), linear])
def test_the_state_of_every_learner_comes_back_bit_for_bit(make, tmp_path):
  learner, adam = make(), optax.adam(1e-3)
  make_state = lambda: init_state(learner, adam, jax.random.key(0), sampler_of(tiny.source()))
  first = jax.jit(make_state)()
  with checkpoints(tmp_path) as saved:
    saved.save(1, first)
    saved.wait()
    restored = saved.restore(jax.tree.map(jnp.zeros_like, first))
  jax.tree.map(np.testing.assert_array_equal, restored, first)
  assert jax.tree.structure(restored) == jax.tree.structure(first)


def test_eight_devices_save_what_one_restores(tmp_path):
  mesh = jax.make_mesh((8,), ('tasks',), axis_types=(AxisType.Auto,))
  spread = jax.device_put(state(5), NamedSharding(mesh, PartitionSpec()))
  with checkpoints(tmp_path) as saved:
    saved.save(5, spread)
    saved.wait()
    for target in (jax.eval_shape(state), state()):
      restored = saved.restore(target)
      jax.tree.map(np.testing.assert_array_equal, restored, state(5))
      assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(restored))


def test_a_damaged_checkpoint_is_named_with_a_remedy(tmp_path):
  save(tmp_path, 1, 2)
  for file in (p for p in (tmp_path / '2').rglob('*') if p.is_file()):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  with checkpoints(tmp_path) as saved, pytest.raises(ValueError, match=r'/2 cannot be read .*away'):
    saved.restore(state())
  (tmp_path / '2').rename(tmp_path / 'damaged')
  with checkpoints(tmp_path) as saved:
    jax.tree.map(np.testing.assert_array_equal, saved.restore(state()), state(1))


FILL = """
import sys
from metakit.checkpoint import checkpoints
from tests.test_checkpoint import state
with checkpoints(sys.argv[1]) as saved:
  saved.save(2, state(2, width=10**6))
"""


def test_a_disk_that_fills_up_is_named_and_the_step_before_is_kept(tmp_path):
  with small_disk(tmp_path, '1m') as disk:
    save(disk, 1)
    # In a process of its own: Orbax's threads die of it now or later.
    command = [sys.executable, '-c', FILL, disk]
    filled = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    said = f'OSError: [Errno 28] no space left for a checkpoint in {disk}; free some'
    assert filled.returncode == 1 and said in filled.stderr
    with checkpoints(disk) as saved:
      jax.tree.map(np.testing.assert_array_equal, saved.restore(state()), state(1))


@pytest.mark.parametrize('other', [state(width=4), state(dtype=jnp.bfloat16)])
def test_another_configuration_is_refused_by_the_name_of_a_leaf(tmp_path, other):
  save(tmp_path, 1)
  with checkpoints(tmp_path) as saved, pytest.raises(ValueError, match=r'step 1 .*kernel'):
    saved.restore(other)


def test_a_relative_folder_works(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  save('here', 1)
  assert (tmp_path / 'here' / '1').is_dir()
