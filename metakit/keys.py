"""Keys: every random number of a run is a function of (seed, purpose, step, task index).

So there is no sampler state. Resuming needs the step number alone, the tasks of a step are the same
on one device, eight, or many hosts, and a test episode is named by (seed, index) for ever.
"""

from typing import NamedTuple

import jax

from metakit.types import Key

MAX_SEED = 2**32 - 1  # the generator keeps 32 bits: larger seeds would name other seeds' tasks


class Roots(NamedTuple):
  """One root key for each purpose; no two purposes share a stream.

  Attributes:
    init: the initial meta-parameters.
    train: meta-training episodes.
    learner: what the learner itself draws (dropout, inner minibatches).
    validation: validation episodes.
    test: test episodes.
    data: procedural data sets.
    calibration: training episodes on which a learner is calibrated before a test.
  """

  init: Key
  train: Key
  learner: Key
  validation: Key
  test: Key
  data: Key
  calibration: Key


def roots(seed: int) -> Roots:
  """Returns the root keys of a seed.

  Args:
    seed: 0 to 2**32 - 1. The generator is fixed (threefry), whatever jax_default_prng_impl says,
      so that the same seed names the same tasks everywhere.

  Raises:
    ValueError: for another seed.

  >>> import jax
  >>> jax.random.key_data(roots(0).train).tolist()
  [928981903, 3453687069]
  """
  if not 0 <= seed <= MAX_SEED:
    raise ValueError(f'seed={seed} is not between 0 and {MAX_SEED}; use one that is')
  key = jax.random.key(seed, impl='threefry2x32')
  return Roots(*(jax.random.fold_in(key, i) for i in range(len(Roots._fields))))


def task_key(root: Key, step: jax.typing.ArrayLike, index: jax.typing.ArrayLike) -> Key:
  """Returns the key of one task: fold_in(fold_in(root, step), index).

  Args:
    root: a root key of `roots`.
    step: the meta-training step; 0 for validation and test.
    index: the global number of the task in that step, whichever device computes it.
  """
  return jax.random.fold_in(jax.random.fold_in(root, step), index)
