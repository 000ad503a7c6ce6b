"""Learners made of an embedding network and a head that learns from the embeddings."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from metakit.builder import meta_learner
from metakit.keys import stream
from metakit.models import Model, drawing, draws_of, embed_rows
from metakit.types import (
  Episode,
  Examples,
  Features,
  Fitted,
  Key,
  MetaLearner,
  Metrics,
  Params,
  join,
)

STATISTICS = ('training', 'episode')


def embedded(model: Model, head: MetaLearner, statistics: str = 'training') -> MetaLearner:
  """Composes an embedding network with a head, a learner of features (metakit.heads).

  Training embeds support and queries in one batch, so a network with batch statistics
  (model.stored) sees them together. A test does the same with statistics='episode'. Otherwise it
  embeds each example by itself, with the statistics of training episodes (`calibrate`).

  Args:
    model: x [examples, ...] -> features [examples, features].
    head: a learner of features.
    statistics: what a network with batch statistics normalises test examples by, 'training' or
      'episode'.

  Returns:
    A learner whose params are {'body': those of the network, 'head': those of the head}. It is
    transductive if the network or the head is.

  Raises:
    ValueError: for other statistics, or 'episode' with a network that never mixes examples
      (it would be inductive under another name); at init, if the network does not give vectors.

  >>> from metakit.heads import ridge, tim
  >>> from metakit.networks import conv4
  >>> embedded(conv4(), ridge(ways=5)).protocol, embedded(conv4(), tim(ways=5)).protocol
  ('inductive', 'transductive')
  """
  check_statistics(model, statistics)

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    draws = draws_of(model, key)
    parts = _embed_together(model, params, episode.support, episode.query, draws)
    return head.loss(key, params['head'], Episode(*parts, episode.info))

  make = partial(
    meta_learner,
    partial(_init, model, head),
    loss=loss,
    unlabelled=True,  # the head decides
    calibrate=partial(_calibrate, model, head, statistics),
    diagnose=head.diagnose and _diagnosis(model, head.diagnose),
  )
  if statistics == 'episode':
    return make(*_jointly(model, head), queries_seen=True)
  embed = lambda params, x: embed_rows(model)(params['body'], x)
  return make(
    *_one_by_one(model, head),
    queries_seen=head.queries_seen,
    features=Features(embed, of_whole(head)),
    extend=head.extend and _extend(embed, head.extend),
  )


def _init(model: Model, head: MetaLearner, key: Key, episode: Episode) -> Params:
  body = model.init(key, episode.support.x)
  z = jax.eval_shape(embed_rows(model), body, episode.support.x)
  if len(z.shape) != 2:
    raise ValueError(f'the embedding gives {z.shape}; it must be [examples, features]')
  blank = lambda part: part._replace(x=jnp.zeros((part.x.shape[0], z.shape[1]), z.dtype))
  features = Episode(blank(episode.support), blank(episode.query), episode.info)
  return {'body': body, 'head': head.init(stream(key, 'head'), features)}


def _embed_together(
  model: Model, params: Params, support: Examples, query: Examples, draws: Key | None = None
) -> tuple[Examples, Examples]:
  both = join(support, query)
  z = drawing(model.apply, draws)(params['body'], both.x, weight=both.weight)
  return support._replace(x=z[: support.x.shape[0]]), query._replace(x=z[support.x.shape[0] :])


def _calibrate(
  model: Model, head: MetaLearner, statistics: str, params: Params, episodes: Episode
) -> Params:
  if model.stored is not None:
    both = jax.vmap(join)(episodes.support, episodes.query)
    params = {**params, 'body': model.stored.calibrate(params['body'], both.x, both.weight)}
  rows = embed_rows(model)

  def embed(episode: Episode) -> Episode:
    if statistics == 'episode':
      parts = _embed_together(model, params, episode.support, episode.query)
      return Episode(*parts, episode.info)
    support, query = (part._replace(x=rows(params['body'], part.x)) for part in episode[:2])
    return Episode(support, query, episode.info)

  features = jax.lax.map(embed, episodes)  # one by one, to save memory
  return {**params, 'head': head.calibrate(params['head'], features)}


def _diagnosis(model: Model, diagnose: Callable[..., Metrics]) -> Callable[..., Metrics]:
  """Returns the diagnosis of a head: of gradients in its parameters, not in the network's."""

  def diagnose_embedded(key: Key, params: Params, episode: Episode) -> Metrics:
    parts = _embed_together(model, params, episode.support, episode.query)
    return diagnose(key, params['head'], Episode(*parts, episode.info))

  return diagnose_embedded


def _one_by_one(model: Model, head: MetaLearner) -> tuple[Callable[..., Any], Callable[..., Any]]:
  """Returns `adapt` and `predict` with an embedding of each example by itself."""
  rows = embed_rows(model)

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    features = support._replace(x=rows(params['body'], support.x))
    return params, head.adapt(key, params['head'], features)

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    params, adapted = fitted
    return head.predict(adapted, rows(params['body'], x))

  return adapt, predict


def _extend(
  embed: Callable[[Params, Any], jax.Array], extend: Callable[[Fitted, Examples], Fitted]
) -> Callable[[Fitted, Examples], Fitted]:
  def extend_embedded(fitted: Fitted, more: Examples) -> Fitted:
    params, adapted = fitted
    return params, extend(adapted, more._replace(x=embed(params, more.x)))

  return extend_embedded


def _jointly(model: Model, head: MetaLearner) -> tuple[Callable[..., Any], Callable[..., Any]]:
  """Returns `adapt` and `predict` with an embedding of support and queries in one batch."""

  def keep(key: Key, params: Params, support: Examples) -> Fitted:
    # Nothing can be computed yet: features need statistics, and statistics need the queries.
    return key, params, support

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    key, params, support = fitted
    support, query = _embed_together(model, params, support, Examples(x, None))
    return head.predict(head.adapt(key, params['head'], support), query.x)

  return keep, predict


def of_whole(head: MetaLearner) -> MetaLearner:
  """Returns a head that finds its params in those of an embedded learner."""
  return head._replace(
    adapt=lambda key, params, support: head.adapt(key, params['head'], support),
    loss=lambda key, params, episode: head.loss(key, params['head'], episode),
    calibrate=lambda params, episodes: {
      **params,
      'head': head.calibrate(params['head'], episodes),
    },
  )


def check_statistics(model: Model, statistics: str) -> None:
  """Raises ValueError for statistics that cannot normalise the network."""
  if statistics not in STATISTICS:
    raise ValueError(f'statistics={statistics!r} are unknown; use one of {", ".join(STATISTICS)}')
  if statistics == 'episode' and model.stored is None:
    raise ValueError(
      "statistics='episode' needs a network with batch statistics (norm=batch); this network "
      "embeds each example by itself: use statistics='training'"
    )
