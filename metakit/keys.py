"""Keys: every random number of a run is a function of (seed, purpose, step, task index).

So a sampler has no state. Resuming needs only the step number. The tasks of a step are the same on
one device, eight devices, or many hosts. A test episode is named by (seed, index) for ever.
"""

import zlib
from typing import NamedTuple

import jax

from metakit.types import Key

# The generator keeps 32 bits of a seed. A larger one would repeat the tasks of a smaller one.
MAX_SEED = 2**32 - 1
GENERATOR = 'threefry2x32'  # JAX's default; its numbers must be partitionable (check_generator)


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
  key = fixed_key(seed)
  return Roots(*(jax.random.fold_in(key, i) for i in range(len(Roots._fields))))


def fixed_key(seed: int) -> Key:
  """Returns the key of a seed. It does not depend on the default generator of the process.

  Args:
    seed: 0 to 2**32 - 1.

  Raises:
    ValueError: for another seed, or a process whose settings change what keys draw.
  """
  if not 0 <= seed <= MAX_SEED:
    raise ValueError(f'seed={seed} is not between 0 and {MAX_SEED}; use one that is')
  key = jax.random.key(seed, impl=GENERATOR)
  check_generator(key)
  return key


def check_generator(key: Key) -> None:
  """Raises ValueError if a key would draw other numbers here than in other processes.

  Args:
    key: typed, of any shape; may be traced.
  """
  if not jax.config.jax_threefry_partitionable:  # type: ignore[attr-defined]
    raise ValueError(
      'JAX_THREEFRY_PARTITIONABLE=0 makes other episodes of the same seed; leave it out (or set '
      'jax_threefry_partitionable to True, its default)'
    )
  if str(jax.random.key_impl(key)) != GENERATOR:
    raise ValueError(
      f'a key of the generator {jax.random.key_impl(key)} makes other episodes than one of '
      f"{GENERATOR}; take keys from metakit.roots(seed) or jax.random.key(seed, impl='{GENERATOR}')"
    )


def task_key(root: Key, step: jax.typing.ArrayLike, index: jax.typing.ArrayLike) -> Key:
  """Returns the key of one task: fold_in(fold_in(root, step), index).

  Args:
    root: a root key of `roots`.
    step: the meta-training step; 0 for validation and test.
    index: the global number of the task in that step, whichever device computes it.

  Raises:
    ValueError: if the root is of another generator, or the process has settings that change it.

  >>> import jax
  >>> keys = [task_key(roots(0).train, step=7, index=i) for i in (0, 1, 0)]
  >>> bool(keys[0] == keys[2]), bool(keys[0] == keys[1])
  (True, False)
  """
  check_generator(root)
  return jax.random.fold_in(jax.random.fold_in(root, step), index)


def stream(key: Key, name: str) -> Key:
  """Returns a key that differs from all that `split` or small numbers make of `key`.

  `split(key)[i]` equals `fold_in(key, i)`. So two functions that both number their draws from 0
  would share a stream.

  Args:
    key: any key.
    name: name of the purpose.

  >>> import jax
  >>> key = jax.random.key(0)
  >>> bool((jax.random.split(key)[1] == jax.random.fold_in(key, 1)).all())
  True
  >>> bool(stream(key, 'learner') == jax.random.fold_in(key, 1))
  False
  """
  return jax.random.fold_in(key, zlib.crc32(name.encode()) | 1 << 31)


def learner_key(root: Key, index: jax.typing.ArrayLike) -> Key:
  """Returns the key that a learner draws from in test episode `index`.

  It comes from a root of its own. The key of the episode, task_key(root, 0, index), made the
  support and the queries. A learner that had this key could know the queries.

  Args:
    root: root key of validation or test episodes.
    index: the number of the episode.
  """
  return task_key(stream(root, 'learner'), 0, index)
