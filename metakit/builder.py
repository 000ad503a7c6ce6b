"""Makes a MetaLearner from the functions that are new about a method."""

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
  """Makes a learner. Examples that do not count never change its results (metakit.absent.guarded).

  All functions take one task, without a task axis. This is a whole learner:

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
    objective: judges the queries in the default loss.
    loss: (key, params, episode) -> (scalar, metrics), what meta-training minimises. The default
      adapts to the support, predicts the queries, and takes their objective.
    queries_seen: whether the prediction of a query may depend on the other queries.
    unlabelled: whether it learns from examples without a label (-1) too. If not, they get weight 0.
    calibrate: (params, episodes) -> params, which measures what is not learned.
    features: the parts of a learner that embeds every example by itself.
    extend: (fitted, more) -> fitted, for a learner that can go on learning.
    prefixes: (key, params, examples) -> outputs, each example predicted from those before it.
    loss_at: (step, key, params, episode) -> (scalar, metrics), for a loss that changes in training.
    diagnose: (key, params, episode) -> metrics of the meta-gradient.
  """

  def query_loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    outputs = predict(adapt(key, params, episode.support), episode.query.x)
    return objective(outputs, episode.query)

  learner = MetaLearner(
    init,
    adapt,
    predict,
    loss or query_loss,
    queries_seen,
    calibrate=calibrate,
    features=features,
    extend=extend,
    prefixes=prefixes,
    loss_at=loss_at,
    diagnose=diagnose,
  )
  return guarded(learner, unlabelled)
