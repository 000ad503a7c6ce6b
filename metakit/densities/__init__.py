"""Densities: what a learner that says how sure it is predicts, one family a file."""

from metakit.densities.density import Density, objective_of
from metakit.densities.gaussian import gaussian

__all__ = ['Density', 'gaussian', 'objective_of']
