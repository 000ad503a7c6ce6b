import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from metakit.checkpoint import _sum_of, checkpoints
from metakit.learners import prototypical
from metakit.models import from_nnx
from metakit.train import TrainState, init_state
from metakit.types import MetaLearner
from tests import tiny
from tests.disks import small_disk


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
    step, restored = saved.restore(state())
  assert step == 3
  jax.tree.map(np.testing.assert_array_equal, restored, state(3))
  assert jax.tree.structure(restored) == jax.tree.structure(state(3))


def test_a_state_known_by_its_shapes_alone_is_restored(tmp_path):
  save(tmp_path, 4)
  with checkpoints(tmp_path) as saved:
    _, restored = saved.restore(jax.eval_shape(state))
  jax.tree.map(np.testing.assert_array_equal, restored, state(4))


def test_an_optimizer_whose_first_part_has_no_state_is_restored(tmp_path):
  """As clipping gradients has none: nothing is saved at index 0 of the chain, and the rest is."""
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
  clipped = state(4)._replace(opt_state=optimizer.init(state(4).params))
  with checkpoints(tmp_path) as saved:
    saved.save(4, clipped)
  with checkpoints(tmp_path) as saved:
    _, restored = saved.restore(jax.tree.map(jnp.zeros_like, clipped))
  jax.tree.map(np.testing.assert_array_equal, restored, clipped)


def test_an_empty_folder_has_no_step(tmp_path):
  with checkpoints(tmp_path / 'new') as saved:
    assert saved.restore(state()) is None


def test_only_the_newest_are_kept(tmp_path):
  save(tmp_path, 1, 2, 3, 4, keep=2)
  assert sorted(p.name for p in tmp_path.iterdir()) == ['3', '3.json', '4', '4.json']


def test_the_best_is_kept_beside_the_newest_and_found_after_a_restart(tmp_path):
  scores = {1: 0.5, 2: 0.9, 3: 0.9, 4: None, 5: 0.1}
  with checkpoints(tmp_path, keep=1) as saved:
    for step, score in scores.items():
      saved.save(step, state(step), score)
  with checkpoints(tmp_path, keep=1) as saved:
    saved.save(6, state(6), float('nan'))
  with checkpoints(tmp_path, keep=1) as saved:
    assert saved.restore(state())[0] == 6
    step, best = saved.restore(state(), best=True)
  assert step == 3  # the later of two equals
  jax.tree.map(np.testing.assert_array_equal, best, state(3))
  assert {p.stem for p in tmp_path.iterdir()} == {'3', '6'}


def cut_short(folder, left, monkeypatch):
  """Begins to save step 2 and leaves what kill -9 may leave of it."""

  def dies(self, path, args, force):
    (path.parent / left).mkdir()
    raise RuntimeError('killed')

  with monkeypatch.context() as patched:
    patched.setattr(ocp.Checkpointer, 'save', dies)
    with pytest.raises(RuntimeError, match='killed'):
      save(folder, 2)


@pytest.mark.parametrize('left', ['2.orbax-checkpoint-tmp', '2'])
def test_a_save_cut_short_leaves_the_step_before_it_the_newest(left, tmp_path, monkeypatch):
  save(tmp_path, 1)
  cut_short(tmp_path, left, monkeypatch)
  with checkpoints(tmp_path) as saved, warnings.catch_warnings(record=True) as told:
    warnings.simplefilter('always')
    assert saved.restore(state())[0] == 1
    assert ['not saved to the end' in str(each.message) for each in told] == [True] * (left == '2')
    saved.save(2, state(2))
  assert sorted(p.name for p in tmp_path.iterdir()) == ['1', '1.json', '2', '2.json']
  with checkpoints(tmp_path) as saved:
    jax.tree.map(np.testing.assert_array_equal, saved.restore(state()), (2, state(2)))


def test_a_removal_cut_short_is_finished(tmp_path, monkeypatch):
  save(tmp_path, 1, 2)
  with monkeypatch.context() as patched, pytest.raises(RuntimeError, match='killed'):
    patched.setattr(shutil, 'rmtree', Mock(side_effect=RuntimeError('killed')))
    save(tmp_path, 3, keep=1)
  save(tmp_path, 4, keep=1)
  assert sorted(p.name for p in tmp_path.iterdir()) == ['4', '4.json']


OURS = ['1', '1.json', '2', '2.json']


