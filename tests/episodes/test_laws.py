"""Laws of every sampler. A new sampler joins by adding one row to SAMPLERS (and to INVALID)."""

from functools import partial

import jax
import numpy as np
import pytest

from metakit.data.table import class_table
from metakit.episodes.combinators import (
  augment,
  mixture,
  relabel,
  rotate_quarter_turns,
  shift_image,
)
from metakit.episodes.few_shot import few_shot, few_shot_plan
from metakit.episodes.sinusoid import sinusoid
from metakit.episodes.variable_shot import variable_shot, variable_shot_plan
from metakit.episodes.within_group import within_group, within_group_plan

COUNTS = np.array([7, 9, 6, 8, 12, 6, 10, 9])
LABELS = np.repeat(np.arange(8), COUNTS)
IMAGES = np.random.default_rng(0).integers(0, 256, (len(LABELS), 6, 6, 1), np.uint8)
TABLE = class_table(IMAGES, LABELS, groups=np.arange(8) % 2, group_names=['Latin', 'Korean'])

FIXED = {'ways': 3, 'shots': 2, 'queries': 3}
VARIABLE = {'max_ways': 5, 'min_ways': 2, 'max_support': 20, 'max_queries_per_class': 3}


def episodes_of_images():
  return few_shot(TABLE, **FIXED)


# name: () -> sampler
SAMPLERS = {
  'few_shot': episodes_of_images,
  'few_shot_plan': lambda: few_shot_plan(TABLE, **FIXED),
  'within_group': lambda: within_group(TABLE, **FIXED),
  'within_group_plan': lambda: within_group_plan(TABLE, **FIXED),
  'variable_shot': lambda: variable_shot(TABLE, **VARIABLE),
  'variable_shot_plan': lambda: variable_shot_plan(TABLE, **VARIABLE),
  'sinusoid': sinusoid,
  'sinusoid:noise': lambda: sinusoid(noise=0.1),
  'augment:rotate': lambda: augment(episodes_of_images(), rotate_quarter_turns),
  'augment:shift': lambda: augment(episodes_of_images(), shift_image(2)),
  'relabel': lambda: relabel(episodes_of_images(), ways=3),
  'relabel:variable': lambda: relabel(variable_shot_plan(TABLE, **VARIABLE), ways=5),
  'mixture': lambda: mixture([sinusoid(), sinusoid(amplitude=(5.0, 9.0))], [1, 2]),
}

fixed = lambda make: partial(make, TABLE, **FIXED)
variable = partial(variable_shot, TABLE, **VARIABLE)

# (factory, argument, value that must be refused by name)
INVALID = [
  *((fixed(make), name, 0) for make in (few_shot, within_group) for name in FIXED),
  *((fixed(make), 'ways', 9) for make in (few_shot, within_group)),
  *((fixed(make), 'shots', 6) for make in (few_shot_plan, within_group_plan)),
  *((fixed(make), 'queries', 6) for make in (few_shot_plan, within_group_plan)),
  (fixed(within_group), 'ways', 5),
  *((variable, name, 0) for name in [*VARIABLE, 'max_support_per_class']),
  (variable, 'min_ways', 6),
  (variable, 'max_support', 4),
  (sinusoid, 'shots', 0),
  (sinusoid, 'queries', -1),
  (sinusoid, 'amplitude', (2.0, 1.0)),
  (sinusoid, 'phase', (0.0, float('inf'))),
  (sinusoid, 'x_range', (float('nan'), 1.0)),
  (sinusoid, 'noise', -0.1),
  (partial(relabel, few_shot_plan(TABLE, **FIXED)), 'ways', 0),
  (partial(relabel, few_shot_plan(TABLE, **FIXED)), 'ways', 4),
  (partial(mixture, [sinusoid()]), 'weights', [1, 1]),
  (partial(mixture, [sinusoid()]), 'weights', [-1]),
  (mixture, 'samplers', []),
  (shift_image, 'max_pixels', -1),
]

every_sampler = pytest.mark.parametrize('make', SAMPLERS.values(), ids=SAMPLERS)


def keys(*shape):
  return jax.random.split(jax.random.key(1, impl='threefry2x32'), shape)


def assert_same_bits(ours, theirs):
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b), strict=True)


def stack(episodes):
  return jax.tree.map(lambda *leaves: np.stack(leaves), *episodes)


@every_sampler
def test_the_same_key_gives_the_same_episode(make):
  sampler = make()
  for key in keys(2):
    assert_same_bits(sampler(key), sampler(key))
    assert_same_bits(sampler(key), make()(key))


@every_sampler
def test_jit_changes_no_bit(make):
  sampler = make()
  jitted = jax.jit(sampler)
  for key in keys(3):
    assert_same_bits(jitted(key), sampler(key))


@every_sampler
def test_vmap_is_a_loop(make):
  sampler = jax.jit(make())
  assert_same_bits(jax.jit(jax.vmap(sampler))(keys(5)), stack([sampler(key) for key in keys(5)]))


@every_sampler
def test_pmap_is_vmap(make):
  devices = jax.local_device_count()
  mapped = jax.pmap(jax.vmap(make()))(keys(devices, 2))
  flat = jax.jit(jax.vmap(make()))(keys(devices, 2).reshape(-1))
  assert_same_bits(jax.tree.map(lambda a: np.asarray(a).reshape(-1, *a.shape[2:]), mapped), flat)


@every_sampler
def test_traced_once_for_many_keys(make):
  sampler, traces = make(), []

  @jax.jit
  def counted(key):
    traces.append(key)
    return sampler(key)

  for key in keys(4):
    counted(key)
  assert len(traces) == 1


@every_sampler
def test_different_keys_give_different_episodes(make):
  episodes = jax.jit(jax.vmap(make()))(keys(16))
  rows = [np.asarray(leaf).reshape(16, -1) for leaf in jax.tree.leaves(episodes)]
  assert len({tuple(row) for row in np.concatenate(rows, axis=1).tolist()}) == 16


@every_sampler
def test_shapes_match_within_a_part(make):
  episode = make()(keys())
  for part in (episode.support, episode.query):
    assert len(part.x) == len(part.y)
    assert part.weight is None or part.weight.shape == (len(part.x),)


@pytest.mark.parametrize(('make', 'name', 'value'), INVALID)
def test_invalid_sizes_are_refused_by_name(make, name, value):
  with pytest.raises(ValueError, match=name):
    make(**{name: value})
