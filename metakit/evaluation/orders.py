"""What predictions one after the other say of several targets together, in any order of them.

By the chain rule the log density of targets is the sum of one-step predictions, each of which sees
the targets before it. If a learner is exactly Bayesian under some prior, the sum is the same in all
orders. The spread over orders measures how far a learner is from that: the implicit Bayesianness of
incremental transformer neural processes (arXiv:2602.18955). The same predictions give a neural
process joint densities and samples (Bruinsma et al. 2023, Autoregressive Conditional Neural
Processes, ICLR 2023, arXiv:2303.14468).
"""

from typing import Protocol

import jax
import jax.numpy as jnp

from metakit.evaluation.judges import Judge, predict_prefixes
from metakit.types import (
  Episode,
  Examples,
  Key,
  MetaLearner,
  Metrics,
  Objective,
  Params,
  join,
  presence,
)


def log_density(
  learner: MetaLearner, objective: Objective, params: Params, key: Key, episode: Episode
) -> jax.Array:
  """Returns log p(query | support) [], in nats: the sum of one-step predictions, in their order.

  Args:
    learner: any MetaLearner; one with `prefixes` does it in one pass.
    objective: one whose loss is a negative log density, or the cross-entropy.
    params: the meta-parameters.
    key: for the learner.
    episode: queries of weight 0 do not count.

  >>> from metakit.heads import prototypes
  >>> from metakit.objectives import cross_entropy
  >>> support = Examples(jnp.array([[0.0], [1.0]]), jnp.array([0, 1]))
  >>> episode = Episode(support, Examples(jnp.array([[0.5], [0.5]]), jnp.array([0, 0])))
  >>> joint = jax.jit(log_density, static_argnums=(0, 1))
  >>> p = jnp.exp(joint(prototypes(ways=2), cross_entropy, {}, jax.random.key(0), episode))
  >>> 0.25 < float(p) < 0.5  # the first of equal examples is a toss, the second is known better
  True
  """
  support, query = episode[:2]
  outputs = predict_prefixes(learner, key, params, join(support, query))[support.x.shape[0] :]
  alone = jax.tree.map(lambda leaf: leaf[:, None], (outputs, query))
  return -jax.vmap(objective.judge)(*alone)[1]['loss'].sum()


def judge_orders(orders: int = 8) -> Judge:
  """Returns a judge of the log density of the query, in several random orders.

  Args:
    orders: how many; drawn from the key of the learner.

  Returns:
    A Judge with the metrics 'joint' [], the mean log density in nats a target, and 'spread' [], its
    standard deviation over orders, in nats a target. The spread is 0 for a learner that is exactly
    Bayesian.

  Raises:
    ValueError: for less than two orders.

  >>> from metakit.heads import prototypes
  >>> from metakit.objectives import cross_entropy
  >>> support = Examples(jnp.array([[0.0], [1.0]]), jnp.array([0, 1]))
  >>> episode = Episode(support, Examples(jnp.array([[0.3], [2.0]]), jnp.array([0, 1])))
  >>> judge = lambda key: judge_orders(4)(prototypes(ways=2), cross_entropy, {}, key, episode)
  >>> sorted(jax.eval_shape(judge, jax.random.key(0)))
  ['joint', 'spread']
  """
  if orders < 2:
    raise ValueError(f'orders={orders} have no spread; use orders>=2')

  def judge(
    learner: MetaLearner, objective: Objective, params: Params, key: Key, episode: Episode
  ) -> Metrics:
    def one(order_key: Key) -> jax.Array:
      order = jax.random.permutation(order_key, episode.query.x.shape[0])
      query = jax.tree.map(lambda leaf: jnp.asarray(leaf)[order], episode.query)
      return log_density(learner, objective, params, key, episode._replace(query=query))

    nats = jax.lax.map(one, jax.random.split(jax.random.fold_in(key, _ORDERS), orders))
    each = nats / jnp.maximum(presence(episode.query).sum(), 1)
    return {'joint': each.mean(), 'spread': each.std()}

  return judge


_ORDERS, _DRAWS = 0x4F524452, 0x53414D50  # folded into the key of a learner


class Quantile(Protocol):
  """The inverse of a distribution function, such as that of a metakit.densities.Density."""

  def __call__(self, parameters: jax.Array, level: jax.Array, /) -> jax.Array: ...


def sample_jointly(
  learner: MetaLearner,
  quantile: Quantile,
  params: Params,
  *,
  key: Key,
  support: Examples,
  x: jax.Array,
) -> jax.Array:
  """Draws targets of several inputs together: one by one, each seen by those after it.

  Args:
    learner: predicts parameters [.., numbers * size] of a density of each number of a target.
    quantile: (parameters [numbers, size], levels [numbers]) -> the numbers at these levels.
    params: the meta-parameters.
    key: for the learner and the draws.
    support: the examples, with targets [examples, numbers].
    x: inputs [asked, ...], in the order in which their targets are drawn.

  Returns:
    Targets [asked, numbers]. This takes an adaptation for each.

  >>> from metakit import meta_learner
  >>> from metakit.densities import gaussian
  >>> last = lambda key, params, support: support.y[0]
  >>> learner = meta_learner(lambda *_: {}, last, lambda y, x: jnp.array([[y[0], -9.0]]))
  >>> support, x = Examples(jnp.zeros((1, 1)), jnp.full((1, 1), 5.0)), jnp.zeros((2, 1))
  >>> draw = lambda key: sample_jointly(
  ...   learner, gaussian().quantile, {}, key=key, support=support, x=x)
  >>> jax.jit(draw)(jax.random.key(0)).round(1).tolist()
  [[5.0], [5.0]]
  """
  x, asked, numbers = jnp.asarray(x), x.shape[0], support.y.shape[1]
  zeros = jnp.zeros((asked, numbers), support.y.dtype)
  levels = jax.random.uniform(
    jax.random.fold_in(key, _DRAWS), zeros.shape, zeros.dtype, minval=jnp.finfo(zeros.dtype).eps
  )

  def step(drawn: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
    seen = (jnp.arange(asked) < number).astype(zeros.dtype)
    fitted = learner.adapt(key, params, join(support, Examples(x, drawn, seen)))
    parameters = learner.predict(fitted, x[number][None])[0].reshape(numbers, -1)
    return drawn.at[number].set(quantile(parameters, levels[number])), None

  return jax.lax.scan(step, zeros, jnp.arange(asked))[0]
