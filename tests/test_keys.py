"""Keys are the same for ever and everywhere, and no two purposes share one."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.keys import Roots, learner_key, roots, task_key

# Stored results name their test episodes by these numbers: they may never change.
GOLDEN_ROOTS = Roots(
  init=[3625411723, 1954958720],
  train=[195045567, 4062205631],
  learner=[966301609, 1948237315],
  validation=[276534068, 1641862660],
  test=[51277378, 3088387524],
  data=[3583082021, 1947592014],
  calibration=[2687091327, 3539857703],
)
GOLDEN_TASK = [3166390104, 3548209097]  # test episode 3


def numbers(key):
  return jax.random.key_data(key).tolist()


def assert_golden():
  assert [numbers(key) for key in roots(7)] == list(GOLDEN_ROOTS)
  assert numbers(task_key(roots(7).test, 0, 3)) == GOLDEN_TASK


def test_keys_are_these_numbers_for_ever():
  assert_golden()


@pytest.mark.parametrize('generator', ['rbg', 'unsafe_rbg'])
def test_the_default_generator_does_not_matter(generator):
  with jax.default_prng_impl(generator):
    assert_golden()


def test_neither_float64_nor_the_default_device_matters():
  with jax.enable_x64(True), jax.default_device(jax.devices()[-1]):
    assert_golden()


def test_no_two_purposes_seeds_steps_or_tasks_share_a_key():
  keys = [key for seed in range(4) for key in roots(seed)]
  keys += [task_key(roots(0).train, *pair) for pair in itertools.product(range(5), repeat=2)]
  assert len({tuple(numbers(key)) for key in keys}) == len(keys) == 4 * 7 + 25


def test_a_task_key_is_the_same_on_every_device_and_in_every_batch():
  devices = jax.local_device_count()
  root, indices = roots(0).train, jnp.arange(2 * devices)
  one_by_one = [numbers(task_key(root, 5, int(i))) for i in indices]
  batch = jax.vmap(lambda i: task_key(root, 5, i))
  spread = jax.pmap(lambda i: jax.random.key_data(batch(i)))(indices.reshape(devices, 2))
  assert numbers(jax.jit(batch)(indices)) == one_by_one
  assert np.asarray(spread).reshape(-1, 2).tolist() == one_by_one


def test_a_step_is_not_a_task():
  root = roots(0).train
  assert numbers(task_key(root, 1, 2)) != numbers(task_key(root, 2, 1))


def test_the_key_of_a_learner_is_none_that_its_episode_is_made_of():
  """Neither that of an episode nor what a sampler makes of it first."""
  root = roots(0).test
  made = [task_key(root, 0, i) for i in range(4)]
  made += [key for episode in made for key in jax.random.split(episode, 4)]
  learners = [learner_key(root, i) for i in range(4)]
  assert len({tuple(numbers(key)) for key in made + learners}) == len(made) + len(learners)
