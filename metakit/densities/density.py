"""The objective of a density: a family of distributions whose parameters are outputs."""

import jax

from metakit import objectives
from metakit.types import Density, Objective


def objective_of(density: Density) -> Objective:
  """Returns the objective that judges outputs as parameters of a density of each target.

  A target of several numbers has so many independent distributions: its outputs
  [examples, numbers * size] hold the parameters of the first number, then those of the second, and
  so on. The loss is -log p in nats a number, and the point prediction is the mean.

  >>> import jax.numpy as jnp
  >>> from metakit.densities import gaussian
  >>> from metakit.types import Examples
  >>> objective = objective_of(gaussian())
  >>> loss, metrics = objective(jnp.zeros((3, 2)), Examples(x=None, y=jnp.zeros((3, 1))))
  >>> f'{loss:.3f}'  # a deviation of log 2 and a bit
  '0.554'
  """

  def losses(outputs: jax.Array, y: jax.Array) -> jax.Array:
    return -density.log_density(by_number(outputs, density.size), y).mean(-1)

  def divergence(outputs: jax.Array, reference: jax.Array) -> jax.Array:
    apart = by_number(outputs, density.size), by_number(reference, density.size)
    return density.divergence(*apart).mean(-1)

  def pool(outputs: jax.Array) -> jax.Array:
    assert density.pool is not None
    return density.pool(by_number(outputs, density.size)).reshape(outputs.shape[1:])

  return objectives.density(
    losses,
    density.size,
    point=lambda outputs: density.mean(by_number(outputs, density.size)),
    divergence=divergence,
    pool=None if density.pool is None else pool,
    family=density,
  )


def by_number(outputs: jax.Array, size: int) -> jax.Array:
  """Returns outputs [..., numbers * size] as parameters [..., numbers, size]."""
  return outputs.reshape(*outputs.shape[:-1], -1, size)
