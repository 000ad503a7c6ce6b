"""Makes a MetaLearner of the functions that are a method's own."""

import jax

from metakit.absent import guarded
from metakit.objectives import cross_entropy
from metakit.types import (
  Adapt,
  Calibrate,
  Diagnose,
  Episode,
  Extend,
  Features,
  Init,
  Key,
  Loss,
  LossAt,
  MetaLearner,
  Metrics,
  Objective,
  Params,
  Predict,
  Prefixes,
  unchanged,
)


def meta_learner(
  init: Init,
  adapt: Adapt,
  predict: Predict,
  *,
  objective: Objective = cross_entropy,
  loss: Loss | None = None,
  queries_seen: bool = False,
  unlabelled: bool = False,
  calibrate: Calibrate = unchanged,
  features: Features | None = None,
  extend: Extend | None = None,
  prefixes: Prefixes | None = None,
  loss_at: LossAt | None = None,
  diagnose: Diagnose | None = None,
) -> MetaLearner:
  """Makes a learner that examples which do not count cannot disturb (metakit.absent.guarded).

  All functions are of one task, without a task axis. A learner is as long as what is new about it:

  >>> from metakit.heads.common import class_means, squared_distances
  >>> from metakit.networks import mlp
  >>> def nearest_mean(ways):
  ...   network = mlp(width=32)
  ...   def init(key, episode):
  ...     return network.init(key, episode.support.x)
  ...   def adapt(key, params, support):
  ...     z = network.apply(params, support.x)
  ...     return params, class_means(support._replace(x=z), ways)[0]
  ...   def predict(fitted, x):
  ...     params, points = fitted
  ...     return -squared_distances(network.apply(params, x), points)
  ...   return meta_learner(init, adapt, predict)
  >>> nearest_mean(ways=5).protocol
  'inductive'

  Args:
    init: (key, episode) -> params, the meta-parameters.
    adapt: (key, params, support) -> fitted, a pytree that alone determines `predict`.
    predict: (fitted, x) -> outputs for the whole query set [queries, outputs].
    objective: of the usual loss.
    loss: (key, params, episode) -> (scalar, metrics), what meta-training minimises; by default the
      objective of what is predicted of the queries after adapting to the support.
    queries_seen: whether the prediction of a query may depend on the other queries.
    unlabelled: whether it learns from examples without a label (-1) too; they have the weight 0
      otherwise.
    calibrate: (params, episodes) -> params, what is measured rather than learned.
    features: the parts of a learner that embeds every example by itself.
    extend: (fitted, more) -> fitted, of a learner that goes on learning.
    prefixes: (key, params, examples) -> outputs, each example predicted from those before it.
    loss_at: (step, key, params, episode) -> (scalar, metrics), of a loss that changes in training.
    diagnose: (key, params, episode) -> metrics of the meta-gradient.
  """

  def of_queries(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    outputs = predict(adapt(key, params, episode.support), episode.query.x)
    return objective(outputs, episode.query)

  learner = MetaLearner(
    init,
    adapt,
    predict,
    loss or of_queries,
    queries_seen,
    calibrate=calibrate,
    features=features,
    extend=extend,
    prefixes=prefixes,
    loss_at=loss_at,
    diagnose=diagnose,
  )
  return guarded(learner, unlabelled)
