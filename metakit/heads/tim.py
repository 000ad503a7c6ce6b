"""Transductive information maximisation.

Malik Boudiaf, Imtiaz Masud Ziko, Jérôme Rony, Jose Dolz, Pablo Piantanida, Ismail Ben Ayed,
Transductive Information Maximization for Few-Shot Learning, NeurIPS 2020, arXiv:2008.11297.
Implemented: the softmax over squared distances to weights (eq. 1), the objective (eq. 3), gradient
descent of it (TIM-GD) and the alternating direction method (TIM-ADM, proposition 1).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metakit.heads.common import (
  ABSENT,
  check_positive,
  check_ways,
  check_width,
  class_means,
  means,
  members,
  product,
  squared_distances,
  transductive_head,
  unit,
  weight_of,
)
from metakit.linear_algebra import is_wide
from metakit.objectives import cross_entropy
from metakit.types import Examples, MetaLearner, Objective, Params

SOLVERS = ('adm', 'gd')
LEAST = 1e-12  # a share below it counts as so much in logarithms

# The slope of an entropy with respect to p, up to what is the same for all classes:
# log p [ways, ...] -> [ways, ...]
Slope = Callable[[jax.Array], jax.Array]


def tim(
  ways: int,
  solver: str = 'adm',
  steps: int = 150,
  *,
  temperature: float = 15.0,
  support_weight: float = 0.1,
  conditional_weight: float = 0.1,
  learning_rate: float = 1e-4,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Maximises the mutual information of queries and their predicted labels, the support kept right.

  Features are brought to unit length. It assumes balanced queries: the entropy of their mean
  prediction is maximised.

  Args:
    ways: classes of an episode.
    solver: 'adm' or 'gd' (Adam; published with 1,000 steps).
    steps: steps of the solver.
    temperature: tau, the temperature of the squared distances.
    support_weight: lambda, the weight of the cross-entropy of the support.
    conditional_weight: alpha, the weight of the entropy of single predictions.
    learning_rate: learning rate of 'gd'.
    objective: the loss if it is meta-trained.

  Raises:
    ValueError: for an unknown solver or numbers that make no sense.

  >>> support = Examples(jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([0, 1]))
  >>> head = tim(ways=2)
  >>> answer = jax.jit(lambda x: head.predict(head.adapt(jax.random.key(0), {}, support), x))
  >>> x = jnp.array([[9.0, 2.0], [8.0, 3.0], [6.0, 5.0], [7.0, 6.0]])  # all are nearer to class 0
  >>> answer(x).argmax(-1).tolist()
  [0, 0, 1, 1]
  """
  if solver not in SOLVERS:
    raise ValueError(f'solver={solver!r} is unknown; use one of {", ".join(SOLVERS)}')
  check_ways(ways)
  check_positive(steps=steps, temperature=temperature, learning_rate=learning_rate)

  def infer(params: Params, support: Examples, query: Examples) -> jax.Array:
    del params
    support, query = (part._replace(x=unit(part.x)) for part in (support, query))
    points, present = class_means(support, ways)
    rows, points, middle = together(support, query, points, present=present)
    if solver == 'adm':
      points = alternate(
        rows,
        points,
        temperature=temperature,
        support_weight=support_weight,
        conditional_weight=conditional_weight,
        steps=steps,
      )
    else:
      slope = information_slope(
        rows,
        temperature=temperature,
        support_weight=support_weight,
        marginal_weight=1.0,
        conditional_weight=conditional_weight,
      )
      points = descend(slope, points, learning_rate, steps=steps)
    return log_odds(query.x, points + middle, present, temperature=temperature)

  return transductive_head(infer, objective=objective)


def log_odds(
  z: jax.Array, points: jax.Array, present: jax.Array, *, temperature: float
) -> jax.Array:
  """Returns the logits [n, ways] of z [n, features]."""
  return jnp.where(present, -temperature / 2 * squared_distances(z, points), ABSENT)


class Rows(NamedTuple):
  """Support and queries, one after the other, around the middle of the first weights.

  Classes come first, so that sums over them add whole rows.

  Attributes:
    x: [rows, features].
    member: [ways, rows], the weight of each support example in its class.
    counts: [rows], the weights of queries; 0 for the support.
    present: [ways, 1], whether a class has support.
  """

  x: jax.Array
  member: jax.Array
  counts: jax.Array
  present: jax.Array


def together(
  support: Examples, query: Examples, points: jax.Array, *, present: jax.Array
) -> tuple[Rows, jax.Array, jax.Array]:
  """Returns the rows, the weights [ways, features] around their middle, and the middle [features].

  Squares of distances do not depend on the place. Far from zero they are large beside their
  differences.

  Raises:
    ValueError: for features of two widths.
  """
  check_width(support.x.shape[-1], query.x.shape[-1])
  middle = means(present[:, None], points)[0]
  member, counts = members(support, len(points)), weight_of(query, points.dtype)
  rows = Rows(
    jnp.concatenate([support.x, query.x]) - middle,
    jnp.concatenate(
      [member.T, jnp.zeros((points.shape[0], counts.shape[0]), points.dtype)], axis=1
    ),
    jnp.concatenate([jnp.zeros_like(member[:, 0]), counts]),
    present[:, None],
  )
  return rows, jnp.where(rows.present, points - middle, 0), middle


