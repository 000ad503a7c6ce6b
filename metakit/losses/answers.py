"""Distillation of answers: a student learns the softened class probabilities of a teacher.

Geoffrey Hinton, Oriol Vinyals, Jeff Dean, Distilling the Knowledge in a Neural Network, 2015,
arXiv:1503.02531, section 2: softmax of logits over a temperature T, and the factor T^2, which keeps
the size of gradients when T changes.
"""

import jax

from metakit.objectives import cross_entropy, summable, weighted_mean
from metakit.types import Examples


def answer_distillation(
  student: jax.Array,
  teacher: jax.Array,
  temperature: float = 4.0,
  *,
  weight: jax.Array | None = None,
) -> jax.Array:
  """Returns T^2 times the mean divergence KL(softmax(teacher / T) || softmax(student / T)), nats.

  Args:
    student: logits [examples, classes].
    teacher: logits of the same classes; they get no gradient.
    temperature: T. The higher it is, the more the unlikely classes count.
    weight: [examples]; rows of weight 0 do not count. None if all count alike.

  Raises:
    ValueError: if the logits have different shapes.

  >>> import jax.numpy as jnp
  >>> teacher = jnp.array([[3.0, 1.0, 0.0]])
  >>> loss = jax.jit(answer_distillation)
  >>> students = teacher + 5.0, teacher[:, ::-1]  # the same probabilities, others
  >>> [f'{loss(student, teacher):.2f}' for student in students]
  ['0.00', '3.05']
  """
  if student.shape != teacher.shape:
    raise ValueError(
      f'the student gives logits of shape {student.shape} and the teacher {teacher.shape}; use a '
      'teacher of the same classes'
    )
  rows = lambda logits: summable(logits, Examples(logits, None, weight))[0]
  ours, theirs = rows(student), rows(jax.lax.stop_gradient(teacher))
  divergence = cross_entropy.divergence(ours / temperature, theirs / temperature)
  return temperature**2 * weighted_mean(divergence, weight)
