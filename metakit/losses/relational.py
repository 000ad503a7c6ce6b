"""Relational knowledge distillation: a student learns the distances and angles of a teacher.

Wonpyo Park, Dongju Kim, Yan Lu, Minsu Cho, Relational Knowledge Distillation, CVPR 2019,
arXiv:1904.05068. Implemented: the distance-wise loss (eqs. 4 to 6) and the angle-wise loss (eqs. 7
to 9), with Huber's loss of delta 1.
"""

import jax
import jax.numpy as jnp
import optax

from metakit.heads.common import product, squared_distances, unit


def distance_distillation(student: jax.Array, teacher: jax.Array) -> jax.Array:
  """Returns the loss of pairwise distances, which are divided by their mean in either embedding.

  Args:
    student: [examples, features].
    teacher: [examples, features of the teacher]; it gets no gradient.

  >>> teacher = jnp.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
  >>> loss = jax.jit(distance_distillation)
  >>> students = 10 * teacher, teacher * jnp.array([1.0, 0.0])  # scale is free, shape is not
  >>> [f'{loss(student, teacher):.2f}' for student in students]
  ['0.00', '0.18']
  """
  return _mean_huber(_distances(student), _distances(jax.lax.stop_gradient(teacher)))


def angle_distillation(student: jax.Array, teacher: jax.Array) -> jax.Array:
  """Returns the loss of the cosines of the angles of all triplets; cost: the cube of examples.

  Args: as `distance_distillation`.

  >>> teacher = jnp.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
  >>> loss = jax.jit(angle_distillation)
  >>> students = teacher[:, ::-1], teacher * jnp.array([1.0, 5.0])  # reflected, stretched
  >>> [f'{loss(student, teacher):.2f}' for student in students]
  ['0.00', '0.01']
  """
  return _mean_huber(_cosines(student), _cosines(jax.lax.stop_gradient(teacher)))


def _mean_huber(ours: jax.Array, theirs: jax.Array) -> jax.Array:
  return optax.losses.huber_loss(ours, theirs).mean()


def _distances(z: jax.Array) -> jax.Array:
  other = ~jnp.eye(len(z), dtype=bool)
  squares = jnp.where(other, jnp.maximum(squared_distances(z, z), 1e-12), 1)  # 1: differentiable
  away = jnp.where(other, jnp.sqrt(squares), 0)
  return away / (away.sum() / other.sum())


def _cosines(z: jax.Array) -> jax.Array:
  """[i, j, k]: of the angle at j between i and k."""
  direction = unit(z[None] - z[:, None])  # [j, i, features]
  return jax.vmap(lambda d: product(d, d.T), out_axes=1)(direction)