def test_nothing_that_was_not_written_here_is_deleted(tmp_path):
  """Folders and files of others stay; a step without its list is set aside, with a warning."""
  folder = tmp_path / 'checkpoints'
  theirs = ['notes', '007', 'draft.partial', '5.orbax-checkpoint-tmp']
  for name in [*theirs, '1', '3']:
    (folder / name).mkdir(parents=True)
    (folder / name / 'mine').write_text(name)
  (folder / '007.json').write_text('{}')
  with checkpoints(folder) as saved:
    with pytest.warns(UserWarning, match='has no list') as told:
      assert saved.restore(state()) is None
    where = [str(each.message).partition('moved to ')[2].partition(';')[0] for each in told]
    assert where == [f'{tmp_path}/damaged/{step}' for step in (1, 3)]
    (folder / '2').mkdir()  # after that too
    saved.save(1, state(1))
    saved.wait()
    with pytest.warns(UserWarning, match='is in the way of step 2; it is moved to'):
      saved.save(2, state(2))
      saved.wait()
  assert sorted(p.name for p in folder.iterdir()) == sorted([*OURS, *theirs, '007.json'])
  for step in ('1', '3'):
    assert (tmp_path / 'damaged' / step / step / 'mine').read_text() == step
  assert (tmp_path / 'damaged' / '2').is_dir()


def linear() -> MetaLearner:
  model = from_nnx(lambda rngs: nnx.Linear(64, 4, rngs=rngs))
  flat = lambda params, x, weight=None: model.apply(params, x.reshape(len(x), -1) / 255)
  return prototypical(model._replace(apply=flat), tiny.WAYS)


@pytest.mark.parametrize(
  'make',
  [
    *(lambda: tiny.learners()['maml'], linear),
    pytest.param(lambda: tiny.learners()['prototypical'], marks=pytest.mark.slow),
    pytest.param(lambda: tiny.learners()['in_context'], marks=pytest.mark.slow),
  ],
)
def test_the_state_of_every_learner_comes_back_bit_for_bit(make, tmp_path):
  learner, adam = make(), optax.adam(1e-3)
  make_state = lambda: init_state(learner, adam, jax.random.key(0), tiny.source())
  first = jax.jit(make_state)()
  with checkpoints(tmp_path) as saved:
    saved.save(1, first)
    saved.wait()
    _, restored = saved.restore(jax.tree.map(jnp.zeros_like, first))
  jax.tree.map(np.testing.assert_array_equal, restored, first)
  assert jax.tree.structure(restored) == jax.tree.structure(first)


def test_eight_devices_save_what_any_restores(tmp_path):
  mesh = jax.make_mesh((8,), ('tasks',), axis_types=(AxisType.Auto,))
  spread = jax.device_put(state(5), NamedSharding(mesh, PartitionSpec()))
  with checkpoints(tmp_path) as saved:
    saved.save(5, spread)
    saved.wait()
    for target in (jax.eval_shape(state), state()):
      restored = saved.restore(target)
      jax.tree.map(np.testing.assert_array_equal, restored, (5, state(5)))


