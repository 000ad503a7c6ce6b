"""Relation networks.

Flood Sung, Yongxin Yang, Li Zhang, Tao Xiang, Philip H. S. Torr, Timothy M. Hospedales, Learning to
Compare: Relation Network for Few-Shot Learning, CVPR 2018, arXiv:1711.06025. Implemented: a learned
relation score of each query and the sum of each class's embeddings (section 3.1), and the squared
error of the scores (eq. 2). Deviation: the relation module is a perceptron on feature vectors, not
convolutional on feature maps; class means stand for class sums, so that any number of shots may be
tested.
"""

import jax
import jax.numpy as jnp

from metakit.absent import guarded
from metakit.heads.common import ABSENT, check_positive, check_ways, class_means, inductive_head
from metakit.networks.mlp import mlp
from metakit.objectives import cross_entropy, weighted_mean
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Metrics, Params


def relation(ways: int, width: int = 64, depth: int = 2) -> MetaLearner:
  """Classifies by a learned comparison with the mean of each class.

  Args:
    ways: classes of an episode.
    width: width of the hidden layers of the relation module.
    depth: number of these layers.

  Returns:
    A head whose outputs are the logits of the relation scores.

  Raises:
    ValueError: for numbers that make no sense.

  >>> x = Examples(jax.ShapeDtypeStruct((10, 32), 'float32'), None)
  >>> params = jax.eval_shape(relation(ways=5).init, jax.random.key(0), Episode(x, x))
  >>> params['params']['Dense_0']['kernel'].shape  # it sees two vectors of 32 features
  (64, 64)
  """
  check_ways(ways)
  check_positive(width=width, depth=depth)
  module = mlp(1, width=width, depth=depth)

  def init(key: Key, episode: Episode) -> Params:
    return module.init(key, jnp.concatenate([episode.support.x] * 2, axis=-1))

  def fit(key: Key, params: Params, support: Examples) -> Fitted:
    del key
    return params, *class_means(support, ways)

  def classify(fitted: Fitted, z: jax.Array) -> jax.Array:
    params, points, present = fitted
    shape = z.shape[0], ways, z.shape[1]
    pairs = [jnp.broadcast_to(points, shape), jnp.broadcast_to(z[:, None], shape)]
    scores = module.apply(params, jnp.concatenate(pairs, -1).reshape(-1, 2 * z.shape[1]))
    return jnp.where(present, scores.reshape(z.shape[0], ways), ABSENT)

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    query = episode.query
    outputs = head.predict(head.adapt(key, params, episode.support), query.x)
    away = jax.nn.sigmoid(outputs) - jax.nn.one_hot(query.y, ways, dtype=outputs.dtype)
    _, metrics = cross_entropy(outputs, query)
    value = weighted_mean(jnp.square(away).sum(-1), query.weight)
    return value, {**metrics, 'loss': value}

  head = inductive_head(fit, classify, init)
  return guarded(head._replace(loss=loss))
