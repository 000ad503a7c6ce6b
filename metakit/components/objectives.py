"""The objectives that specs name: densities of the targets of a regression."""

import functools
import inspect
from collections.abc import Callable

from metakit.components.specs import Component, Factories, build, parse
from metakit.densities import bar, gaussian, joint, mixture, objective_of, pinball
from metakit.densities.quantiles import even_levels
from metakit.types import Objective

Borders = Callable[[int], tuple[float, ...]]  # buckets -> borders (metakit.densities.borders_of)


def gaussian_objective(*, least: float = 1e-3) -> Objective:
  """A normal density of each target, with a deviation of its own.

  Args:
    least: the least deviation, in units of y.
  """
  return objective_of(gaussian(least))


def bar_objective(*, borders: Borders, buckets: int = 100) -> Objective:
  """A bar distribution of each target: probabilities of buckets that training targets fill evenly.

  Args:
    buckets: how many; there are fewer if targets repeat.
  """
  return objective_of(bar(borders(buckets)))


def quantile_objective(*, levels: int = 39, least: float = 1e-3) -> Objective:
  """Quantiles of each target by the pinball loss.

  Args:
    levels: how many, evenly spaced; 39 begin with 2.5% and end with 97.5%.
    least: how far apart two quantiles are at least, in units of y.
  """
  return pinball(even_levels(levels), least)


def mixture_objective(*, components: int = 5, least: float = 1e-3) -> Objective:
  """A mixture of normal densities of each target.

  Args:
    components: how many.
    least: the least deviation, in units of y.
  """
  return objective_of(mixture(components, least))


def joint_objective(*, features: int = 8, least: float = 1e-3) -> Objective:
  """A normal density of all queries together, with their covariances.

  Args:
    features: the rank of what targets have in common.
    least: the least deviation of what they have not, in units of y.
  """
  return joint(features, least)


OBJECTIVES: Factories = {
  'gaussian': gaussian_objective,
  'bar': bar_objective,
  'quantile': quantile_objective,
  'mixture': mixture_objective,
  'joint': joint_objective,
}
OBJECTIVE_SUPPLIED = ('borders',)


def parse_objective(spec: str) -> Component:
  """Reads the spec of an objective; see metakit.components.specs.parse."""
  return parse('objective', OBJECTIVES, spec, supplied=OBJECTIVE_SUPPLIED)


def takes_borders(spec: str) -> int | None:
  """Returns the number of buckets of an objective that needs borders; None for others.

  >>> takes_borders('bar:buckets=8'), takes_borders('gaussian')
  (8, None)
  """
  component = parse_objective(spec)
  needs = 'borders' in inspect.signature(component.factory).parameters
  return component.arguments['buckets'] if needs else None


@functools.lru_cache(maxsize=64)  # programs are compiled for an objective, so it stays the same
def make_objective(spec: str, borders: tuple[float, ...] | None = None) -> Objective:
  """Makes the objective of a spec.

  Args:
    spec: such as 'bar:buckets=100'.
    borders: those of its buckets, if it has buckets (`takes_borders`).

  Raises:
    ValueError: in one line, for an unknown name or argument, or one out of range.
  """
  return build(parse_objective(spec), borders=lambda _: borders)
