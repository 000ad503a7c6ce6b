"""Schedules of the outer learning rate, to which `learning_rate` and `steps` are supplied."""

import optax

from metakit.components.specs import Factories


def constant(learning_rate: float) -> float:
  """The same rate at every step, as a number: not every optimizer takes a schedule."""
  return learning_rate


def cosine(learning_rate: float, steps: int, warmup: int = 0, final: float = 0.0) -> optax.Schedule:
  """Linear warm-up, then half a cosine down to `final` times the rate at the last step.

  Args:
    warmup: steps of the warm-up, fewer than --steps.
    final: share of the learning rate at the last step.
  """
  if not 0 <= warmup < steps:
    raise ValueError(
      f'warmup={warmup} is not between 0 and the {steps} steps; use --steps above {warmup}, or '
      f'--schedule=cosine:warmup={(steps - 1) // 10} (after --flagfile, if that names another)'
    )
  return optax.warmup_cosine_decay_schedule(
    0.0 if warmup else learning_rate, learning_rate, warmup, steps, final * learning_rate
  )


def halve(learning_rate: float, every: int = 2000) -> optax.Schedule:
  """Half the rate after every `every` steps (Snell et al. 2017).

  Args:
    every: steps between two halvings.
  """
  if every < 1:
    raise ValueError(f'every={every} is not positive; use every>=1')
  return optax.exponential_decay(learning_rate, every, 0.5, staircase=True)


SCHEDULES: Factories = {'constant': constant, 'cosine': cosine, 'halve': halve}
SCHEDULE_SUPPLIED = ('learning_rate', 'steps')