def damage(path, how, rng):
  """Deletes a file, cuts it at a random place or changes a random bit of it."""
  content = bytearray(path.read_bytes())
  place = int(rng.integers(len(content)))
  if how == 'delete':
    path.unlink()
  elif how == 'cut':
    path.write_bytes(content[:place])
  else:
    content[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


@pytest.mark.parametrize('how', ['flip', pytest.param('cut', marks=pytest.mark.slow), 'delete'])
def test_damage_to_any_file_is_noticed_and_the_step_before_is_used(how, tmp_path):
  rng, good = np.random.default_rng(0), tmp_path / 'good'
  save(good, 1, 2)
  files = sorted(p.relative_to(good) for p in good.rglob('*') if p.is_file())
  files = [path for path in files if path.parts[0] in ('2', '2.json')]
  first, second = jax.device_get((state(1), state(2)))
  for number, file in enumerate((1 if how == 'delete' else 4) * files):
    folder = tmp_path / str(number) / 'checkpoints'
    shutil.copytree(good, folder)
    damage(folder / file, how, rng)
    with checkpoints(folder) as saved, pytest.warns(UserWarning, match=f'{folder}/2 '):
      jax.tree.map(np.testing.assert_array_equal, saved.restore(first), (1, first))
      if number < len(files):  # the damaged step is not in the way
        saved.save(2, second)
        jax.tree.map(np.testing.assert_array_equal, saved.restore(first), (2, second))


def test_damaged_steps_are_set_aside_and_never_overwritten(tmp_path):
  folder = tmp_path / 'checkpoints'
  for times in (1, 2):
    save(folder, 1, 2)
    file = next((folder / '2' / 'd').iterdir())
    damage(file, 'flip', np.random.default_rng(0))
    with pytest.warns(UserWarning, match=rf'its file d/{file.name} is altered; step 1 is read'):
      assert restored_step(folder, set_aside=False) == 1
    with pytest.warns(UserWarning, match=f'altered; it is moved to {tmp_path}/damaged/2'):
      assert restored_step(folder) == 1
    assert len(list((tmp_path / 'damaged').iterdir())) == times


def restored_step(folder, **options):
  with checkpoints(folder, **options) as saved:
    return saved.restore(state())[0]


def relist(folder, step, change):
  """Changes the list of a step, with sums that match it."""
  path = folder / f'{step}.json'
  listed = change({k: v for k, v in json.loads(path.read_text()).items() if k != 'sha256'})
  path.write_text(json.dumps(listed | {'sha256': _sum_of(listed)}))


def test_a_step_under_another_number_is_noticed(tmp_path):
  save(tmp_path / 'checkpoints', 4)
  shutil.copytree(tmp_path / 'checkpoints' / '4', tmp_path / 'checkpoints' / '6')
  shutil.copy(tmp_path / 'checkpoints' / '4.json', tmp_path / 'checkpoints' / '6.json')
  with pytest.warns(
    UserWarning, match=r'/6 is damaged: it holds step 4, as 6.json says; it is mov'
  ):
    assert restored_step(tmp_path / 'checkpoints') == 4


def test_lists_of_earlier_versions_hold_no_step(tmp_path):
  save(tmp_path, 4)
  relist(tmp_path, 4, lambda listed: {k: v for k, v in listed.items() if k != 'step'})
  assert restored_step(tmp_path) == 4


def test_a_best_step_whose_score_cannot_be_read_is_named_and_stays(tmp_path):
  with checkpoints(tmp_path, keep=1) as saved:
    saved.save(1, state(1), 0.9)
    saved.save(2, state(2), 0.5)
  listed = (tmp_path / '1.json').read_text()
  (tmp_path / '1.json').write_text(listed.replace('0.9', '0.1'))
  with checkpoints(tmp_path, keep=1, set_aside=False) as saved:
    with pytest.warns(
      UserWarning, match=r'/1 is damaged: 1.json is altered; step 2 is read instead'
    ):
      assert saved.restore(state(), best=True)[0] == 2
    for step in (3, 4):
      saved.save(step, state(step), 0.2)
  assert {p.stem for p in tmp_path.iterdir()} == {'1', '2', '4'}
  (tmp_path / '1.json').write_text(listed)
  with checkpoints(tmp_path) as saved:
    assert saved.restore(state(), best=True)[0] == 1


def test_no_whole_step_is_none(tmp_path):
  save(tmp_path, 1)
  damage(tmp_path / '1.json', 'flip', np.random.default_rng(0))
  with checkpoints(tmp_path) as saved, pytest.warns(UserWarning, match='damaged'):
    assert saved.restore(state()) is None


def test_values_that_changed_on_their_way_to_the_disk_are_noticed(tmp_path, monkeypatch):
  """The files' own sums are right then; those of the arrays are not."""
  write = ocp.Checkpointer.save
  bit = lambda leaf: leaf + 1 if leaf.dtype == np.float32 else leaf
  altered = lambda given: ocp.args.StandardSave(jax.tree.map(bit, given.item))
  wrong = lambda self, path, args, force: write(self, path, args=altered(args), force=force)
  monkeypatch.setattr(ocp.Checkpointer, 'save', wrong)
  save(tmp_path, 1)
  with checkpoints(tmp_path) as saved, pytest.warns(UserWarning, match='bias holds other values'):
    assert saved.restore(state()) is None


FILL = """
import sys
import numpy as np
from metakit.checkpoint import checkpoints
with checkpoints(sys.argv[1]) as saved:
  saved.save(2, {'kernel': np.arange(10**6, dtype=np.float32)})
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
      jax.tree.map(np.testing.assert_array_equal, saved.restore(state()), (1, state(1)))


@pytest.mark.parametrize('other', [{'width': 4}, {'dtype': jnp.bfloat16}])
def test_another_configuration_is_refused_by_the_name_of_a_leaf(tmp_path, other):
  save(tmp_path, 1)
  with checkpoints(tmp_path) as saved, pytest.raises(ValueError, match=r'step 1 .*kernel'):
    saved.restore(state(**other))


def test_a_relative_folder_works(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  save('here', 1)
  assert (tmp_path / 'here' / '1').is_dir()
