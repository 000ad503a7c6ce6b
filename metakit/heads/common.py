"""What heads share. A head is a learner of features: a MetaLearner whose x are embeddings."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metakit.absent import check_classes
from metakit.builder import meta_learner
from metakit.objectives import cross_entropy
from metakit.types import (
  Episode,
  Examples,
  Fitted,
  Key,
  MetaLearner,
  Metrics,
  Objective,
  Params,
  presence,
)

ABSENT = -1e9  # logit of a class without support; finite, so that gradients stay finite

# (params, support, query without labels) -> logits [queries, ways]
Infer = Callable[[Params, Examples, Examples], jax.Array]


def no_parameters(key: Key, episode: Episode) -> Params:
  """The init of a head that meta-learns nothing."""
  del key, episode
  return {}


def inductive_head(
  fit: Callable[[Key, Params, Examples], Fitted],
  classify: Callable[[Fitted, jax.Array], jax.Array],
  init: Callable[[Key, Episode], Params] = no_parameters,
  *,
  objective: Objective = cross_entropy,
  every: bool = False,
  extend: Callable[[Fitted, Examples], Fitted] | None = None,
) -> MetaLearner:
  """Makes a head that predicts each query by itself.

  `fit` and `classify` get features in float32 at least, whatever type they are stored in.

  Args:
    fit: (key, params, support) -> fitted.
    classify: (fitted, z [queries, features]) -> logits [queries, ways].
    init: (key, episode of features) -> params.
    objective: the training loss.
    every: whether `fit` sees examples without a label (-1) too. If not, they get weight 0.
    extend: (fitted, more) -> fitted, for a head that can go on learning.
  """

  def seen(support: Examples) -> Examples:
    check_classes(support.y)
    support = in_precision(support)
    return support if every else only_labelled(support)

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    return fit(key, params, seen(support))

  def predict(fitted: Fitted, z: jax.Array) -> jax.Array:
    return classify(fitted, precise(z))

  further = None if extend is None else lambda fitted, more: extend(fitted, seen(more))
  return meta_learner(init, adapt, predict, objective=objective, unlabelled=every, extend=further)


def transductive_head(
  infer: Infer,
  init: Callable[[Key, Episode], Params] = no_parameters,
  objective: Objective = cross_entropy,
  *,
  every: bool = False,
) -> MetaLearner:
  """Makes a head that classifies all queries of an episode together.

  `infer` gets features in float32 at least, whatever type they are stored in.

  Args:
    infer: (params, support, query without labels) -> logits [queries, ways]. A query of weight 0
      must not change the others.
    init: (key, episode of features) -> params.
    objective: the training loss.
    every: whether `infer` sees examples without a label (-1) too. If not, they get weight 0.
  """

  def seen(support: Examples) -> Examples:
    check_classes(support.y)
    support = in_precision(support)
    return support if every else only_labelled(support)

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    del key  # nothing is drawn
    return params, seen(support)  # what there is to learn awaits the queries

  def predict(fitted: Fitted, z: jax.Array) -> jax.Array:
    params, support = fitted
    return infer(params, support, Examples(precise(z), None))

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    del key
    query = in_precision(episode.query._replace(y=None))
    return objective(infer(params, seen(episode.support), query), episode.query)

  return meta_learner(init, adapt, predict, loss=loss, queries_seen=True, unlabelled=every)


def check_ways(ways: int) -> None:
  """Raises ValueError for fewer than two classes."""
  if ways < 2:
    raise ValueError(f'ways={ways} leaves nothing to classify; use ways>=2')


def check_positive(**values: float) -> None:
  """Raises ValueError unless every value is positive."""
  for name, value in values.items():
    if value <= 0:
      raise ValueError(f'{name}={value} is not positive')


def weight_of(examples: Examples, dtype: Any = jnp.float32) -> jax.Array:
  """Returns the weights [examples]; fills them in if there are none."""
  if examples.weight is None:
    return presence(examples).astype(dtype)
  return jnp.asarray(examples.weight, dtype)


def precise(x: Any) -> jax.Array:
  """Returns x in float32 at least: sums, squares and solutions of systems need it.

  A square of 256 is infinite in float16, and a sum of bytes wraps.
  """
  x = jnp.asarray(x)
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def in_precision(examples: Examples) -> Examples:
  """Returns the examples with `precise` features."""
  return examples._replace(x=precise(examples.x))


def only_labelled(support: Examples) -> Examples:
  """Gives examples without a label (-1) the weight 0, so that a head may learn from the others."""
  return support._replace(weight=weight_of(support, support.x.dtype) * (support.y >= 0))


def members(support: Examples, ways: int) -> jax.Array:
  """Returns [examples, ways]: the weight of each example in its class.

  Labels outside 0 to ways - 1 (-1 for examples without one) belong to no class.
  """
  check_classes(support.y)
  member = jax.nn.one_hot(support.y, ways, dtype=support.x.dtype)
  return member if support.weight is None else member * support.weight[:, None]


def means(member: jax.Array, x: jax.Array) -> jax.Array:
  """Returns the weighted means [ways, features] of x [examples, features], 0 for an empty class.

  Args:
    member: [examples, ways] weights.
    x: [examples, features].
  """
  member, x = precise(member), precise(x)
  total = member.sum(0)
  return product(member.T, x) / jnp.where(total > 0, total, 1)[:, None]


def class_means(support: Examples, ways: int) -> tuple[jax.Array, jax.Array]:
  """Returns the weighted mean of each class, [ways, features], and whether it has any example."""
  member = members(support, ways)
  return means(member, support.x), member.sum(0) > 0


def check_several(query: Examples) -> None:
  """Raises ValueError for a single query where queries are moved by their own mean.

  It would be moved to the same place wherever it was, and always get the same class.
  """
  if query.x.shape[0] == 1:
    raise ValueError(
      'one query alone is its own mean, which this head subtracts from the queries: the answer '
      'would be the same class whatever it is; ask several together, or a head that is inductive'
    )


def centred(support: Examples, query: Examples) -> Examples:
  """Returns the queries moved to where their mean is that of the support.

  Raises:
    ValueError: for a single query, see check_several, or features of two widths.
  """
  check_several(query)
  check_width(query.x.shape[-1], support.x.shape[-1])
  mean = lambda part: means(weight_of(part, part.x.dtype)[:, None], part.x)
  return query._replace(x=query.x + mean(support) - mean(query))


def squared_distances(z: jax.Array, points: jax.Array) -> jax.Array:
  """|z - c|^2 for z [n, features] and points [m, features]; [n, m]."""
  check_width(z.shape[-1], points.shape[-1])
  z, points = precise(z), precise(points)
  # Around the mean of the points: far from zero the squares are large beside their difference.
  # Distances do not depend on the place, and neither do their derivatives. Classes without examples
  # are at zero, and do not count.
  there = (points != 0).any(-1).sum()
  middle = jax.lax.stop_gradient(points.sum(0) / jnp.maximum(there, 1))
  z, points = z - middle, points - middle
  squares = lambda v: jnp.square(v).sum(-1)
  return squares(z)[:, None] + squares(points) - 2 * product(z, points.T)


def distances(z: jax.Array, points: jax.Array) -> jax.Array:
  """|z - c|, up to 1e-3 so that a distance of zero has a derivative; as squared_distances."""
  return jnp.sqrt(jnp.maximum(squared_distances(z, points), 0) + 1e-6)


def unit(z: jax.Array, least: float = 0.0) -> jax.Array:
  """Divides vectors by their lengths, or by `least` if they are shorter. Zero stays zero."""
  z = precise(z)
  square = jnp.maximum(jnp.square(z).sum(-1, keepdims=True), least**2)
  return z * jax.lax.rsqrt(jnp.where(square > jnp.finfo(z.dtype).tiny, square, 1))


def cosine_similarity(z: jax.Array, points: jax.Array) -> jax.Array:
  """The cosine of the angle between z [n, features] and points [m, features]; [n, m]."""
  return product(unit(z), unit(points).T)


def check_width(one: int, other: int) -> None:
  """Raises ValueError unless features have one width."""
  if one != other:
    raise ValueError(
      f'features of {one} and of {other} numbers meet; a head, its support and its queries need '
      'features of one width'
    )


def product(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns a matrix product in full precision.

  Accelerators round the factors otherwise, and then differences of squares are wrong.

  Raises:
    ValueError: if the factors do not fit, as with features of two widths.
  """
  check_width(a.shape[-1], b.shape[max(b.ndim - 2, 0)])
  return jnp.matmul(a, b, precision='highest')
