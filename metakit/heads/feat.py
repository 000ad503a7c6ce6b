"""FEAT: prototypes adapted to one another by self-attention.

Han-Jia Ye, Hexiang Hu, De-Chuan Zhan, Fei Sha, Few-Shot Learning via Embedding Adaptation with
Set-to-Set Functions, CVPR 2020, arXiv:1812.03664. Implemented: the transformer over the prototypes
(eqs. 4 to 6: one layer of attention, a residual connection, layer normalisation), the softmax over
squared distances with a temperature, and the contrastive term over support and queries together
(eq. 7: the examples of a class are adapted to one another, and their mean must be the nearest one
to each example before its adaptation). Deviation: no dropout, and one temperature for both terms.
"""

from typing import Any

import jax
import jax.numpy as jnp

from metakit.absent import guarded
from metakit.heads.common import (
  ABSENT,
  check_positive,
  check_ways,
  class_means,
  in_precision,
  inductive_head,
  only_labelled,
  product,
  squared_distances,
)
from metakit.objectives import cross_entropy
from metakit.types import (
  Episode,
  Examples,
  Fitted,
  Key,
  MetaLearner,
  Metrics,
  Params,
  join,
  presence,
)

NAMES = 'query', 'key', 'value', 'out'


def feat(ways: int, temperature: float = 64.0, contrast: float = 0.1) -> MetaLearner:
  """Classifies by distance to prototypes that attention has adapted to the other classes.

  Args:
    ways: classes of an episode.
    temperature: what squared distances are divided by.
    contrast: weight of the contrastive term; 0 for none.

  Raises:
    ValueError: for numbers that make no sense.

  >>> x = Examples(jax.ShapeDtypeStruct((10, 64), 'float32'), None)
  >>> params = jax.eval_shape(feat(ways=5).init, jax.random.key(0), Episode(x, x))
  >>> sorted(params), params['query'].shape
  (['bias', 'key', 'out', 'query', 'scale', 'value'], (64, 64))
  """
  check_ways(ways)
  check_positive(temperature=temperature)
  if contrast < 0:
    raise ValueError(f'contrast={contrast} is negative; use 0 for none')

  def init(key: Key, episode: Episode) -> Params:
    size = episode.support.x.shape[1]
    draw, keys = jax.nn.initializers.normal(size**-0.5), jax.random.split(key, len(NAMES))
    kernels = [draw(each, (size, size), jnp.float32) for each in keys]
    flat = {'scale': jnp.ones(size, jnp.float32), 'bias': jnp.zeros(size, jnp.float32)}
    return dict(zip(NAMES, kernels, strict=True)) | flat

  def adapted(params: Params, points: jax.Array, seen: jax.Array) -> jax.Array:
    query, key, value = (product(points, params[name]) for name in NAMES[:3])
    scores = product(query, key.T) / jnp.sqrt(jnp.asarray(points.shape[1], points.dtype))
    share = jax.nn.softmax(jnp.where(seen, scores, ABSENT))
    mixed = points + product(product(share, value), params['out'])
    return layer_norm(mixed) * params['scale'] + params['bias']

  def fit(key: Key, params: Params, support: Examples) -> Fitted:
    del key
    points, present = class_means(support, ways)
    return adapted(params, points, present), present

  def classify(fitted: Fitted, z: jax.Array) -> jax.Array:
    points, present = fitted
    return jnp.where(present, -squared_distances(z, points) / temperature, ABSENT)

  def centres(params: Params, examples: Examples) -> Fitted:
    """Means of the examples of each class, adapted to one another."""
    same = (examples.y[:, None] == examples.y) & presence(examples)
    return class_means(examples._replace(x=adapted(params, examples.x, same)), ways)

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    value, metrics = head.loss(key, params, episode)
    if contrast:
      both = in_precision(join(only_labelled(episode.support), episode.query))
      value += contrast * cross_entropy(classify(centres(params, both), both.x), both)[0]
    return value, metrics

  head = inductive_head(fit, classify, init)
  return guarded(head._replace(loss=loss))


def layer_norm(x: Any) -> jax.Array:
  """Brings the last axis to mean 0 and variance 1."""
  x = x - x.mean(-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
