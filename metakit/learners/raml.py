"""Class means of examples that are fused with passages retrieved for them.

Inspired by Rongsheng Li, Yangning Li, Yinghui Li, Chaiyut Luoyiching, Hai-Tao Zheng, Nannan Zhou,
Hanjing Su, Retrieval-Augmented Meta Learning for Low-Resource Text Classification, 2023,
arXiv:2309.04979. Implemented: each example comes with passages of an unlabelled corpus
(metakit.retrieval.with_passages). One network embeds the example and its passages. The example
attends to its passages, and a gate, by feature, says how much of what it finds there is added.
Deviations: one head of attention between vectors of whole texts, since there is no language model
whose words could attend to each other. The projections begin as the identity, so what is found is
at first the mean of alike passages, and the gate begins nearly closed.

Changes in a task: nothing: class means.
"""

from typing import Any

import jax
import jax.numpy as jnp

from metakit.heads.prototypes import prototypes
from metakit.keys import stream
from metakit.learners.embedded import embedded
from metakit.models import Model, StoredStatistics
from metakit.objectives import cross_entropy
from metakit.types import Key, MetaLearner, Objective, Params

CLOSED = -2.0  # of the gate before training: an eighth of what is found is added


def raml(
  embedding: Model,
  ways: int,
  distance: str = 'euclidean',
  *,
  temperature: float = 0.0,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Classifies by the nearest mean of examples that are fused with their passages.

  Args:
    embedding: x [examples, ...] -> features [examples, features].
    ways: classes of an episode.
    distance: 'euclidean' (squared) or 'cosine'.
    temperature: see metakit.heads.prototypes.
    objective: the training loss.

  Returns:
    A MetaLearner of x [examples, 1 + passages, ...].

  Raises:
    ValueError: for an unknown distance.

  >>> from metakit.networks import mlp
  >>> raml(mlp(width=8), ways=5).protocol
  'inductive'
  """
  head = prototypes(ways, distance, temperature, objective=objective)
  return embedded(fused(embedding), head)


def fused(embedding: Model) -> Model:
  """Returns the network of x [examples, 1 + passages, ...]: each example with its passages.

  >>> from metakit.networks import mlp
  >>> model, x = fused(mlp(width=8)), jax.ShapeDtypeStruct((5, 3, 4), 'float32')
  >>> params = jax.eval_shape(model.init, jax.random.key(0), x)
  >>> jax.eval_shape(model.apply, params, x).shape
  (5, 8)
  """

  def init(key: Key, x: jax.Array) -> Params:
    body = embedding.init(key, x[:, 0])
    width = jax.eval_shape(embedding.apply, body, x[:, 0]).shape[-1]
    parts = {name: jnp.eye(width) for name in ('query', 'key', 'value')}
    kernel = jax.random.normal(stream(key, 'gate'), (2 * width, width)) / (2 * width) ** 0.5
    gate = {'kernel': kernel, 'bias': jnp.full(width, CLOSED)}
    return {'body': body, **parts, 'gate': gate}

  def fuse(params: Params, views: jax.Array) -> jax.Array:
    own, passages = views[:, 0], views[:, 1:]
    keys, values = (passages @ params[name] for name in ('key', 'value'))
    scores = jnp.einsum('ef,epf->ep', own @ params['query'], keys) / own.shape[-1] ** 0.5
    found = jnp.einsum('ep,epf->ef', jax.nn.softmax(scores), values)
    both = jnp.concatenate([own, found], axis=-1)
    gate = jax.nn.sigmoid(both @ params['gate']['kernel'] + params['gate']['bias'])
    return own + gate * found

  def apply(params: Params, x: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    weight = None if weight is None else jnp.repeat(weight, x.shape[1])
    views = embedding.apply(params['body'], x.reshape(-1, *x.shape[2:]), weight=weight)
    return fuse(params, views.reshape(*x.shape[:2], -1))

  if embedding.stored is None:
    return Model(init, apply)
  stored = embedding.stored

  def apply_stored(params: Params, x: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    del weight  # rows do not influence one another
    views = stored.apply(params['body'], x.reshape(-1, *x.shape[2:]))
    return fuse(params, views.reshape(*x.shape[:2], -1))

  def calibrate(params: Params, batches: jax.Array, weight: Any = None) -> Params:
    weight = None if weight is None else jnp.repeat(weight, batches.shape[2], axis=1)
    views = batches.reshape(len(batches), -1, *batches.shape[3:])
    return {**params, 'body': stored.calibrate(params['body'], views, weight)}

  return Model(init, apply, StoredStatistics(apply_stored, calibrate))
