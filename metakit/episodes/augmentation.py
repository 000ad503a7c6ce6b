"""A combinator that transforms examples at random, wherever their rows are put in place."""

from typing import Any

import jax
import jax.numpy as jnp

from metakit.episodes.image_transforms import Transform
from metakit.sources import EpisodeSource, abstract_episode, as_source, change_plans
from metakit.types import Episode, Examples, Key, Sampler


def augment(sampler: Sampler, transform: Transform, each: str = 'example') -> EpisodeSource:
  """Transforms the support and query examples at random.

  With each='class', all examples of a class are transformed in the same way. If the transform makes
  another thing of them, such as the mirror image of a character, this makes a new class. That is
  task augmentation (Liu, Chao, Lin 2020, arXiv:2003.00804).

  Args:
    sampler: a source, or another sampler of whole episodes.
    transform: a pure function (key, x of one example) -> x, such as `rotate_quarter_turns`.
    each: 'example' transforms each example by a key of its own, 'class' all of one label by one
      key.

  Returns:
    A source whose episodes are those of k1, with x transformed by keys that k2 determines, where
    k1, k2 = split(key). Whole episodes are transformed by keys split from k2 (of a class: folded
    into k2). Where rows are put in place later, x is transformed after them and after `finish`, by
    keys split from (or folded into) the last of info['augmentation'], [augmentations, 2] uint32,
    which the plan adds: the bits of k2.

  Raises:
    ValueError: for another `each`. Errors of `transform` come here too, since it is traced once.

  >>> from metakit.episodes.sinusoid import sinusoid
  >>> jitter = lambda key, x: x + 0.1 * jax.random.normal(key, x.shape)
  >>> augment(sinusoid(), jitter)(jax.random.key(0)).support.x.shape
  (10, 1)
  """
  if each not in ('example', 'class'):
    raise ValueError(f"each={each!r} is unknown; use 'example' or 'class'")
  source = as_source(sampler)
  whole = source.data is None and source.finish is None
  augmented = (_augmented_at_once if whole else _augmented_later)(source, transform, each)
  abstract_episode(augmented)
  return augmented


def _augmented_at_once(source: EpisodeSource, transform: Transform, each: str) -> EpisodeSource:
  def change(plan: Sampler) -> Sampler:
    def augmented(key: Key) -> Episode:
      key, transform_key = jax.random.split(key)
      return _transformed(plan(key), transform, transform_key, each)

    return augmented

  return change_plans(source, change)


def _augmented_later(source: EpisodeSource, transform: Transform, each: str) -> EpisodeSource:
  def change(plan: Sampler) -> Sampler:
    def noted(key: Key) -> Episode:
      key, bits_key = jax.random.split(key)
      episode = plan(key)
      info = entries(episode.info)
      bits = jax.random.bits(bits_key, (1, 2), jnp.uint32)
      before = [info['augmentation']] if 'augmentation' in info else []
      return episode._replace(info={**info, 'augmentation': jnp.concatenate([*before, bits])})

    return noted

  def finish(episode: Episode) -> Episode:
    bits = episode.info['augmentation']
    before = episode._replace(info={**episode.info, 'augmentation': bits[:-1]})
    whole = episode if source.finish is None else source.finish(before)
    key = jax.random.wrap_key_data(bits[-1], impl='threefry2x32')
    whole = _transformed(whole, transform, key, each)
    return whole._replace(info={**whole.info, 'augmentation': bits})

  return change_plans(source, change).replace(finish=finish)


def _transformed(episode: Episode, transform: Transform, key: Key, each: str) -> Episode:
  def part(key: Key, examples: Examples) -> Examples:
    if each == 'class':
      keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, examples.y)
    else:
      keys = jax.random.split(key, len(examples.y))
    return examples._replace(x=jax.vmap(transform)(keys, examples.x))

  keys = (key, key) if each == 'class' else jax.random.split(key)
  support, query = map(part, keys, episode[:2])
  return Episode(support, query, episode.info)


def entries(info: Any) -> dict[str, Any]:
  """Returns the info of an episode as a dict, to which entries can be added."""
  if isinstance(info, dict):
    return info
  return {'info': info} if jax.tree.leaves(info) else {}
