"""Checks that a sampler depends on its key alone, as a compiled sampler must."""

import inspect
import warnings
from typing import Any

import jax
import numpy as np

from metakit.sources import EpisodeSource
from metakit.types import Episode, Key, Sampler

SEVERAL = 8  # keys that a constant is told by; two episodes of a small table may be equal by chance


def check_sampler(sampler: Sampler, key: Key) -> None:
  """Calls a sampler a few times, and checks that its episodes depend on the key, and on it alone.

  A sampler that gives one episode for every key is a warning, since one task may be what is meant.
  Under a transformation of JAX nothing can be checked, and all pass.

  Args:
    sampler: a source, or another sampler.
    key: any.

  Raises:
    ValueError: if one key gives two different episodes, as when numpy.random draws them. Such a
      sampler, once compiled, gives the same episode for all keys.
  """
  if isinstance(key, jax.core.Tracer):
    return
  first, again = sampler(key), sampler(key)
  others = (sampler(jax.random.fold_in(key, number)) for number in range(1, 1 + SEVERAL))
  constant = all(_same(first, other) for other in others)  # or compiled already
  if constant:
    plain = _not_compiled(sampler)
    first, again = plain(key), plain(key)
  if not same_examples(first, again):
    raise ValueError(
      "the sampler gives two episodes for one key, as with NumPy's generator inside; compiled, it "
      'would give one episode for all keys: draw with jax.random, from its key'
    )
  if constant:
    warnings.warn(
      'the sampler gives the same episode for every key; draw with jax.random, from its key, or '
      'ignore this if there is only one task',
      stacklevel=3,
    )


def _not_compiled(sampler: Sampler) -> Sampler:
  if not isinstance(sampler, EpisodeSource):
    return inspect.unwrap(sampler)
  finish = None if sampler.finish is None else inspect.unwrap(sampler.finish)
  return sampler.replace(plan=inspect.unwrap(sampler.plan), finish=finish)


def check_keys_matter(sampler: Sampler, keys: Key, episodes: Episode) -> None:
  """Looks at a sampler as `check_sampler` does, if the first two of its episodes are alike.

  Args:
    sampler: a sampler of whole episodes, or a plan.
    keys: [episodes], at least two.
    episodes: the episodes of these keys, with a leading axis.
  """
  pairs = [np.asarray(leaf[:2]) for leaf in jax.tree.leaves(episodes.support.x)]
  if all(first.tobytes() == second.tobytes() for first, second in pairs):
    check_sampler(sampler, keys[0])


def same_examples(one: Episode, other: Episode) -> bool:
  """Says whether the examples of two episodes are the same to the bit."""
  return _same(one[:2], other[:2])


def _same(one: Any, other: Any) -> bool:
  pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
  return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
