"""ROC-AUC: how often a learner ranks an example of a class above one of another class."""

import jax
import jax.numpy as jnp

from metakit.absent import blanked, known
from metakit.types import Episode, Examples, Key, MetaLearner, Metrics, Objective, Params


def roc_auc(logits: jax.Array, examples: Examples) -> jax.Array:
  """Returns the area under the ROC curve: of each class against the rest, then the mean.

  This is the mean of P(score of the class > score of the rest), ties counting half, by softmax
  probabilities; scikit-learn's `roc_auc_score` with multi_class='ovr'. Classes without an example,
  or without one of another class, are left out. If all are, it is 0.5.

  Args:
    logits: [examples, classes].
    examples: their labels, and weights, of which only those that are 0 matter.

  >>> examples = Examples(x=None, y=jnp.array([0, 1, 1, 0]))
  >>> logits = jnp.array([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.0]])
  >>> float(jax.jit(roc_auc)(logits, examples))  # of four pairs one is in the wrong order
  0.75
  """
  scores = jax.nn.softmax(logits)
  there = known(examples._replace(x=logits))
  of_class = (examples.y[:, None] == jnp.arange(logits.shape[-1])) & there[:, None]
  others = there[:, None] & ~of_class

  def area(score: jax.Array, of_class: jax.Array, others: jax.Array) -> jax.Array:
    above = (score[:, None] > score) + 0.5 * (score[:, None] == score)
    pairs = of_class[:, None] & others
    return jnp.where(pairs, above, 0).sum() / jnp.maximum(pairs.sum(), 1)

  areas = jax.vmap(area, in_axes=1)(scores, of_class, others)
  judged = of_class.any(0) & others.any(0)
  mean = jnp.where(judged, areas, 0).sum() / jnp.maximum(judged.sum(), 1)
  return jnp.where(judged.any(), mean, 0.5)


def judge_roc_auc(
  learner: MetaLearner, objective: Objective, params: Params, key: Key, episode: Episode
) -> Metrics:
  """Returns `roc_auc` of the queries, and their other metrics.

  >>> from metakit.heads import prototypes
  >>> from metakit.objectives import cross_entropy
  >>> support = Examples(jnp.array([[0.0], [1.0]]), jnp.array([0, 1]))
  >>> episode = Episode(support, Examples(jnp.array([[0.6], [0.7]]), jnp.array([0, 1])))
  >>> judge = jax.jit(judge_roc_auc, static_argnums=(0, 1))
  >>> float(judge(prototypes(ways=2), cross_entropy, {}, jax.random.key(0), episode)['roc_auc'])
  1.0
  """
  fitted = learner.adapt(key, params, episode.support)
  outputs = learner.predict(fitted, blanked(episode.query).x)
  return {**objective(outputs, episode.query)[1], 'roc_auc': roc_auc(outputs, episode.query)}
