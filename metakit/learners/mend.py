"""A support set as a few vectors, which a frozen in-context learner reads in its place.

Inspired by Yichuan Li, Xiyao Ma, Sixing Lu, Kyumin Lee, Xiaohu Liu, Chenlei Guo, MEND: Meta
dEmonstratioN Distillation for Efficient and Effective In-Context Learning, ICLR 2024,
arXiv:2403.06914. Implemented: a distiller (a transformer) reads the support and learned queries,
one for each vector. Its answers are what the reader reads. It learns from the divergence of the
predictions from those of the reader with the whole support (section 3.2). Deviations: reader and
distiller are trained in one run, the reader first and alone (a language model is there already);
the distiller starts from nothing, and learns from the reader's predictions of the queries alone.

Changes in a task: the vectors, which no longer depend on how long the support is.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metakit.absent import known
from metakit.builder import meta_learner
from metakit.keys import stream
from metakit.learners.in_context import LAYOUTS, flat, in_context, no_tokens, targets
from metakit.learners.stages import two_stages
from metakit.models import SequenceModel
from metakit.networks.transformer import transformer
from metakit.objectives import cross_entropy, weighted_mean
from metakit.sizes import check_positive
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Metrics, Objective, Params


class Vectors(NamedTuple):
  """What is kept of a task.

  Attributes:
    reader: params of the in-context learner.
    state: of its network, once it has read the vectors; a pytree of arrays.
  """

  reader: Params
  state: Any


def mend(
  model: SequenceModel,
  num_outputs: int,
  vectors: int = 8,
  *,
  until: int = 5000,
  width: int = 64,
  depth: int = 2,
  heads: int = 4,
  objective: Objective = cross_entropy,
  label_scale: float | None = None,
) -> MetaLearner:
  """An in-context learner that reads a few vectors in place of the support.

  Args:
    model: the network of the reader (layout 'pairs', see in_context).
    num_outputs: classes of the labels, or size of the regression targets.
    vectors: how many are read in place of the support.
    until: steps in which the reader alone is trained. From then on it gets no gradient.
    width: of the distiller, a transformer over the support.
    depth: of the distiller.
    heads: of the distiller.
    objective: of the predictions.
    label_scale: see in_context.

  Returns:
    A MetaLearner whose fitted hold what the reader knows of the vectors: memory and time of a query
    do not depend on the support. The metric `divergence` of training and of `diagnose` is that of
    its predictions from those with the whole support (in nats, for classes); 0 before step `until`.

  Raises:
    ValueError: if a size is not positive.

  >>> learner = mend(transformer(num_outputs=5, width=8, depth=1), num_outputs=5, vectors=2)
  >>> support = Examples(jnp.ones((30, 3)), jnp.arange(30) % 5)
  >>> key, episode = jax.random.key(0), Episode(support, support)
  >>> kept = jax.eval_shape(lambda: learner.adapt(key, learner.init(key, episode), support))
  >>> kept.state[1].key.shape  # [layers, tokens read, heads, features]
  (1, 2, 4, 2)
  """
  check_positive(vectors=vectors, width=width, depth=depth, heads=heads)
  reader = in_context(model, num_outputs, objective=objective, label_scale=label_scale)
  layout = LAYOUTS['pairs']

  def read(support: Examples) -> tuple[jax.Array, jax.Array]:
    y = targets(support, num_outputs, label_scale)
    return layout.tokens(flat(support.x), y, known(support), jnp.zeros_like(y[0]))

  def distiller(features: int) -> SequenceModel:
    return transformer(features, width, depth, heads=heads, attention='set')

  def init(key: Key, episode: Episode) -> Params:
    tokens, _ = read(episode.support)
    features = tokens.shape[1]
    return {
      'reader': reader.init(key, episode),
      'distiller': distiller(features).init(stream(key, 'distiller'), tokens),
      'asked': jax.random.normal(stream(key, 'asked'), (vectors, features), tokens.dtype),
    }

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    del key  # nothing is drawn
    tokens, there = read(support)
    asked = params['asked']
    seen = jnp.full(vectors, tokens.shape[0], jnp.int32)
    made = distiller(tokens.shape[1]).apply(params['distiller'], tokens, asked, seen, there).answers
    frozen = jax.lax.stop_gradient(params['reader'])
    none = jnp.zeros(0, jnp.int32)
    state = model.apply(frozen, made, made[:0], none, jnp.ones(vectors, bool)).state
    return Vectors(frozen, state)

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    asked = layout.question(flat(x), jnp.zeros(num_outputs, flat(x).dtype))
    return model.apply(
      fitted.reader, asked[:0], asked, *no_tokens(asked.shape[0]), fitted.state
    ).answers

  def compared(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    support, query, _ = episode
    frozen = jax.lax.stop_gradient(params['reader'])
    whole = reader.predict(reader.adapt(key, frozen, support), query.x)
    outputs = predict(adapt(key, params, support), query.x)
    apart = weighted_mean(objective.divergence(outputs, whole), query.weight)
    return apart, {**objective(outputs, query)[1], 'divergence': apart}

  def alone(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    loss, metrics = reader.loss(key, params['reader'], episode)
    metrics = {name: value for name, value in metrics.items() if name != 'gain'}
    return loss, {**metrics, 'divergence': jnp.zeros_like(loss)}

  def diagnose(key: Key, params: Params, episode: Episode) -> Metrics:
    return {'divergence': compared(key, params, episode)[1]['divergence']}

  return meta_learner(
    init,
    adapt,
    predict,
    loss=compared,
    loss_at=two_stages(until, alone, compared),
    diagnose=diagnose,
    objective=objective,
  )