def log_shares(rows: Rows, near: jax.Array, square: jax.Array, *, temperature: float) -> jax.Array:
  """Returns log p [ways, rows], given products x'w [ways, rows] and |w|^2 [ways, 1].

  |x|^2 is the same for all classes, and is left out.
  """
  odds = jnp.where(rows.present, temperature * (near - square / 2), ABSENT)
  return jax.nn.log_softmax(odds, axis=0)


def alternate(
  rows: Rows,
  points: jax.Array,
  *,
  temperature: float,
  support_weight: float,
  conditional_weight: float,
  steps: int,
) -> jax.Array:
  """Returns the weights [ways, features] after steps of TIM-ADM (proposition 1).

  They are sums of rows. So where there are fewer rows than features, a step moves the coefficients
  [ways, rows] of these sums, and the products of all rows are made once.
  """
  x, member, counts, _ = rows
  labelled, total = member.sum(0), jnp.maximum(counts.sum(), 1e-12)
  balance = labelled.sum() / total
  share = support_weight / (1 + conditional_weight)
  weight = share * labelled + balance * counts
  few = is_wide(x)
  products = product(x, x.T) if few else x.T
  if few:
    points = member / jnp.maximum(member.sum(1, keepdims=True), 1e-12)

  def step(points: jax.Array, _: None) -> tuple[jax.Array, None]:
    near = product(points, products)
    square = ((points * near) if few else jnp.square(points)).sum(1, keepdims=True)
    log_p = log_shares(rows, near, square, temperature=temperature)
    sharp = (1 + conditional_weight) * log_p
    column = jax.nn.logsumexp(sharp, axis=1, b=counts, keepdims=True)
    q = counts * jax.nn.softmax(jnp.where(rows.present, sharp - column / 2, ABSENT), axis=0)
    target, p = share * member + balance * q, weight * jnp.exp(log_p)
    # sum_i (q_i z_i + p_i (w - z_i))
    pull = target - p
    top = (pull if few else product(pull, x)) + points * p.sum(1, keepdims=True)
    return top / jnp.maximum(target.sum(1, keepdims=True), 1e-12), None

  points = jax.lax.scan(step, points, length=steps)[0]
  return product(points, x) if few else points


def information_slope(
  rows: Rows,
  *,
  temperature: float,
  support_weight: float,
  marginal_weight: float,
  conditional_weight: float,
  entropy: Slope | None = None,
) -> Callable[[jax.Array], jax.Array]:
  """Returns the slope of the loss of weights [ways, features], in closed form.

  The loss is eq. 3, with any entropy (Shannon's by default).
  """
  measure = entropy or shannon_slope
  labelled = rows.member.sum(0)
  support_share = support_weight / jnp.maximum(labelled.sum(), jnp.finfo(labelled.dtype).tiny)
  query_share = rows.counts / jnp.maximum(rows.counts.sum(), 1e-12)
  turned = rows.x.T

  def slope(points: jax.Array) -> jax.Array:
    square = jnp.square(points).sum(1, keepdims=True)
    log_p = log_shares(rows, product(points, turned), square, temperature=temperature)
    p = jnp.exp(log_p)
    marginal = (p * query_share).sum(1, keepdims=True)
    outer = conditional_weight * measure(log_p)
    outer -= marginal_weight * measure(jnp.log(jnp.maximum(marginal, LEAST)))
    odds = query_share * p * (outer - (p * outer).sum(0))
    odds += support_share * (labelled * p - rows.member)
    return temperature * (product(odds, rows.x) - points * odds.sum(1, keepdims=True))

  return slope


def shannon(p: jax.Array) -> jax.Array:
  """The entropy of p [..., ways] in nats."""
  return -(p * jnp.log(jnp.maximum(p, LEAST))).sum(-1)


def shannon_slope(log_p: jax.Array) -> jax.Array:
  """The slope of Shannon's entropy."""
  return -jnp.maximum(log_p, math.log(LEAST))


def descend(
  slope: Callable[[jax.Array], jax.Array], points: jax.Array, learning_rate: float, *, steps: int
) -> jax.Array:
  """Returns weights after steps of Adam along a slope."""
  # With eps_root the step has a derivative where a gradient is zero.
  adam = optax.adam(learning_rate, eps_root=1e-16)

  def step(carry, _):
    points, state = carry
    updates, state = adam.update(slope(points), state)
    return (points + updates, state), None

  return jax.lax.scan(step, (points, adam.init(points)), length=steps)[0][0]
