"""What latent neural processes share: a normal latent variable, and the evidence lower bound."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metakit.learners.set_parts import weights_of
from metakit.types import Episode, Examples, Key, Loss, Metrics, Objective, Params, join


class Latent(NamedTuple):
  """A normal distribution of independent numbers.

  Attributes:
    mean: [latents].
    deviation: [latents].
  """

  mean: jax.Array
  deviation: jax.Array


def latent_of(outputs: jax.Array) -> Latent:
  """Returns the distribution that outputs [2 * latents] of a network stand for.

  The deviation is between 0.1 and 1, as in the code of Kim et al. 2019.

  >>> latent_of(jnp.zeros(2)).deviation.tolist()
  [0.550000011920929]
  """
  mean, raw = jnp.split(outputs, 2)
  return Latent(mean, 0.1 + 0.9 * jax.nn.sigmoid(raw))


def draw(key: Key, latent: Latent, samples: int) -> jax.Array:
  """Returns draws [samples, latents].

  >>> draw(jax.random.key(0), Latent(jnp.ones(2), jnp.zeros(2)), samples=3).shape
  (3, 2)
  """
  size = samples, *latent.mean.shape
  normal = jax.random.normal(key, size, jnp.float32)  # in float64 it would be another draw
  return latent.mean + latent.deviation * normal.astype(latent.mean.dtype)


def divergence(believed: Latent, before: Latent) -> jax.Array:
  """Returns KL(believed || before) [], in nats.

  >>> float(divergence(Latent(jnp.ones(1), jnp.ones(1)), Latent(jnp.zeros(1), jnp.ones(1))))
  0.5
  """
  ratio = believed.deviation / before.deviation
  away = (believed.mean - before.mean) / before.deviation
  return (0.5 * (jnp.square(ratio) + jnp.square(away) - 1) - jnp.log(ratio)).sum()


def lower_bound(
  believe: Callable[[Params, Examples], Latent],
  decode: Callable[[Params, Examples, jax.Array, jax.Array], jax.Array],
  objective: Objective,
) -> Loss:
  """Returns the loss -ELBO, in nats a number of the targets (Garnelo et al. 2018, eq. 9).

  It is -log p(y | x, z) of the query, z a draw from q(z | support and query), and the divergence of
  this q from q(z | support), which is 'divergence' among the metrics.

  Args:
    believe: (params, examples) -> q(z | examples).
    decode: (params, support, x, z) -> outputs.
    objective: judges the outputs.

  >>> from metakit.objectives import squared_error
  >>> believe = lambda params, examples: Latent(examples.y.mean(0), jnp.ones(1))
  >>> loss = lower_bound(believe, lambda params, support, x, z: x, squared_error)
  >>> zero, one = (Examples(y, y) for y in (jnp.zeros((1, 1)), jnp.ones((1, 1))))
  >>> float(loss(jax.random.key(0), {}, Episode(zero, one))[0])  # means 0 and 0.5
  0.125
  """

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    support, query, _ = episode
    believed = believe(params, join(support, query))
    outputs = decode(params, support, query.x, draw(key, believed, 1)[0])
    fit, metrics = objective(outputs, query)
    numbers = weights_of(query, outputs).sum() * (1 if query.y.ndim == 1 else query.y.shape[1])
    nats = divergence(believed, believe(params, support)) / jnp.maximum(numbers, 1)
    return fit + nats, {**metrics, 'loss': fit + nats, 'divergence': nats}

  return loss
