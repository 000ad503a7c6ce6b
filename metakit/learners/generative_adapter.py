"""Weights that one forward pass over the support writes, in place of gradient descent.

Inspired by Tong Chen, Hao Fang, Patrick Xia, Xiaodong Liu, Benjamin Van Durme, Luke Zettlemoyer,
Jianfeng Gao, Hao Cheng, Generative Adapter: Contextualizing Language Models in Parameters with A
Single Forward Pass, ICLR 2025, arXiv:2411.05877. Implemented: each layer of a perceptron has frozen
weights W, which are meta-learned, and an update U M V of low rank. M is a sum of outer products
over the support, divided by its Frobenius norm. The layers are adapted one after the other, so the
support of a layer is what the adapted layers before it make of the examples. Deviations: what an
example writes depends on its label, by a perceptron of each layer; a language model has tokens for
that. The base is trained with the rest, since there is no language model to start from.

h U M V = sum_i (h U . k_i) v_i V / |M|: the update is linear attention over the support, without
its normalisation (compare Dai et al. 2023, arXiv:2212.10559).

Changes in a task: a matrix of rank * rank numbers for each layer.
"""

import math

import jax
import jax.numpy as jnp

from metakit.builder import meta_learner
from metakit.learners.embedded import embedded
from metakit.learners.set_parts import pairs, weights_of
from metakit.models import Model
from metakit.objectives import cross_entropy
from metakit.sizes import check_positive
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Objective, Params


def generative_adapter(
  embedding: Model,
  num_outputs: int,
  width: int = 64,
  *,
  depth: int = 2,
  rank: int = 32,
  statistics: str = 'training',
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Adapts a perceptron on features by weights that a forward pass over the support writes.

  Args:
    embedding: x [examples, ...] -> features [examples, features], which no task changes.
    num_outputs: classes of an episode, or size of the targets.
    width: units of the hidden layers, and of what examples write.
    depth: hidden layers.
    rank: of the updates, at most.
    statistics: see metakit.learners.embedded.
    objective: of the outputs.

  Returns:
    A MetaLearner. Its fitted hold depth + 1 matrices of rank * rank beside the params.

  Raises:
    ValueError: if a size is not positive, or for other statistics.

  >>> from metakit.models import identity
  >>> learner = generative_adapter(identity, num_outputs=5, width=8, depth=1, rank=4)
  >>> x, y = jax.random.normal(jax.random.key(0), (5, 3)), jnp.arange(5)
  >>> key, support = jax.random.key(0), Examples(x, y)
  >>> start = lambda: learner.init(key, Episode(support, support))
  >>> _, (_, updates) = jax.eval_shape(lambda: learner.adapt(key, start(), support))
  >>> [update.shape for update in updates]
  [(4, 4), (4, 4)]
  """
  check_positive(num_outputs=num_outputs, width=width, depth=depth, rank=rank)
  outputs = num_outputs * objective.outputs_per_target

  def init(key: Key, episode: Episode) -> Params:
    read = pairs(episode.support, num_outputs).shape[1] - episode.support.x.shape[1]
    sizes = [episode.support.x.shape[1], *[width] * depth, outputs]
    keys = jax.random.split(key, depth + 1)
    layers = [
      _init_layer(key, before, after, read=read, width=width, rank=rank)
      for key, before, after in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]
    return {'layers': layers}

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    del key  # nothing is drawn
    h = support.x
    y = pairs(support, num_outputs)[:, h.shape[1] :]
    weight, updates = weights_of(support, h), []
    for number, layer in enumerate(params['layers']):
      if number:
        h = jax.nn.relu(h)
      updates.append(_written(layer, h, y, weight=weight))
      h = _apply(layer, updates[-1], h)
    return params, tuple(updates)

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    params, updates = fitted
    for number, (layer, update) in enumerate(zip(params['layers'], updates, strict=True)):
      x = _apply(layer, update, jax.nn.relu(x) if number else x)
    return x

  head = meta_learner(init, adapt, predict, objective=objective)
  return embedded(embedding, head, statistics)


def _init_layer(
  key: Key, before: int, after: int, *, read: int, width: int, rank: int
) -> dict[str, jax.Array]:
  """Returns a layer, and what writes its update; the update begins small beside the weights."""
  sizes = {
    'kernel': (before, after),
    'keys': (before, rank),
    'hidden': (before + read, width),
    'values': (width, rank),
    'up': (before, rank),
    'down': (rank, after),
  }
  draw = lambda key, shape: jax.random.normal(key, shape) * math.sqrt(2 / shape[0])
  keys = jax.random.split(key, len(sizes))
  drawn = {name: draw(k, sizes[name]) for k, name in zip(keys, sizes, strict=True)}
  return drawn | {'bias': jnp.zeros(after), 'offset': jnp.zeros(width), 'scale': jnp.ones(())}


def _written(
  layer: dict[str, jax.Array], h: jax.Array, y: jax.Array, *, weight: jax.Array
) -> jax.Array:
  """Returns M [rank, rank]: the normalised sum of outer products of all examples."""
  read = jnp.concatenate([h, y], axis=1) @ layer['hidden'] + layer['offset']
  values = jax.nn.relu(read) @ layer['values']
  weight = weight[:, None]
  keys = jnp.where(weight > 0, weight * (h @ layer['keys']), 0)  # 0 * nan would be nan
  total = keys.T @ jnp.where(weight > 0, values, 0)
  square = jnp.square(total).sum()
  # Where nothing is there, nothing is written, and the root has a gradient.
  norm = jnp.sqrt(jnp.where(square > 0, square, 1))
  return layer['scale'] * total / norm


def _apply(layer: dict[str, jax.Array], update: jax.Array, h: jax.Array) -> jax.Array:
  return h @ layer['kernel'] + (h @ layer['up']) @ update @ layer['down'] + layer['bias']
