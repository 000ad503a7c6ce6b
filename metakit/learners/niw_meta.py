"""NIW-Meta: a distribution of the weights of tasks, learned by one ELBO for each episode.

Minyoung Kim, Timothy Hospedales, A Hierarchical Bayesian Model for Few-Shot Meta Learning, ICLR
2024, arXiv:2306.09702. The weights of a task are theta ~ N(mu, Sigma), and what is learned is
q(mu, Sigma), normal-inverse-Wishart with (m0, V0, n0) and a diagonal V0. Implemented:
-log p(episode | theta) is approximated by a quadratic, from the iterates of (Langevin) gradient
descent after a burn-in; its local posterior q(theta) = N(m, V) is a function of (m0, V0, n0) in
closed form; the loss is the ELBO of the episode, E_q[-log p(episode | theta)] +
E[KL(q || N(mu, Sigma))], plus the divergence of q(mu, Sigma) from its own prior, shared among all
training tasks. A gradient goes through m and V alone, and not through the descent. A test task is
learned by variational inference that starts from, and is held to, the mode of q(mu, Sigma), and is
predicted by a few networks together.

The paper's formulas were derived again from this model (metakit.learners.normal_inverse_wishart),
and its code is not public. Deviations: V0 and n0 are learned as V0 / n0 and the logarithm of
n0 - (d - 1), since the ELBO holds their product alone but for one term; the steps at test time are
those of Adam on theta in units of its deviation, so that they stay small where V0 does; a density
is predicted by its family's member with the moments of the mixture.

Changes in a task: the network, and how sure it is of each weight.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from metakit.absent import known
from metakit.builder import meta_learner
from metakit.heads.common import check_positive
from metakit.learners.descent import (
  Descent,
  asking,
  by_optimizer,
  check_descent,
  check_statistics,
  refuse,
  support_loss,
)
from metakit.learners.iterates import approximating, in_full
from metakit.learners.normal_inverse_wishart import (
  Normal,
  NormalInverseWishart,
  divergence,
  local_divergence,
  local_posterior,
  mode,
)
from metakit.models import Model, drawing, draws_of
from metakit.objectives import cross_entropy
from metakit.roles import CONSTANT
from metakit.types import (
  Episode,
  Examples,
  Fitted,
  Key,
  MetaLearner,
  Metrics,
  Objective,
  Params,
  join,
)


def niw_meta(
  model: Model,
  descent: Descent,
  *,
  curvature: str = 'variance',
  burn_in: int = 0,
  noise: float = 0.0,
  most: float = 1e3,
  initial_variance: float = 1e-2,
  num_tasks: int | None = None,
  temperature: float = 1.0,
  test_rate: float = 0.1,
  samples: int = 5,
  objective: Objective = cross_entropy,
  statistics: str | None = None,
) -> MetaLearner:
  """Learns what is known of the weights of tasks: their mean, their spread, and how sure that is.

  Args:
    model: a network that ends in the task's outputs.
    descent: how it descends in training, on support and queries together, with an optimizer and
      without a mode, since nothing is differentiated through it. Its test_steps are those of
      variational inference at test time: Descent(optax.sgd(0.02), steps=5, test_steps=50), say.
    curvature: the precision of the quadratic. As published it is the inverse 'variance' of the
      iterates. 'slope' is that of the gradient over the iterates, for each weight by itself. It is
      exact for a quadratic with a diagonal A, and says the same as the variance once Langevin
      dynamics are in equilibrium.
    burn_in: first iterates that do not count.
    noise: deviation of the noise that is added to each weight in each step. Langevin dynamics with
      a rate r on n examples have sqrt(2 r temperature / n).
    most: the largest precision of the quadratic.
    initial_variance: the first variance of all weights across tasks.
    num_tasks: how many training tasks share the divergence of q(mu, Sigma) from its prior. None for
      infinitely many, without that term.
    temperature: -log p is the objective of all examples, summed, over this. It is 1 for a
      classification or a density, and twice the variance of the noise of targets for squared_error.
    test_rate: first rate of Adam at test time, in deviations of theta across tasks. It falls to 0
      along a cosine.
    samples: networks that predict together.
    objective: loss of the inner steps and, summed over examples, -log p.
    statistics: see metakit.learners.descent.

  Returns:
    A MetaLearner. Its params are {'mean': m0, 'log_variance': of V0 / n0, 'log_excess': of
    n0 - (d - 1)}, the first two with the structure of the network's. The metrics of its loss are
    those of all examples, predicted by one network of the local posterior.

  Raises:
    ValueError: for a descent, statistics or numbers that make no sense, an unknown curvature, or an
      objective that does not say what several networks predict together.

  >>> from metakit.networks import mlp
  >>> descent = Descent(optax.sgd(0.02), steps=5, test_steps=50)
  >>> learner = niw_meta(mlp(num_outputs=5), descent, samples=10)
  >>> learner.protocol
  'inductive'
  """
  refuse(descent, 'mode')
  check_descent(descent)
  _check(noise, samples)
  check_positive(most=most, initial_variance=initial_variance, temperature=temperature)
  check_positive(test_rate=test_rate, num_tasks=math.inf if num_tasks is None else num_tasks)
  pool = _pool_of(objective, samples)
  settle, ask = asking(model, check_statistics(model, statistics))
  inner = by_optimizer(descent)(
    support_loss(model, objective, lambda fast, slow, step: fast, descent=descent)
  )
  approximate = approximating(inner, descent.steps, curvature=curvature, burn_in=burn_in, most=most)

  def init(key: Key, episode: Episode) -> Params:
    mean = model.init(key, episode.support.x)
    alike = jax.tree.map(lambda leaf: jnp.full_like(leaf, math.log(initial_variance)), mean)
    dtype = jnp.result_type(*jax.tree.leaves(mean))
    return {'mean': mean, 'log_variance': alike, 'log_excess': jnp.zeros((), dtype)}

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    both, draws = join(episode.support, episode.query), draws_of(model, key)
    batch_key, noise_key, sample_key = jax.random.split(key, 3)
    prior, weights = _distribution(params, num_tasks)
    free, scale = _free(model, params['mean'], both.x), _count(both) / temperature
    kick = lambda tree, step: _kicked(jax.random.fold_in(noise_key, step), tree, free * noise)
    data = (batch_key, draws), both
    start = jax.lax.stop_gradient(params['mean'])
    quadratic, moments = approximate(start, data, scale, kick if noise else None)
    posterior = local_posterior(prior, jax.lax.stop_gradient(quadratic))
    drawn = weights(_draw(sample_key, posterior, free))
    outputs = drawing(model.apply, draws, descent.steps + 1)(drawn, both.x, weight=both.weight)
    error, metrics = objective(outputs, both)
    kept = local_divergence(posterior, prior)
    value = scale * error + kept
    if num_tasks is not None:
      value += divergence(prior, _first(prior, initial_variance)) / num_tasks
    moved = {'adaptation_norm': jnp.linalg.norm(moments.point), 'divergence': kept}
    return value, {**metrics, **moved}

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    infer_key, batch_key, sample_key = jax.random.split(key, 3)
    prior, weights = _distribution(params, num_tasks)
    start, free = mode(prior), _free(model, params['mean'], support.x)
    scale, data = _count(support) / temperature, ((batch_key, None), support)

    def bound(known: Normal, number: jax.Array) -> jax.Array:
      drawn = weights(_draw(jax.random.fold_in(infer_key, number), known, free))
      return scale * inner.loss(drawn, {}, data, number)

    steps = descent.steps_of_adapt
    rates = optax.cosine_decay_schedule(test_rate, max(steps, 1))
    found = _infer(bound, start, optax.adam(rates), steps=steps)
    draw = lambda key: settle(weights(_draw(key, found, free)), support)
    return jax.vmap(draw)(jax.random.split(sample_key, samples))

  def predict(fitted: Fitted, x: Any) -> jax.Array:
    return pool(jax.vmap(lambda params: ask(params, x))(fitted))

  seen = statistics == 'episode' or (statistics is None and model.stored is not None)
  return meta_learner(init, adapt, predict, objective=objective, loss=loss, queries_seen=seen)


def _infer(
  bound: Callable[[Normal, jax.Array], jax.Array],
  start: Normal,
  optimizer: optax.GradientTransformation,
  *,
  steps: int,
) -> Normal:
  """Returns the Normal that minimises E[-log p] + KL(Normal || start), by steps of an optimizer.

  It changes (u, r) of a mean of start + deviation u and of deviation exp(r), in the units of
  `start`, whose divergence is 1/2 (exp(2 r) + u^2 - 1 - 2 r) a weight.

  Args:
    bound: (Normal, number of the step) -> -log p of a draw.
    start: the prior of the task.
    optimizer: of (u, r).
    steps: how many.
  """
  unit = jnp.sqrt(start.variance)

  def at(u: jax.Array, r: jax.Array) -> Normal:
    return Normal(start.mean + unit * u, start.variance * jnp.exp(2 * r))

  def loss(pair: tuple[jax.Array, jax.Array], number: jax.Array) -> jax.Array:
    u, r = pair
    return bound(at(u, r), number) + 0.5 * (jnp.exp(2 * r) + jnp.square(u) - 1 - 2 * r).sum()

  def step(carry: Any, number: jax.Array) -> tuple[Any, None]:
    pair, state = carry
    updates, state = optimizer.update(jax.grad(loss)(pair, number), state)
    return (optax.apply_updates(pair, updates), state), None

  pair = jnp.zeros_like(unit), jnp.zeros_like(unit)
  (pair, _), _ = jax.lax.scan(step, (pair, optimizer.init(pair)), jnp.arange(steps))
  return at(*pair)


def _distribution(
  params: Params, num_tasks: int | None
) -> tuple[NormalInverseWishart, Callable[[jax.Array], Params]]:
  """Returns q(mu, Sigma) of the params, and a function that makes parameters of flat weights.

  Its strength is that which minimises the loss: one more than the number of tasks.
  """
  mean, unravel = ravel_pytree(params['mean'])
  variance = jnp.exp(in_full(ravel_pytree(params['log_variance'])[0]))
  strength = jnp.asarray(math.inf if num_tasks is None else num_tasks + 1.0, variance.dtype)
  excess = jnp.exp(in_full(jnp.asarray(params['log_excess'])))
  known = NormalInverseWishart(in_full(mean), variance, excess, strength)
  return known, lambda flat: unravel(flat.astype(mean.dtype))


def _first(known: NormalInverseWishart, variance: float) -> NormalInverseWishart:
  """Returns the prior of q(mu, Sigma), which counts as one task."""
  one, alike = jnp.ones_like(known.excess), jnp.ones_like(known.mean)
  return NormalInverseWishart(0 * alike, variance * alike, one, one)


def _draw(key: Key, known: Normal, free: jax.Array) -> jax.Array:
  return known.mean + free * jnp.sqrt(known.variance) * _noise(key, known.mean)


def _kicked(key: Key, tree: Params, deviation: jax.Array) -> Params:
  flat, unravel = ravel_pytree(tree)
  return unravel((flat + deviation * _noise(key, flat)).astype(flat.dtype))


def _noise(key: Key, like: jax.Array) -> jax.Array:
  """Returns standard normal numbers, the same in single and in double precision."""
  return jax.random.normal(key, like.shape, jnp.float32).astype(like.dtype)


def _free(model: Model, params: Params, x: Any) -> jax.Array:
  """Returns which weights are drawn: 1, and 0 for constants of the network; [d], or [] for all."""
  if model.roles is None:
    return jnp.ones(())
  roles = model.roles(params, x)
  full = jax.tree.map(lambda leaf, role: jnp.full(leaf.shape, role != CONSTANT), params, roles)
  return ravel_pytree(full)[0]


def _count(examples: Examples) -> jax.Array:
  """Returns how many examples count, by their weights."""
  there = known(examples)
  return (there if examples.weight is None else there * examples.weight).sum()


def _pool_of(objective: Objective, samples: int) -> Callable[[jax.Array], jax.Array]:
  if samples == 1:
    return lambda outputs: outputs[0]
  pool = getattr(objective, 'pool', None)  # a bare function has none
  if pool is None:
    raise ValueError(
      f'samples={samples}: this objective does not say what several networks predict together; '
      'use samples=1, or an objective with `pool`, such as that of the density gaussian'
    )
  return pool


def _check(noise: float, samples: int) -> None:
  if noise < 0:
    raise ValueError(f'noise={noise} is no deviation; use 0 for none')
  if samples < 1:
    raise ValueError(f'samples={samples} predict nothing; use 1 or more')
