"""PADDLE: minimum description length over clusters that may be empty.

Ségolène Martin, Malik Boudiaf, Emilie Chouzenoux, Jean-Christophe Pesquet, Ismail Ben Ayed, Towards
Practical Few-Shot Query Sets: Transductive Minimum Description Length Inference, NeurIPS 2022,
arXiv:2210.14545. Implemented: algorithm 1, block-coordinate descent of within-class scatter, the
entropy of assignments and the complexity of the partition (eq. 3), on features scaled to the range
of the queries.
"""

import jax
import jax.numpy as jnp

from metakit.heads.common import (
  ABSENT,
  check_positive,
  check_ways,
  class_means,
  means,
  members,
  product,
  squared_distances,
  transductive_head,
  weight_of,
)
from metakit.objectives import cross_entropy
from metakit.types import Examples, MetaLearner, Objective, Params


def paddle(
  ways: int,
  complexity: float | None = None,
  steps: int = 100,
  *,
  scale: bool = True,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Clusters queries around prototypes; classes that have few queries attract fewer.

  Args:
    ways: classes of an episode.
    complexity: lambda, the weight of the partition's complexity. Choose it on validation classes.
      None takes the number of queries, as published for features of a few hundred numbers. With
      shorter features, distances are small beside it, and all queries may end in one class.
    steps: steps of the descent. The released code has 100
      (config/inatural/resnet18/methods_config/paddle.yaml in github.com/SegoleneMartin/PADDLE), and
      1,000 for mini-ImageNet.
    scale: whether features are scaled by the range of the queries (the least and largest value of
      each feature become 0 and 1).
    objective: the loss if it is meta-trained.

  Raises:
    ValueError: for numbers that make no sense.

  >>> support = Examples(jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([0, 1]))
  >>> head = paddle(ways=2, complexity=0.5)
  >>> answer = jax.jit(lambda x: head.predict(head.adapt(jax.random.key(0), {}, support), x))
  >>> x = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.2], [0.9, 0.2], [0.1, 0.9]])
  >>> answer(x).argmax(-1).tolist()  # classes may have any number of queries
  [0, 0, 0, 0, 1]
  """
  check_ways(ways)
  check_positive(steps=steps)
  if complexity is not None and complexity < 0:
    raise ValueError(f'complexity={complexity} is negative; use 0 for soft k-means')

  def infer(params: Params, support: Examples, query: Examples) -> jax.Array:
    del params
    if scale:
      support, query = scaled(support, query)
    points, present = class_means(support, ways)
    member, weight = members(support, ways), weight_of(query, points.dtype)
    x, count = jnp.concatenate([support.x, query.x]), jnp.maximum(weight.sum(), 1e-12)
    pull = 1.0 if complexity is None else complexity / count

    def log_assignments(points: jax.Array, size: jax.Array) -> jax.Array:
      outputs = pull * size - squared_distances(query.x, points) / 2
      return jax.nn.log_softmax(jnp.where(present, outputs, ABSENT))

    def step(carry, _):
      points, size = carry
      u = jnp.exp(log_assignments(points, size))
      size = jnp.log(product(weight, u) / count + 1e-6)
      points = means(jnp.concatenate([member, u * weight[:, None]]), x)
      return (points, size), None

    (points, size), _ = jax.lax.scan(step, (points, jnp.zeros(ways, x.dtype)), length=steps)
    return log_assignments(points, size)

  return transductive_head(infer, objective=objective)


def scaled(support: Examples, query: Examples) -> tuple[Examples, Examples]:
  """Returns both sets with the range of each feature of the queries made 0 to 1."""
  present = weight_of(query, query.x.dtype)[:, None] > 0
  least = jnp.where(present, query.x, jnp.inf).min(0)
  span = jnp.where(present, query.x, -jnp.inf).max(0) - least
  of = lambda part: part._replace(x=(part.x - least) / jnp.where(span > 0, span, 1))
  return of(support), of(query)
