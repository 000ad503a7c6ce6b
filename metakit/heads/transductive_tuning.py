"""Transductive fine-tuning.

Guneet S. Dhillon, Pratik Chaudhari, Avinash Ravichandran, Stefano Soatto, A Baseline for Few-Shot
Image Classification, ICLR 2020, arXiv:1909.02729. Implemented: support-based initialisation
(section 3.1) and the objective, cross-entropy of the support plus Shannon entropy of the queries
(eq. 8).
Deviations: features are given, so that the last layer alone is tuned, with a rate of its own; it
has no bias.
"""

import jax
import jax.numpy as jnp

from metakit.heads.common import (
  ABSENT,
  check_positive,
  check_ways,
  class_means,
  product,
  transductive_head,
  unit,
)
from metakit.heads.tim import descend, shannon
from metakit.objectives import cross_entropy, weighted_mean
from metakit.types import Examples, MetaLearner, Objective, Params


def transductive_tuning(
  ways: int,
  steps: int = 25,
  learning_rate: float = 0.1,
  *,
  scale: float = 10.0,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Tunes a linear layer on the labels of the support and the certainty of the queries.

  Args:
    ways: classes of an episode.
    steps: steps of Adam.
    learning_rate: learning rate of Adam.
    scale: length of the first weights, which are class means of unit-length features.
    objective: the loss if it is meta-trained.

  Raises:
    ValueError: for numbers that make no sense.

  >>> support = Examples(jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([0, 1]))
  >>> head = transductive_tuning(ways=2)
  >>> answer = jax.jit(lambda x: head.predict(head.adapt(jax.random.key(0), {}, support), x))
  >>> answer(jnp.array([[9.0, 1.0], [2.0, 7.0]])).argmax(-1).tolist(), head.protocol
  ([0, 1], 'transductive')
  """
  check_ways(ways)
  check_positive(steps=steps, learning_rate=learning_rate, scale=scale)

  def infer(params: Params, support: Examples, query: Examples) -> jax.Array:
    del params
    support, query = (part._replace(x=unit(part.x)) for part in (support, query))
    points, present = class_means(support, ways)
    outputs = lambda kernel, z: jnp.where(present, product(z, kernel.T), ABSENT)

    def loss(kernel: jax.Array) -> jax.Array:
      certainty = shannon(jax.nn.softmax(outputs(kernel, query.x)))
      fit = cross_entropy(outputs(kernel, support.x), support)[0]
      return fit + weighted_mean(certainty, query.weight)

    kernel = descend(jax.grad(loss), scale * unit(points), learning_rate, steps=steps)
    return outputs(kernel, query.x)

  return transductive_head(infer, objective=objective)
