"""BD-CSPN: prototypes with less bias.

Jinlu Liu, Liang Song, Yongqiang Qin, Prototype Rectification for Few-Shot Learning, ECCV 2020,
arXiv:1911.10713. Implemented: the cross-class bias (eq. 6: queries are shifted so that their mean
is that of the support) and the intra-class bias (eqs. 3 to 5: prototypes are means of support and
pseudo-labelled queries, weighted by a softmax over the examples of a class of their cosine to the
first prototype). Deviation: every query counts for its class, not only the most confident ones.
"""

import jax
import jax.numpy as jnp

from metakit.heads.common import (
  ABSENT,
  centred,
  check_positive,
  check_ways,
  class_means,
  cosine_similarity,
  members,
  product,
  transductive_head,
  weight_of,
)
from metakit.objectives import cross_entropy
from metakit.types import Examples, MetaLearner, Objective, Params


def bd_cspn(ways: int, scale: float = 10.0, objective: Objective = cross_entropy) -> MetaLearner:
  """Classifies by the cosine to rectified prototypes.

  Args:
    ways: classes of an episode.
    scale: epsilon, of the cosines in both softmaxes.
    objective: the loss if it is meta-trained.

  Raises:
    ValueError: if the scale is not positive, or ways below 2.

  >>> support = Examples(jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([0, 1]))
  >>> head = bd_cspn(ways=2)
  >>> answer = jax.jit(lambda x: head.predict(head.adapt(jax.random.key(0), {}, support), x))
  >>> x = jnp.array([[9.0, 2.0], [8.0, 3.0], [6.0, 5.0], [7.0, 6.0]])  # all are nearer to class 0
  >>> answer(x).argmax(-1).tolist()
  [0, 0, 1, 1]
  """
  check_ways(ways)
  check_positive(scale=scale)

  def infer(params: Params, support: Examples, query: Examples) -> jax.Array:
    del params
    shifted, points = rectified(support, query, ways, scale=scale)
    present = members(support, ways).sum(0) > 0
    return jnp.where(present, scale * cosine_similarity(shifted.x, points), ABSENT)

  return transductive_head(infer, objective=objective)


def rectified(
  support: Examples, query: Examples, ways: int, *, scale: float = 10.0
) -> tuple[Examples, jax.Array]:
  """Returns the shifted queries and the rectified prototypes [ways, features]."""
  query = centred(support, query)
  points, present = class_means(support, ways)
  cosines = cosine_similarity(query.x, points)
  label = jnp.where(present, cosines, -jnp.inf).argmax(-1)
  pseudo = jax.nn.one_hot(label, ways) * weight_of(query, query.x.dtype)[:, None]
  member = jnp.concatenate([members(support, ways), pseudo])
  cosines = jnp.concatenate([cosine_similarity(support.x, points), cosines])
  weighted = scale * cosines + jnp.log(jnp.where(member > 0, member, 1))
  share = jax.nn.softmax(weighted, axis=0, where=member > 0)
  share = jnp.where(present, share, 0)
  return query, product(share.T, jnp.concatenate([support.x, query.x]))
