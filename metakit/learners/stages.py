"""Training in two stages: one loss up to a step, another one from then on."""

from typing import Any

import jax

from metakit.types import Episode, Key, Loss, LossAt, Metrics, Params


def two_stages(until: int, early: Loss, late: Loss) -> LossAt:
  """Returns the loss that is `early` before step `until`, and `late` from then on.

  Args:
    until: steps of the first stage.
    early: its loss.
    late: the loss of the second stage, whose metrics have the same names and types.

  Raises:
    ValueError: if `until` is not positive.

  >>> loss = lambda value: lambda key, params, episode: (value * params, {})
  >>> at = two_stages(3, loss(1.0), loss(10.0))
  >>> [float(at(step, None, 1.0, None)[0]) for step in (2, 3)]
  [1.0, 10.0]
  """
  if until < 1:
    raise ValueError(f'until={until} is not positive; use 1 or more steps')

  def loss_at(step: Any, key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    return jax.lax.cond(step < until, early, late, key, params, episode)

  return loss_at
