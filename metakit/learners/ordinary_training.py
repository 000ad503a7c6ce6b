"""What meta-learning has to beat: fine-tuning, a linear probe, and training from scratch.

Wei-Yu Chen, Yen-Cheng Liu, Zsolt Kira, Yu-Chiang Frank Wang, Jia-Bin Huang, A Closer Look at
Few-shot Classification, ICLR 2019, arXiv:1904.04232 ("Baseline"). Ordinary training teaches the
network to tell all training classes apart. (In a regression it trains on the examples of all tasks
together.) A test episode then trains a new last layer, or the whole network, on its support set.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from metakit.absent import guarded
from metakit.learners.descent import Descent, by_descent, refuse
from metakit.learners.training_classes import check_training_classes, of_training_classes
from metakit.meta_gradient import first_order
from metakit.models import Model, drawing, draws_of
from metakit.networks.last_layer import with_last_layer
from metakit.objectives import cross_entropy
from metakit.types import (
  Episode,
  Examples,
  Fitted,
  Key,
  MetaLearner,
  Metrics,
  Objective,
  Params,
  join,
)

TUNED = ('all', 'head')


def fine_tuning(
  embedding: Model,
  num_outputs: int,
  descent: Descent,
  *,
  num_classes: int | None = None,
  tuned: str = 'all',
  objective: Objective = cross_entropy,
  statistics: str | None = None,
) -> MetaLearner:
  """Ordinary training on all training classes, then gradient descent on each test task.

  Changes in a task: the network, or the last layer.

  Args:
    embedding: x [examples, ...] -> features [examples, features].
    num_outputs: outputs in a test episode.
    descent: on the support set of a test episode, with an optimizer, and without a mode, since
      nothing is differentiated through it. Descent(optax.sgd(0.01), steps=100), say.
    num_classes: number of training classes; episode.info['classes'] [ways] names those of an
      episode. None trains a last layer of num_outputs on the labels as they are (a regression).
    tuned: 'all', or 'head' for a linear probe of the frozen embedding.
    objective: loss of both trainings.
    statistics: see metakit.learners.descent.

  Raises:
    ValueError: for an unknown `tuned`, or a descent, a number of classes or statistics without
      sense; `init` raises it if its episode is of a class beyond them.

  >>> from metakit.networks import conv4
  >>> descent = Descent(optax.sgd(0.01), steps=100)
  >>> models = conv4(norm='batch'), conv4(norm='group')
  >>> [fine_tuning(model, 5, descent, num_classes=64).protocol for model in models]
  ['transductive', 'inductive']
  """
  if tuned not in TUNED:
    raise ValueError(f'tuned={tuned!r} is unknown; use one of {", ".join(TUNED)}')
  if num_classes is not None and num_classes < 2:
    raise ValueError(f'num_classes={num_classes} leaves nothing to tell apart; use 2 or more')
  whole = with_last_layer(embedding, num_outputs if num_classes is None else num_classes)

  def init(key: Key, episode: Episode) -> Params:
    if num_classes is not None:
      check_training_classes(episode.info, num_classes)
    return whole.init(key, episode.support.x)

  def split(params: Params, support: Examples) -> tuple[Any, Any]:
    head = params['head']
    if num_classes is not None:  # the new last layer is zero, so that it prefers no class
      kernel, bias = head['kernel'], head['bias']
      kernel = jnp.zeros((len(kernel), num_outputs), kernel.dtype)
      head = {'kernel': kernel, 'bias': jnp.zeros(num_outputs, bias.dtype)}
    body = params['body']
    return (
      ({'head': head, 'body': body}, {}) if tuned == 'all' else ({'head': head}, {'body': body})
    )

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    both = join(episode.support, episode.query)
    if num_classes is not None:
      both = of_training_classes(both, episode.info)
    apply = drawing(whole.apply, draws_of(whole, key))
    return objective(apply(params, both.x, weight=both.weight), both)

  learner = by_descent(
    with_last_layer(embedding, num_outputs),
    at_test_time(descent),
    objective=objective,
    statistics=statistics,
    init=init,
    split=split,
    merge=lambda fast, slow, step: {**slow, **fast},
  )
  return guarded(learner._replace(loss=loss, diagnose=None))  # there is no meta-gradient


def from_scratch(
  model: Model,
  descent: Descent,
  *,
  objective: Objective = cross_entropy,
  statistics: str | None = None,
) -> MetaLearner:
  """Trains a new random network on the support set of each episode. Nothing is meta-learned.

  Changes in a task: the network, from random weights.

  Args: as `fine_tuning`. Its loss is 0.

  >>> from metakit.networks import conv4
  >>> descent = Descent(optax.sgd(0.1), steps=100)
  >>> from_scratch(conv4(num_outputs=5, norm='group'), descent).protocol
  'inductive'
  """
  learner = by_descent(model, at_test_time(descent), objective=objective, statistics=statistics)

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    init_key, key = jax.random.split(key)
    fresh = model.init(init_key, support.x)
    fresh = jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), fresh, params)
    return learner.adapt(key, fresh, support)

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    return 0.0 * optax.tree.sum(jax.tree.map(jnp.sum, params)), {}

  return guarded(learner._replace(adapt=adapt, loss=loss, diagnose=None))


def at_test_time(descent: Descent) -> Descent:
  """Returns a descent that is never differentiated.

  Raises:
    ValueError: if it has a mode.
  """
  refuse(descent, 'mode')
  return descent._replace(mode=first_order())
