"""Transductive information maximisation.

Malik Boudiaf, Imtiaz Masud Ziko, Jérôme Rony, Jose Dolz, Pablo Piantanida, Ismail Ben Ayed,
Transductive Information Maximization for Few-Shot Learning, NeurIPS 2020, arXiv:2008.11297.
Implemented: the softmax over squared distances to weights (eq. 1), the objective (eq. 3), gradient
descent of it (TIM-GD) and the alternating direction method (TIM-ADM, proposition 1).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from metakit.heads.common import (
  ABSENT,
  check_positive,
  check_ways,
  class_means,
  members,
  product,
  squared_distances,
  transductive_head,
  unit,
  weight_of,
)
from metakit.objectives import cross_entropy, weighted_mean
from metakit.types import Examples, MetaLearner, Objective, Params

SOLVERS = ('adm', 'gd')

# p [..., ways] -> [...]
Entropy = Callable[[jax.Array], jax.Array]


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
    if solver == 'adm':
      points = alternate(
        support,
        query,
        points,
        present=present,
        temperature=temperature,
        support_weight=support_weight,
        conditional_weight=conditional_weight,
        steps=steps,
      )
    else:
      cost = information_loss(
        support,
        query,
        present,
        temperature=temperature,
        support_weight=support_weight,
        marginal_weight=1.0,
        conditional_weight=conditional_weight,
      )
      points = descend(cost, points, learning_rate, steps=steps)
    return log_odds(query.x, points, present, temperature=temperature)

  return transductive_head(infer, objective=objective)


def log_odds(
  z: jax.Array, points: jax.Array, present: jax.Array, *, temperature: float
) -> jax.Array:
  """Returns the logits [n, ways] of z [n, features]."""
  return jnp.where(present, -temperature / 2 * squared_distances(z, points), ABSENT)


def alternate(
  support: Examples,
  query: Examples,
  points: jax.Array,
  *,
  present: jax.Array,
  temperature: float,
  support_weight: float,
  conditional_weight: float,
  steps: int,
) -> jax.Array:
  """Returns the weights [ways, features] after steps of TIM-ADM (proposition 1)."""
  ways, dtype = len(points), points.dtype
  counts, member = weight_of(query, dtype), members(support, ways)
  support_weights, there = weight_of(support, dtype), counts[:, None]
  balance = support_weights.sum() / jnp.maximum(counts.sum(), 1e-12)
  share = support_weight / (1 + conditional_weight)

  def moved(points: jax.Array, z: jax.Array, weight: jax.Array, target: jax.Array) -> jax.Array:
    """sum_i (q_i z_i + p_i (w - z_i)), [ways, features]."""
    p = weight[:, None] * jax.nn.softmax(log_odds(z, points, present, temperature=temperature))
    return product(target.T, z) + points * p.sum(0)[:, None] - product(p.T, z)

  def step(points: jax.Array, _: None) -> tuple[jax.Array, None]:
    log_p = jax.nn.log_softmax(log_odds(query.x, points, present, temperature=temperature))
    sharp = (1 + conditional_weight) * log_p
    column = jax.nn.logsumexp(sharp, axis=0, b=there)
    q = there * jax.nn.softmax(jnp.where(present, sharp - column / 2, ABSENT))
    top = share * moved(points, support.x, support_weights, member)
    top += balance * moved(points, query.x, counts, q)
    bottom = share * member.sum(0) + balance * q.sum(0)
    return top / jnp.maximum(bottom, 1e-12)[:, None], None

  return jax.lax.scan(step, points, length=steps)[0]


def information_loss(
  support: Examples,
  query: Examples,
  present: jax.Array,
  *,
  temperature: float,
  support_weight: float,
  marginal_weight: float,
  conditional_weight: float,
  entropy: Entropy | None = None,
) -> Callable[[jax.Array], jax.Array]:
  """Returns the loss of weights [ways, features]: eq. 3 with any entropy (Shannon's by default)."""
  measure = entropy or shannon

  def loss(points: jax.Array) -> jax.Array:
    value = cross_entropy(log_odds(support.x, points, present, temperature=temperature), support)[0]
    p = jax.nn.softmax(log_odds(query.x, points, present, temperature=temperature))
    weight = weight_of(query, p.dtype)
    marginal = product(weight, p) / jnp.maximum(weight.sum(), 1e-12)
    single = weighted_mean(measure(p), query.weight)
    return (
      support_weight * value - marginal_weight * measure(marginal) + conditional_weight * single
    )

  return loss


def shannon(p: jax.Array) -> jax.Array:
  """The entropy of p [..., ways] in nats."""
  return -(p * jnp.log(jnp.maximum(p, 1e-12))).sum(-1)


def descend(
  loss: Callable[[jax.Array], jax.Array], points: jax.Array, learning_rate: float, *, steps: int
) -> jax.Array:
  """Returns weights after steps of Adam."""
  # With eps_root the step has a derivative where a gradient is zero.
  adam = optax.adam(learning_rate, eps_root=1e-16)

  def step(carry, _):
    points, state = carry
    updates, state = adam.update(jax.grad(loss)(points), state)
    return (points + updates, state), None

  return jax.lax.scan(step, (points, adam.init(points)), length=steps)[0][0]
