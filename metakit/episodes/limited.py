"""A limited number of episodes, as a family of tasks has that is not made but collected."""

import operator

import jax

from metakit.episodes.integer_draws import integers_below
from metakit.keys import fixed_key
from metakit.sizes import check_positive
from metakit.sources import EpisodeSource, change_plans
from metakit.types import Episode, Key, Sampler

_STREAM = 0x4C494D49  # makes keys that differ from those of metakit.roots of the same seed
MOST = 2**31 - 1


def limited(sampler: Sampler, episodes: int, *, seed: int = 0) -> EpisodeSource:
  """Draws so many episodes of a sampler once and for all, and each time one of them.

  They are all equally likely. The cost of sampling does not depend on how many they are, and more
  contain fewer. A source keeps its table, and its schedule: the episodes of each step are limited.

  Args:
    sampler: a source or another sampler.
    episodes: how many different ones there are.
    seed: determines them.

  Raises:
    ValueError: if episodes is not positive or does not fit 31 bits.

  >>> from metakit.episodes.sinusoid import sinusoid
  >>> draw = jax.jit(jax.vmap(limited(sinusoid(), 3)))
  >>> len(set(draw(jax.random.split(jax.random.key(0), 50)).info['amplitude'].tolist()))
  3
  """
  episodes = operator.index(episodes)
  check_positive(episodes=episodes)
  if episodes > MOST:
    raise ValueError(f'episodes={episodes} exceeds the index of an episode (int32); use <={MOST}')
  root = jax.random.fold_in(fixed_key(seed), _STREAM)

  def change(plan: Sampler) -> Sampler:
    def one_of_them(key: Key) -> Episode:
      return plan(jax.random.fold_in(root, integers_below(key, episodes)))

    return one_of_them

  return change_plans(sampler, change)
