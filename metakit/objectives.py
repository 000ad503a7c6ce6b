"""Objectives, which judge the outputs of a learner (metakit.types.Objective).

An objective is called like a function, (outputs, examples) -> (loss, metrics). To make one of your
own, give the loss of each example:

>>> def smoothed(logits, y, share=0.1):
...   labels = optax.smooth_labels(jax.nn.one_hot(y, logits.shape[-1]), share)
...   return optax.softmax_cross_entropy(logits, labels)
>>> objective = classification(smoothed)
>>> loss, metrics = objective(jnp.zeros((2, 3)), Examples(x=None, y=jnp.array([0, 2])))
>>> print(f'{loss:.4f}')  # log 3
1.0986
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from metakit.absent import UNLABELLED, blanked, check_classes, check_labels
from metakit.types import Density, Examples, Metrics, Objective

# (outputs [examples, outputs], y) -> losses [examples]
Losses = Callable[[jax.Array, jax.Array], jax.Array]


def weighted_mean(values: jax.Array, weight: jax.Array | None) -> jax.Array:
  """Returns the mean of values [examples], weighted; rows of weight 0 do not count at all."""
  if weight is None:
    return values.mean()
  kept = jnp.where(weight > 0, values, 0)  # 0 * inf would be nan
  return (kept * weight).sum() / jnp.maximum(weight.sum(), jnp.finfo(values.dtype).tiny)


def classification(losses: Losses) -> Objective:
  """Returns the objective of a classification whose outputs are logits [examples, ways].

  Args:
    losses: (logits [examples, ways], labels [examples]) -> losses [examples]. It gets logits in
      float32 at least. An example without a label has label 0 here, and its loss is left out.

  Returns:
    An Objective with the metrics 'loss', the mean, and 'accuracy', a fraction. If the largest logit
    is not finite, no class counts as predicted. It raises ValueError for labels that are no
    integers and, outside jit, for labels that are none of the classes.

  >>> objective = classification(optax.softmax_cross_entropy_with_integer_labels)
  >>> logits, labels = jnp.array([[2.0, 0.0], [1.0, 0.0]]), jnp.array([0, 1])
  >>> judge = jax.jit(lambda logits: objective(logits, Examples(x=None, y=labels)))
  >>> loss, metrics = judge(logits)
  >>> float(metrics['accuracy'])
  0.5
  """

  def judge(outputs: jax.Array, examples: Examples) -> tuple[jax.Array, Metrics]:
    check_classes(examples.y)
    check_labels(examples.y, outputs.shape[-1])
    outputs, examples = summable(outputs, examples)
    y, mean = _labelled_mean(jnp.asarray(examples.y), examples.weight)
    each = losses(outputs, y)
    hits = (outputs.argmax(-1) == y) & _predicts(outputs)
    loss = mean(each)
    return loss, {'loss': loss, 'accuracy': mean(hits.astype(outputs.dtype))}

  return Objective(judge, 'classification', _most_likely, _kullback_leibler, pool=_mean_probability)


def regression(losses: Losses) -> Objective:
  """Returns the objective of a regression whose outputs are predictions, shaped as the targets.

  Args:
    losses: (predictions [examples, outputs], targets [examples, outputs]) -> losses [examples]; it
      sees predictions in float32 at least.

  Returns:
    An Objective with the metric 'loss', the mean. It raises ValueError if the shapes differ, which
    would otherwise broadcast to a wrong loss.

  >>> objective = regression(lambda outputs, y: jnp.abs(outputs - y).sum(-1))
  >>> examples = Examples(x=None, y=jnp.array([[2.0], [2.0]]))
  >>> loss, metrics = objective(jnp.array([[1.0], [4.0]]), examples)
  >>> float(loss)
  1.5
  """

  def judge(outputs: jax.Array, examples: Examples) -> tuple[jax.Array, Metrics]:
    if outputs.shape != examples.y.shape:
      raise ValueError(
        f'predictions of shape {outputs.shape} but targets of shape {examples.y.shape}; give both '
        'as [examples, outputs]'
      )
    return _mean_loss(losses, outputs, examples)

  mean = lambda outputs: outputs.mean(0)
  return Objective(judge, 'regression', lambda outputs: outputs, _mean_square, pool=mean)


def density(
  losses: Losses,
  outputs_per_target: int,
  *,
  point: Callable[[jax.Array], jax.Array],
  divergence: Callable[[jax.Array, jax.Array], jax.Array],
  pool: Callable[[jax.Array], jax.Array] | None = None,
  family: Density | None = None,
) -> Objective:
  """Returns the objective of outputs that are parameters of a density of the targets.

  Args:
    losses: (outputs [examples, outputs], targets [examples, size]) -> -log p(targets) [examples],
      in nats.
    outputs_per_target: parameters of the density of one number, such as 2 for a mean and a
      variance.
    point: outputs [examples, outputs] -> predictions [examples, size], such as the mean.
    divergence: see metakit.types.Objective.
    pool: see metakit.types.Objective.
    family: the density of one number, if outputs [examples, size * outputs_per_target] hold the
      parameters of the first number of a target, then those of the second, and so on.

  Returns:
    An Objective with the metrics 'loss', the mean, and 'squared_error', that of the point
    predictions. It raises ValueError for another number of outputs.

  >>> def losses(outputs, y):  # of a normal density: a mean, and the logarithm of a deviation
  ...   mean, log_deviation = jnp.split(outputs, 2, axis=-1)
  ...   away = (y - mean) / jnp.exp(log_deviation)
  ...   return (0.5 * away**2 + log_deviation + 0.5 * jnp.log(2 * jnp.pi)).sum(-1)
  >>> mean = lambda outputs: jnp.split(outputs, 2, axis=-1)[0]
  >>> objective = density(losses, 2, point=mean, divergence=lambda a, b: losses(a, mean(b)))
  >>> loss, metrics = objective(jnp.array([[1.0, 0.0]]), Examples(x=None, y=jnp.array([[3.0]])))
  >>> f'{loss:.2f}'
  '2.92'
  """

  def judge(outputs: jax.Array, examples: Examples) -> tuple[jax.Array, Metrics]:
    check_outputs(outputs, examples, outputs_per_target)
    loss, metrics = _mean_loss(losses, outputs, examples)
    return loss, {**metrics, 'squared_error': error_of(point, outputs, examples)}

  return Objective(judge, 'density', point, divergence, outputs_per_target, pool, family)


def check_outputs(outputs: jax.Array, examples: Examples, outputs_per_target: int) -> None:
  """Raises ValueError if outputs are not so many a number of the targets."""
  expected = *examples.y.shape[:-1], outputs_per_target * examples.y.shape[-1]
  if outputs.shape != expected:
    raise ValueError(
      f'outputs of shape {outputs.shape} for targets of shape {examples.y.shape}; a density with '
      f'{outputs_per_target} outputs a number needs {expected}'
    )


def error_of(
  point: Callable[[jax.Array], jax.Array], outputs: jax.Array, examples: Examples
) -> jax.Array:
  """Returns the mean squared error of point predictions; see `density`."""
  outputs, examples = summable(outputs, examples)
  return weighted_mean(_mean_square(point(outputs), examples.y), examples.weight)


def _mean_loss(losses: Losses, outputs: jax.Array, examples: Examples) -> tuple[jax.Array, Metrics]:
  outputs, examples = summable(outputs, examples)
  loss = weighted_mean(losses(outputs, examples.y), examples.weight)
  return loss, {'loss': loss}


def _predicts(logits: jax.Array) -> jax.Array:
  """Says whether logits predict a class. argmax would also name one for NaN, as the largest."""
  return jnp.isfinite(logits.max(-1))


def _most_likely(logits: jax.Array) -> jax.Array:
  return jnp.where(_predicts(logits), logits.argmax(-1), UNLABELLED)


def _kullback_leibler(logits: jax.Array, reference: jax.Array) -> jax.Array:
  log_p, log_q = jax.nn.log_softmax(logits), jax.nn.log_softmax(reference)
  return (jnp.exp(log_q) * (log_q - log_p)).sum(-1)


def _mean_probability(logits: jax.Array) -> jax.Array:
  return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(len(logits))


def _mean_square(outputs: jax.Array, reference: jax.Array) -> jax.Array:
  return jnp.square(outputs - reference).mean(-1)


def _labelled_mean(y: jax.Array, weight: jax.Array | None):
  """Returns the labels with 0 in place of -1, and a function: the mean over labelled examples."""
  there = y >= 0
  if weight is not None:
    weight = jnp.where(there, weight, 0)
    return jnp.maximum(y, 0), lambda values: weighted_mean(values, weight)

  def mean(values: jax.Array) -> jax.Array:
    others = y.shape[0] / jnp.maximum(there.sum(dtype=values.dtype), 1)  # exactly 1 if all have one
    return jnp.where(there, values, 0).mean() * others

  return jnp.maximum(y, 0), mean


def summable(outputs: jax.Array, examples: Examples) -> tuple[jax.Array, Examples]:
  """Returns outputs in float32 at least, since many are summed, and 0 in the rows of weight 0.

  So the gradient of these rows is 0. The gradient of NaN times 0 would not be.
  """
  outputs = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
  rows = blanked(examples._replace(x=outputs))
  return rows.x, rows


cross_entropy = classification(optax.softmax_cross_entropy_with_integer_labels)
"""Mean cross-entropy in nats of logits [examples, ways], and accuracy as a fraction."""

squared_error = regression(_mean_square)
"""Mean squared error of predictions [examples, outputs], over examples and outputs."""
