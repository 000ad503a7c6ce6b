"""Examples that do not count: of weight 0 (absent), or without a label (-1).

An absent example may hold anything, NaN included. Multiplied by 0 that is NaN still, in a gradient
too: so it is replaced before anything is computed.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metakit.inputs import as_array, native
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Params, presence

UNLABELLED = -1


def blanked(examples: Examples) -> Examples:
  """Returns the examples with zeros where the weight is 0; any leading axes."""
  if examples.weight is None:
    return examples
  there = jnp.asarray(examples.weight) > 0

  def blank(leaf: jax.Array) -> jax.Array:
    mask = there.reshape(*there.shape, *[1] * (jnp.ndim(leaf) - there.ndim))
    return jnp.where(mask, leaf, jnp.zeros_like(leaf, shape=()))

  x, y = jax.tree.map(blank, (examples.x, examples.y))
  return examples._replace(x=x, y=y)


def labelled(examples: Examples) -> Examples:
  """Gives examples without a label the weight 0.

  Traced labels are looked at where there are weights: without, all examples count (an objective
  leaves those without a label out in any case).
  """
  if not _are_classes(examples.y):
    return examples
  if examples.weight is None and not (
    _concrete(examples.y) and np.min(np.asarray(examples.y), initial=0) < 0
  ):
    return examples
  weight = presence(examples) * 1.0 if examples.weight is None else examples.weight
  return examples._replace(weight=jnp.where(jnp.asarray(examples.y) < 0, 0, weight))


def known(examples: Examples) -> jax.Array:
  """Returns [examples] bool: which of them count and, in a classification, have a label."""
  there = presence(examples)
  return there & (jnp.asarray(examples.y) >= 0) if _are_classes(examples.y) else there


def check_labels(y: Any, outputs: int) -> None:
  """Raises ValueError if class labels, where they are known, are not -1 to outputs - 1.

  Args:
    y: [examples]; a traced one, or the targets of a regression, is not looked at.
    outputs: of the learner.
  """
  if not (_are_classes(y) and _concrete(y) and np.size(y)):
    return
  there = np.asarray(y)  # within a trace, an operation of JAX would be traced
  low, high = int(there.min()), int(there.max())
  if low < UNLABELLED or high >= outputs:
    wrong = low if low < UNLABELLED else high
    raise ValueError(
      f'label {wrong} is none of the classes 0 to {outputs - 1} of the learner (-1: without a '
      'label); number the classes of an episode from 0, or make a learner of more ways'
    )


def has_known_labels(episode: Episode) -> bool:
  """Whether an episode is of classes whose labels can be looked at (outside jit)."""
  parts = episode.support, episode.query
  return all(_are_classes(part.y) and _concrete(part.y) for part in parts)


def numbered(y: jax.Array, numbers: Any) -> jax.Array:
  """Returns numbers[y] for every label, and -1 for examples without one.

  Args:
    y: [examples] labels.
    numbers: [ways] what becomes of each.
  """
  return jnp.where(y < 0, UNLABELLED, jnp.asarray(numbers)[y])


def _are_classes(y: Any) -> bool:
  return y is not None and np.ndim(y) > 0 and jnp.issubdtype(y.dtype, jnp.integer)


def _concrete(y: Any) -> bool:
  return not isinstance(y, jax.core.Tracer)


def _two(x: Any) -> Any:
  """Returns the shapes of two examples: some learners answer no query alone."""
  shape = lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape[1:]), leaf.dtype)
  return jax.tree.map(shape, native(x))


def guarded(learner: MetaLearner, unlabelled: bool = False) -> MetaLearner:
  """Returns a learner that examples which do not count cannot disturb, whatever they hold.

  NumPy arrays of another byte order than the machine's will do too.

  Args:
    learner: any MetaLearner.
    unlabelled: whether it learns from examples without a label (-1) too; they have the weight 0
      otherwise, see `labelled`.

  Returns:
    The learner; its `adapt` raises ValueError for labels that it has no output for, where they are
    known (outside jit).
  """

  def tidy(examples: Examples, unlabelled: bool = unlabelled) -> Examples:
    for part in examples:
      if isinstance(part, list | tuple):
        as_array(part)  # which says what to give
    examples = native(examples)
    return blanked(examples if unlabelled else labelled(examples))

  def asked(examples: Examples) -> Examples:
    """An absent example is predicted all the same, where its input is finite."""
    cleaned = tidy(examples)
    keep = lambda x, blank: jnp.where(jnp.isfinite(x), x, blank)
    return cleaned._replace(x=jax.tree.map(keep, native(examples.x), cleaned.x))

  def whole(episode: Episode) -> Episode:
    return episode._replace(support=tidy(episode.support), query=tidy(episode.query, False))

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    fitted = learner.adapt(key, params, tidy(support))
    if _concrete(support.y) and _are_classes(support.y):
      check_labels(support.y, jax.eval_shape(learner.predict, fitted, _two(support.x)).shape[-1])
    return fitted

  guards: dict[str, Any] = {
    'adapt': adapt,
    'loss': lambda key, params, episode: learner.loss(key, params, whole(episode)),
    'calibrate': lambda params, episodes: learner.calibrate(params, whole(episodes)),
  }
  if (extend := learner.extend) is not None:
    guards['extend'] = lambda fitted, more: extend(fitted, tidy(more))
  if (prefixes := learner.prefixes) is not None:
    guards['prefixes'] = lambda key, params, examples: prefixes(key, params, asked(examples))
  if (loss_at := learner.loss_at) is not None:
    guards['loss_at'] = lambda step, key, params, episode: loss_at(
      step, key, params, whole(episode)
    )
  if (diagnose := learner.diagnose) is not None:
    guards['diagnose'] = lambda key, params, episode: diagnose(key, params, whole(episode))
  return learner._replace(**guards)
