"""Matching networks.

Oriol Vinyals, Charles Blundell, Timothy Lillicrap, Koray Kavukcuoglu, Daan Wierstra, Matching
Networks for One Shot Learning, NeurIPS 2016, arXiv:1606.04080. Implemented: attention over the
support by cosine (section 2.1.1). Deviation: no full context embeddings.
"""

import jax
import jax.numpy as jnp

from metakit.heads.common import (
  ABSENT,
  check_positive,
  check_ways,
  cosine_similarity,
  inductive_head,
  members,
)
from metakit.objectives import cross_entropy
from metakit.types import Examples, Fitted, Key, MetaLearner, Objective, Params


def matching(ways: int, scale: float = 1.0, objective: Objective = cross_entropy) -> MetaLearner:
  """Predicts the mean label of the support, weighted by similarity.

  Args:
    ways: classes of an episode.
    scale: what cosines are multiplied by; 1 as published.
    objective: the training loss.

  Returns:
    A head whose outputs are log-probabilities.

  Raises:
    ValueError: if the scale is not positive, or ways below 2.

  >>> support = Examples(jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([0, 1]))
  >>> head = matching(ways=2)
  >>> answer = jax.jit(lambda x: head.predict(head.adapt(jax.random.key(0), {}, support), x))
  >>> [f'{p:.2f}' for p in jnp.exp(answer(jnp.array([[3.0, 4.0]])))[0]]
  ['0.45', '0.55']
  """
  check_ways(ways)
  check_positive(scale=scale)

  def fit(key: Key, params: Params, support: Examples) -> Fitted:
    del key, params
    return support.x, members(support, ways)

  def classify(fitted: Fitted, z: jax.Array) -> jax.Array:
    x, member = fitted
    similarity = scale * cosine_similarity(z, x)
    per_class = jax.nn.logsumexp(similarity[:, :, None], axis=1, b=member)
    present = member.sum(0) > 0
    return jax.nn.log_softmax(jnp.where(present, per_class, ABSENT))

  return inductive_head(fit, classify, objective=objective)
