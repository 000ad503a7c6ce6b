"""Learners made of an embedding network and a head that learns from the embeddings."""

import jax

from metakit.models import Model, embed_rows
from metakit.types import (
  Episode,
  Examples,
  Features,
  Fitted,
  Key,
  MetaLearner,
  Metrics,
  Objective,
  Params,
  join,
)

PROTOCOLS = ('inductive', 'transductive')


def embedded(model: Model, head: MetaLearner, objective: Objective, protocol: str) -> MetaLearner:
  """Composes an embedding network with a head, a learner on features without a network.

  In training, support and query are embedded in one batch, so that a network with batch statistics
  (model.stored) sees them together. At test time an inductive learner embeds each example by
  itself, with the statistics of training episodes (`calibrate`); a transductive one embeds the
  support together with the queries, as in training.

  Args:
    model: x [examples, ...] -> features [examples, features].
    head: a learner of features; its params are ignored by nearest-prototype heads.
    objective: what `predict`'s outputs are trained by.
    protocol: 'inductive' or 'transductive'.

  Raises:
    ValueError: for another protocol, or 'transductive' with a network that never mixes examples
      (it would be inductive under another name).
  """
  if protocol not in PROTOCOLS:
    raise ValueError(f'protocol={protocol!r} is unknown; use one of {", ".join(PROTOCOLS)}')
  if protocol == 'transductive' and model.stored is None:
    raise ValueError(
      "protocol='transductive' needs a network with batch statistics (norm=batch); this network "
      "embeds each example by itself: use protocol='inductive'"
    )
  embed = embed_rows(model)

  def init(key: Key, episode: Episode) -> Params:
    return model.init(key, episode.support.x)

  def features_of(params: Params, support: Examples, query: Examples) -> tuple[Examples, jax.Array]:
    both = join(support, query)
    z = model.apply(params, both.x, weight=both.weight)
    return support._replace(x=z[: len(support.x)]), z[len(support.x) :]

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    support, z = features_of(params, episode.support, episode.query)
    outputs = head.predict(head.adapt(key, params, support), z)
    return objective(outputs, episode.query)

  def calibrate(params: Params, episodes: Episode) -> Params:
    if model.stored is None:
      return params
    both = jax.vmap(join)(episodes.support, episodes.query)
    return model.stored.calibrate(params, both.x, both.weight)

  if protocol == 'inductive':

    def adapt(key: Key, params: Params, support: Examples) -> Fitted:
      features = support._replace(x=embed(params, support.x))
      return params, head.adapt(key, params, features)

    def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
      params, adapted = fitted
      return head.predict(adapted, embed(params, x))

    parts = Features(embed, head)
    return MetaLearner(init, adapt, predict, loss, protocol, calibrate, parts)

  def keep(key: Key, params: Params, support: Examples) -> Fitted:
    return key, params, support  # the statistics, hence the features, await the queries

  def predict_jointly(fitted: Fitted, x: jax.Array) -> jax.Array:
    key, params, support = fitted
    features, z = features_of(params, support, Examples(x, None))
    return head.predict(head.adapt(key, params, features), z)

  return MetaLearner(init, keep, predict_jointly, loss, protocol, calibrate)
