"""Densities: what a learner that says how sure it is predicts, one family a file."""

from metakit.densities.bar import bar, borders_of
from metakit.densities.density import objective_of
from metakit.densities.gaussian import gaussian
from metakit.densities.joint import joint
from metakit.densities.mixture import mixture, mixture_parameters
from metakit.densities.quantiles import pinball, quantiles
from metakit.types import Density

__all__ = [
  'Density',
  'bar',
  'borders_of',
  'gaussian',
  'joint',
  'mixture',
  'mixture_parameters',
  'objective_of',
  'pinball',
  'quantiles',
]
