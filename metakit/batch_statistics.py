"""The statistics of several batches as those of one, for networks that normalise by them."""

from typing import Any


def pool_statistics(measured: Any) -> Any:
  """Pools per-batch moments: mean of means, and mean of variances plus variance of means."""
  if 'mean' in measured:
    mean, var = measured['mean'], measured['var']
    return {'mean': mean.mean(0), 'var': var.mean(0) + mean.var(0)}
  return {name: pool_statistics(child) for name, child in measured.items()}
