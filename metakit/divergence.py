"""The error of a training that diverges: it names the step and what to do."""

import numpy as np

from metakit.types import Metrics

REMEDY = 'lower the learning rate or clip the gradient, and start again'
GRADIENT_REMEDY = (
  'lower the learning rate or that of the inner loop, take fewer inner steps or clip the gradient, '
  'or, with Adam or RMSProp in the inner loop, set its eps_root (1e-8, say): without it there is '
  'no derivative where an inner gradient is exactly zero, as behind a silent ReLU'
)
INNER_REMEDY = (
  'lower the inner learning rate, take fewer inner steps or lower the outer learning rate, and '
  'start again'
)


class NonFiniteLoss(FloatingPointError):
  """The loss or its gradient stopped being finite; the message names the steps."""


def check_finite(first_step: int, metrics: Metrics) -> None:
  """Raises NonFiniteLoss if a loss or gradient of a dispatch is NaN or infinite.

  The message says so if the inner loop diverged.

  Args:
    first_step: the number of the first step of the dispatch.
    metrics: those of the dispatch, fetched to the host; each [steps].
  """
  finite = np.isfinite(metrics['loss']) & np.isfinite(metrics['gradient_norm'])
  bad = [first_step + i for i, ok in enumerate(finite.tolist()) if not ok]
  if not bad:
    return
  steps = f'step {bad[0]}' if len(bad) == 1 else f'steps {bad[0]} to {bad[-1]}'
  moved = metrics.get('adaptation_norm')  # of a learner by gradient descent
  if moved is not None and not np.isfinite(moved[bad[0] - first_step]):
    raise NonFiniteLoss(f'the inner loop diverges at {steps}; {INNER_REMEDY}')
  if moved is not None and np.isfinite(metrics['loss'][bad[0] - first_step]):
    raise NonFiniteLoss(f'the gradient is not finite at {steps}; {GRADIENT_REMEDY}')
  raise NonFiniteLoss(f'the loss or its gradient is not finite at {steps}; {REMEDY}')
