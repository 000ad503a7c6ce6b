"""Checks that a sampler depends on its key alone, as a compiled sampler must."""

import inspect

import jax
import numpy as np

from metakit.sources import EpisodeSource
from metakit.types import Episode, Key, Sampler


def check_sampler(sampler: Sampler, key: Key) -> None:
  """Calls a sampler a few times, and checks that its episodes depend on the key alone.

  A constant sampler passes. Under a transformation of JAX nothing can be checked, and all pass.

  Args:
    sampler: a source, or another sampler.
    key: any.

  Raises:
    ValueError: if one key gives two different episodes, as when numpy.random draws them. Such a
      sampler, once compiled, gives the same episode for all keys.
  """
  if isinstance(key, jax.core.Tracer):
    return
  first, again, other = sampler(key), sampler(key), sampler(jax.random.fold_in(key, 1))
  if same_examples(first, other):  # a constant, or compiled already
    plain = _not_compiled(sampler)
    first, again = plain(key), plain(key)
  if not same_examples(first, again):
    raise ValueError(
      "the sampler gives two episodes for one key, as with NumPy's generator inside; compiled, it "
      'would give one episode for all keys: draw with jax.random, from its key'
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
  inputs = jax.tree.leaves(episodes.support.x)
  if all(np.asarray(leaf[0]).tobytes() == np.asarray(leaf[1]).tobytes() for leaf in inputs):
    check_sampler(sampler, keys[0])


def same_examples(one: Episode, other: Episode) -> bool:
  """Says whether the examples of two episodes are the same to the bit."""
  pairs = zip(jax.tree.leaves(one[:2]), jax.tree.leaves(other[:2]), strict=True)
  return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
