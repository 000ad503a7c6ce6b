"""Prototypes refined by examples without labels.

Mengye Ren, Eleni Triantafillou, Sachin Ravi, Jake Snell, Kevin Swersky, Joshua B. Tenenbaum, Hugo
Larochelle, Richard Zemel, Meta-Learning for Semi-Supervised Few-Shot Classification, ICLR 2018,
arXiv:1803.00676. Implemented: soft k-means (eq. 3) and soft k-means with a distractor cluster at
the origin, whose length scale is learned (eqs. 4 and 5), from where the released code starts it
(100: init_radius in kmeans_refine_radius_model.py of github.com/renmengye/few-shot-ssl-public; that
code halves the squared distances, the paper does not). Support examples labelled -1 are those
without a label. Deviation: queries may refine too, the transductive prototypes of later papers.
"""

import jax
import jax.numpy as jnp

from metakit.heads.common import (
  ABSENT,
  check_positive,
  check_ways,
  inductive_head,
  means,
  members,
  squared_distances,
  transductive_head,
  weight_of,
)
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Objective, Params


def soft_kmeans(
  ways: int,
  steps: int = 1,
  distractors: bool = False,
  *,
  queries: bool = True,
  radius: float = 100.0,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Class means that examples without labels refine, each by its probability of the class.

  Args:
    ways: classes of an episode.
    steps: refinements.
    distractors: whether examples without a label may be of no class: a further cluster at the
      origin, with a learned length scale.
    queries: whether queries refine too (transductive), beside support examples labelled -1.
    radius: the length scale of distractors, from which it is learned.
    objective: the loss if it is meta-trained.

  Raises:
    ValueError: for ways below 2, no steps or no radius.

  >>> support = Examples(jnp.array([[0.0], [9.0], [4.0]]), jnp.array([0, 1, -1]))
  >>> head = soft_kmeans(ways=2, queries=False)
  >>> points, present = jax.jit(head.adapt)(jax.random.key(0), {}, support)
  >>> points.round().tolist()  # the example without a label moved the mean of class 0
  [[2.0], [9.0]]
  """
  check_ways(ways)
  check_positive(steps=steps, radius=radius)

  def init(key: Key, episode: Episode) -> Params:
    del key, episode
    return {'log_scale': jnp.log(jnp.float32(radius))} if distractors else {}

  def refine(params: Params, support: Examples, others: Examples) -> tuple[jax.Array, jax.Array]:
    """Returns prototypes [ways, features] and which classes there are."""
    x = jnp.concatenate([support.x, others.x])
    unlabelled = weight_of(support, x.dtype) * (support.y < 0)
    weight = jnp.concatenate([unlabelled, weight_of(others, x.dtype)])[:, None]
    member = members(support, ways)
    labelled = jnp.concatenate([member, jnp.zeros((others.x.shape[0], ways), x.dtype)])
    present, points = member.sum(0) > 0, means(labelled, x)
    for _ in range(steps):
      away = jnp.where(present, -squared_distances(x, points), ABSENT)
      if distractors:
        nothing = -jnp.square(x).sum(-1) * jnp.exp(-2 * params['log_scale']) - params['log_scale']
        away = jnp.concatenate([away, nothing[:, None]], axis=1)
      points = means(labelled + weight * jax.nn.softmax(away)[:, :ways], x)
    return points, present

  def classify(fitted: Fitted, z: jax.Array) -> jax.Array:
    points, present = fitted
    return jnp.where(present, -squared_distances(z, points), ABSENT)

  if not queries:
    nobody = lambda support: support._replace(x=support.x[:0], y=None, weight=None)
    fit = lambda key, params, support: refine(params, support, nobody(support))
    return inductive_head(fit, classify, init, objective=objective, every=True)

  def infer(params: Params, support: Examples, query: Examples) -> jax.Array:
    return classify(refine(params, support, query), query.x)

  return transductive_head(infer, init, objective, every=True)
