"""The skeleton of a learner, to be copied: the nearest class mean in a space that is learned.

Authors, Title, venue and year, arXiv number. Implemented: which equations. Deviations: every one.

Changes in a task: nothing: class means.
"""

import jax

from metakit.builder import meta_learner
from metakit.heads.common import check_ways, class_means, squared_distances
from metakit.models import Model
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Objective, Params


def skeleton(embedding: Model, ways: int, *, objective: Objective = cross_entropy) -> MetaLearner:
  """Says in one line what it learns and how.

  Args:
    embedding: x [examples, ...] -> features [examples, features].
    ways: classes of an episode.
    objective: the training loss.

  Raises:
    ValueError: for fewer than two ways.

  >>> from metakit.networks import mlp
  >>> skeleton(mlp(), ways=5).protocol
  'inductive'
  """
  check_ways(ways)

  def init(key: Key, episode: Episode) -> Params:
    return embedding.init(key, episode.support.x)

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    del key  # nothing is drawn
    z = embedding.apply(params, support.x, weight=support.weight)
    return params, class_means(support._replace(x=z), ways)[0]

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    params, points = fitted
    return -squared_distances(embedding.apply(params, x), points)  # [queries, ways]

  return meta_learner(init, adapt, predict, objective=objective)
