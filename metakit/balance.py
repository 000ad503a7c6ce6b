"""Families of tasks of unequal sizes: how often to draw each, or how much to weigh its loss.

Tianjian Li et al., Upsample or Upweight? Balanced Training on Heavily Imbalanced Datasets, NAACL
2025, arXiv:2410.04579. Families may be drawn by a temperature (`family_shares`), or in proportion
to their sizes, with losses that are weighed (`loss_weights`, `weigh_families`). The expected
gradient is the same (Theorem 1 and Corollary 1.1). Its variance is not (`gradient_variance`).

Cooldown draws small families often at first, which learns them fast, and then by size, before they
are learned by heart (section 4). It is the `stages` of metakit.episodes.mixture:

  source = mixture(samplers, stages=cooldown(sizes, steps=5000))  # tests: all families alike

Deviation: Theorem 2 says that weights always give the higher variance. Its proof (appendix B) takes
the squared norms of the gradients of all families as equal. Here each family has its own. If those
of rare families are small, weights may give the lower variance.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from metakit.sizes import check_positive
from metakit.types import Episode, Key, MetaLearner, Params, Sampler


def family_shares(sizes: Sequence[float], temperature: float = 1.0) -> np.ndarray:
  """Returns how often each family is drawn, size^(1 / temperature) over the sum (section 2.1).

  Args:
    sizes: [families] numbers of tasks, or anything in proportion to them.
    temperature: 1 draws in proportion to the sizes; infinity draws all families alike.

  Raises:
    ValueError: if there is no family, or a size or the temperature is not positive.

  >>> [family_shares([900, 100], t).round(2).tolist() for t in (1, 2, float('inf'))]
  [[0.9, 0.1], [0.75, 0.25], [0.5, 0.5]]
  """
  logarithm = np.log(_checked(sizes)) / _positive(temperature)
  shares = np.exp(logarithm - logarithm.max())  # no power overflows
  return shares / shares.sum()


def loss_weights(sizes: Sequence[float], temperature: float) -> np.ndarray:
  """Returns the weights of losses that stand for a temperature (proof of Theorem 1).

  Families are then drawn in proportion to their sizes. The mean of the weights is 1 in such draws.

  Args:
    sizes: as in `family_shares`.
    temperature: that whose expected gradient is sought.

  Raises:
    ValueError: as `family_shares`.

  >>> loss_weights([900, 100], float('inf')).round(3).tolist()
  [0.556, 5.0]
  """
  return family_shares(sizes, temperature) / family_shares(sizes)


def cooldown(
  sizes: Sequence[float], steps: int, *, hot: float = 5.0, cold: float = 1.0
) -> dict[int, np.ndarray]:
  """Returns the shares of families from each step of meta-training on, for two temperatures.

  The paper goes from 5 to 1 after half of the steps. It found more and smaller steps down worse
  (section 4.3).

  Args:
    sizes: as in `family_shares`.
    steps: meta-training steps at the first temperature.
    hot: the first temperature.
    cold: the second.

  Returns:
    {0: shares, steps: shares}, the `stages` of metakit.episodes.mixture.

  Raises:
    ValueError: as `family_shares`, and if steps is not positive.

  >>> {step: shares.round(2).tolist() for step, shares in cooldown([900, 100], 5000).items()}
  {0: [0.61, 0.39], 5000: [0.9, 0.1]}
  """
  check_positive(steps=steps)
  return {0: family_shares(sizes, hot), steps: family_shares(sizes, cold)}


def weigh_families(learner: MetaLearner, weights: Sequence[float] | np.ndarray) -> MetaLearner:
  """Multiplies the training loss of each episode by the weight of its family.

  The family is info['component'] of the episode, as metakit.episodes.mixture says it. All else of
  the learner, and the metrics of its loss, stay as they are.

  Args:
    learner: any MetaLearner.
    weights: [families], such as `loss_weights`.

  Raises:
    ValueError: in the loss, if an episode does not say its family. Without a weight for it the loss
      is nan.

  >>> from metakit.heads import prototypes
  >>> from metakit.types import Examples
  >>> part = Examples(jnp.array([[0.0], [1.0]]), jnp.array([0, 1]))
  >>> episode = Episode(part, part, {'component': jnp.int32(1)})
  >>> head = prototypes(ways=2)
  >>> plain, weighed = (
  ...   jax.jit(each.loss)(jax.random.key(0), {}, episode)[0]
  ...   for each in (head, weigh_families(head, [0.5, 5]))
  ... )
  >>> f'{weighed / plain:.1f}'
  '5.0'
  """
  factors = jnp.asarray(weights, jnp.float32)

  def weighed(loss: Callable[..., Any]) -> Callable[..., Any]:
    def times(*given: Any) -> Any:
      value, metrics = loss(*given)
      factor = factors.at[_family(given[-1])].get(mode='fill', fill_value=jnp.nan)
      return factor * value, metrics

    return times

  at = learner.loss_at
  return learner._replace(loss=weighed(learner.loss), loss_at=None if at is None else weighed(at))


def _family(episode: Episode) -> jax.Array:
  if not (isinstance(episode.info, dict) and 'component' in episode.info):
    raise ValueError(
      'an episode does not say its family; draw them by metakit.episodes.mixture, which tells '
      "info['component']"
    )
  return episode.info['component']


class Moments(NamedTuple):
  """What is known of the gradients of one task of a family (or of a mixture of families).

  Attributes:
    mean: [parameters], the mean gradient.
    square: [], the mean of its squared norm.
  """

  mean: jax.Array
  square: jax.Array

  @property
  def variance(self) -> jax.Array:
    """The mean squared distance of a gradient from the mean: the trace of the covariance."""
    return self.square - jnp.sum(self.mean**2)


def gradient_moments(
  learner: MetaLearner,
  params: Params,
  sampler: Sampler,
  *,
  key: Key,
  draws: int,
  step: int = 0,
  at_once: int = 256,
) -> Moments:
  """Measures the meta-gradients of single tasks, at some parameters.

  Args:
    learner: any MetaLearner.
    params: its parameters.
    sampler: a family, or a mixture of families.
    key: determines the tasks, and what the learner draws.
    draws: how many tasks.
    step: of meta-training, for a learner whose loss changes in training.
    at_once: tasks that are computed side by side, in memory.

  Raises:
    ValueError: if a number is not positive.

  >>> from metakit.episodes import mixture
  >>> from metakit.heads import prototypes
  >>> from metakit.types import Examples
  >>> part = lambda width: Examples(jnp.array([[0.0], [width]]), jnp.array([0, 1]))
  >>> families = [lambda key, w=w: Episode(part(w), part(w)) for w in (1.0, 1.0)]
  >>> learner, params = prototypes(ways=2, temperature=1.0), {'log_temperature': jnp.float32(0)}
  >>> key = jax.random.key(0)
  >>> alike = gradient_moments(learner, params, mixture(families), key=key, draws=100)
  >>> f'{alike.mean[0]:.2f} {alike.variance:.2f}'  # the gradients of all tasks are the same
  '-0.27 0.00'
  """
  check_positive(draws=draws, at_once=at_once)
  loss = learner.loss if learner.loss_at is None else partial(learner.loss_at, jnp.int32(step))

  def gradient(params: Params, number: jax.Array) -> jax.Array:
    episode_key, learner_key = jax.random.split(jax.random.fold_in(key, number))
    episode = sampler(episode_key)
    slope = jax.grad(lambda params: loss(learner_key, params, episode)[0])(params)
    return ravel_pytree(slope)[0] * (number < draws)

  @jax.jit
  def measure(params: Params) -> Moments:
    def add(total: Moments, first: jax.Array) -> tuple[Moments, None]:
      each = jax.vmap(gradient, (None, 0))(params, first + jnp.arange(at_once))
      return Moments(total.mean + each.sum(0), total.square + jnp.sum(each**2)), None

    none = Moments(jnp.zeros_like(ravel_pytree(params)[0]), jnp.float32(0))
    sums, _ = jax.lax.scan(add, none, jnp.arange(0, draws, at_once))
    return Moments(sums.mean / draws, sums.square / draws)

  return measure(params)


def gradient_variance(
  families: Sequence[Moments],
  shares: Sequence[float] | np.ndarray,
  weights: Sequence[float] | np.ndarray | float = 1.0,
  *,
  tasks: int = 1,
) -> float:
  """Returns the variance of the meta-gradient in closed form: the trace of its covariance.

  For shares p and weights w of families whose gradients have mean m and mean squared norm s it is
  sum(p w^2 s) - |sum(p w m)|^2. A temperature whose shares are q has p = q and w = 1. By weights p
  is the share by size, and w = q / p. The means are equal, so weights have more variance by
  sum(q (w - 1) s), which is positive if all s are equal (Theorem 2).

  Args:
    families: the moments of each family.
    shares: [families] how often each is drawn.
    weights: [families] of their losses.
    tasks: tasks in each meta-gradient, which are drawn independently.

  >>> still, wild = Moments(jnp.zeros(1), jnp.float32(0)), Moments(jnp.ones(1), jnp.float32(1))
  >>> gradient_variance([still, wild], shares=[0.5, 0.5])  # 0 or 1
  0.25
  >>> gradient_variance([still, wild], shares=[0.9, 0.1], weights=[5 / 9, 5])  # 0 or, rarely, 5
  2.25
  """
  p, w = np.asarray(shares, np.float64), np.broadcast_to(weights, np.shape(shares))
  mean = (p * w) @ np.stack([np.asarray(each.mean, np.float64) for each in families])
  square = (p * w**2) @ np.array([float(each.square) for each in families])
  return float(square - mean @ mean) / tasks


def _checked(sizes: Sequence[float]) -> np.ndarray:
  values = np.asarray(sizes, np.float64)
  if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values > 0)).all():
    raise ValueError(f'sizes={np.asarray(sizes).tolist()}; give one above 0 for each family')
  return values


def _positive(temperature: float) -> float:
  if not temperature > 0:
    raise ValueError(f'temperature={temperature} is not positive; 1 draws families by their sizes')
  return temperature
