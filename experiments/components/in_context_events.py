"""Learners of events that need no training: class means, and a transformer that reads a table."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from metakit.builder import meta_learner
from metakit.heads import prototypes
from metakit.heads.common import class_means
from metakit.streams import Event
from metakit.trained import load
from metakit.types import Examples, Fitted, Key, MetaLearner, Params

READER = 'tabular-classifier'
LEVELS = 10  # classes that stand for the targets of a regression
ROUNDS = 6  # of the iteration that finds principal components


def class_means_of(outputs: int, event: Event) -> MetaLearner:
  """Returns the nearest class mean or, in a regression, the mean target."""
  return _nearest_mean(outputs) if event.objective.classifies else _mean_target()


@functools.lru_cache(maxsize=8)
def _nearest_mean(outputs: int) -> MetaLearner:
  return prototypes(outputs)


@functools.cache
def _mean_target() -> MetaLearner:
  mean = lambda key, params, support: support.y.mean(0)
  answer = lambda fitted, x: jnp.broadcast_to(fitted, (x.shape[0], *fitted.shape))
  return meta_learner(lambda key, episode: {}, mean, answer)


def in_context_of(outputs: int, columns: int) -> tuple[Callable[[Event], MetaLearner], Params]:
  """Returns the learner of each event, and the parameters that all of them share."""
  trained = load(READER)
  classes = through_components(trained.learner_of(outputs), columns)
  numbers = through_levels(through_components(trained.learner_of(LEVELS), columns))
  return lambda event: classes if event.objective.classifies else numbers, trained.params


def through_components(learner: MetaLearner, columns: int) -> MetaLearner:
  """Returns a learner that sees the principal components of the support.

  They are found by orthogonal iteration (Golub and Van Loan, Matrix Computations, section 8.2.4).
  XLA counts its products, but not the decompositions (LAPACK) between them, which are small.

  Args:
    learner: a learner of vectors.
    columns: components.
  """

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    mean = support.x.mean(0)
    basis = components(support.x - mean, columns)
    fitted = learner.adapt(key, params, support._replace(x=(support.x - mean) @ basis))
    return mean, basis, fitted

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    mean, basis, inner = fitted
    return learner.predict(inner, (x - mean) @ basis)

  return learner._replace(adapt=adapt, predict=predict, features=None, extend=None, prefixes=None)


def components(x: jax.Array, columns: int) -> jax.Array:
  """Returns an orthonormal basis [inputs, columns] of about the first principal components.

  >>> x = jnp.array([[3.0, 0.0, 0.1], [-3.0, 0.0, 0.1], [0.0, 1.0, -0.1], [0.0, -1.0, -0.1]])
  >>> jnp.abs(components(x, 2)).sum(0)[:2].round(1).tolist()
  [1.0, 1.0]
  """
  start = jax.random.normal(jax.random.key(0), (x.shape[1], columns), x.dtype)
  basis = jnp.linalg.qr(start)[0]
  for _ in range(ROUNDS):
    basis = jnp.linalg.qr(x.T @ (x @ basis))[0]
  return basis


def through_levels(learner: MetaLearner) -> MetaLearner:
  """Returns a learner of one number that a learner of LEVELS classes makes.

  A class holds a tenth of the support, by the order of its targets. The prediction is the mean of
  the classes' mean targets, weighted by their probabilities.

  Args:
    learner: a learner of LEVELS classes.
  """

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    targets = support.y[:, 0]
    ranks = jnp.argsort(jnp.argsort(targets))
    labels = (ranks * LEVELS // len(targets)).astype(jnp.int32)
    means, _ = class_means(Examples(support.y, labels), LEVELS)
    return means, learner.adapt(key, params, support._replace(y=labels))

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    means, inner = fitted
    return jax.nn.softmax(learner.predict(inner, x)) @ means

  return learner._replace(adapt=adapt, predict=predict, features=None, extend=None, prefixes=None)
