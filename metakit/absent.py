"""Examples that do not count: absent ones (weight 0) and ones without a label (-1).

An absent example may hold anything, even NaN. Multiplied by 0, NaN is still NaN, also in a
gradient. So absent examples are replaced by zeros before anything is computed.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes

from metakit.inputs import as_array, native
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Params, presence

UNLABELLED = -1


def blanked(examples: Examples) -> Examples:
  """Returns the examples with zeros where the weight is 0; they may have any leading axes."""
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

  Traced labels are looked at only if there are weights. Without weights all examples count; an
  objective leaves out those without a label in any case.
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


def check_classes(y: Any) -> None:
  """Raises ValueError for class labels [examples], traced or not, that are no integers."""
  if np.ndim(y) == 1 and not jnp.issubdtype(y.dtype, jnp.integer):
    raise ValueError(
      f'labels are {y.dtype}; this learner tells classes apart: give integers from 0, '
      'y.astype(int) for instance'
    )


def check_labels(y: Any, outputs: int) -> None:
  """Raises ValueError if a class label is not between -1 and outputs - 1.

  Args:
    y: [examples]; traced labels, and the targets of a regression, are not checked.
    outputs: how many outputs the learner has.
  """
  if not (_are_classes(y) and _concrete(y) and np.size(y)):
    return
  labels = np.asarray(y)  # NumPy, since within a trace an operation of JAX would be traced
  low, high = int(labels.min()), int(labels.max())
  if low < UNLABELLED or high >= outputs:
    wrong = low if low < UNLABELLED else high
    raise ValueError(
      f'label {wrong} is none of the classes 0 to {outputs - 1} of the learner (-1: without a '
      'label); number the classes of an episode from 0, or make a learner with more ways'
    )


def has_known_labels(episode: Episode) -> bool:
  """Says whether an episode has class labels that can be looked at (outside jit)."""
  parts = episode.support, episode.query
  return all(_are_classes(part.y) and _concrete(part.y) for part in parts)


def numbered(y: jax.Array, numbers: Any) -> jax.Array:
  """Returns numbers[y] for every label, and -1 for examples without one.

  Args:
    y: [examples] labels.
    numbers: [ways] the new number of each label.
  """
  return jnp.where(y < 0, UNLABELLED, jnp.asarray(numbers)[y])


def _are_classes(y: Any) -> bool:
  return y is not None and np.ndim(y) > 0 and jnp.issubdtype(y.dtype, jnp.integer)


def _concrete(y: Any) -> bool:
  return not isinstance(y, jax.core.Tracer)


def _two(x: Any) -> Any:
  """Returns the shapes of two examples, since some learners cannot answer a single query."""
  kind = lambda leaf: dtypes.canonicalize_dtype(leaf.dtype)  # float64 is none without x64
  shape = lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape[1:]), kind(leaf))
  return jax.tree.map(shape, native(x))


def guarded(learner: MetaLearner, unlabelled: bool = False) -> MetaLearner:
  """Returns the learner such that examples that do not count cannot disturb it.

  It also takes NumPy arrays of another byte order than the machine's.

  Args:
    learner: any MetaLearner.
    unlabelled: True if it learns from examples without a label (-1) too. Otherwise they get the
      weight 0, see `labelled`.

  Returns:
    The learner. Outside jit, its `adapt` raises ValueError for labels that it has no output for.
  """

  def tidy(examples: Examples, unlabelled: bool = unlabelled) -> Examples:
    for part in examples:
      if isinstance(part, list | tuple):
        as_array(part)  # raises an error that says what to give
    examples = native(examples)
    return blanked(examples if unlabelled else labelled(examples))

  def tidy_queries(examples: Examples) -> Examples:
    """Blanks what does not count, but keeps finite inputs: an absent example is predicted too."""
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
    'init': lambda key, episode: learner.init(key, native(episode)),
    'adapt': adapt,
    'predict': lambda fitted, x: learner.predict(fitted, native(x)),
    'loss': lambda key, params, episode: learner.loss(key, params, whole(episode)),
    'calibrate': lambda params, episodes: learner.calibrate(params, whole(episodes)),
  }
  if (extend := learner.extend) is not None:
    guards['extend'] = lambda fitted, more: extend(fitted, tidy(more))
  if (prefixes := learner.prefixes) is not None:
    guards['prefixes'] = lambda key, params, examples: prefixes(key, params, tidy_queries(examples))
  if (loss_at := learner.loss_at) is not None:
    guards['loss_at'] = lambda step, key, params, episode: loss_at(
      step, key, params, whole(episode)
    )
  if (diagnose := learner.diagnose) is not None:
    guards['diagnose'] = lambda key, params, episode: diagnose(key, params, whole(episode))
  return learner._replace(**guards)
