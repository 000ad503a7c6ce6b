"""How to differentiate through an inner loop: one engine, a mode of it for each way."""

from metakit.meta_gradient.diagnostics import diagnose
from metakit.meta_gradient.evolution import evolution
from metakit.meta_gradient.implicit import conjugate_gradient, implicit, neumann
from metakit.meta_gradient.inner import Inner, Mode, Solution, Solve, by_optax
from metakit.meta_gradient.loops import first_order, mixed, remat, truncated, unroll

__all__ = [
  'Inner',
  'Mode',
  'Solution',
  'Solve',
  'by_optax',
  'conjugate_gradient',
  'diagnose',
  'evolution',
  'first_order',
  'implicit',
  'mixed',
  'neumann',
  'remat',
  'truncated',
  'unroll',
]
