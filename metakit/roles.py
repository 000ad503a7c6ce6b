"""Roles of the arrays of a network: weight, normalisation or constant (Model.roles).

The class of a module decides, not its name. nn.LayerNorm is a normalisation, whatever name it has.
A module of another class that is called 'MyNormal' is not.
"""

from collections.abc import Callable, Collection
from typing import Any

import jax

from metakit.types import Params

WEIGHT = 'weight'  # learned, and changed by inner loops
NORM = 'norm'  # scale or bias of a normalisation layer
CONSTANT = 'constant'  # not learned: measured statistics, frozen statistics, buffers

# (params, *inputs) -> a tree like params, of the names above.
Roles = Callable[..., Any]


def assign(
  params: Params, norms: Collection[tuple[Any, ...]], is_constant: Callable[[tuple[Any, ...]], bool]
) -> Any:
  """Returns the roles of a tree of modules.

  Args:
    params: a tree of dictionaries, whose paths are those of the modules.
    norms: paths of normalisation layers.
    is_constant: path -> True if the array there is not a parameter.
  """

  def role(keys: tuple[Any, ...], _: Any) -> str:
    path = tuple(getattr(key, 'key', None) for key in keys)
    if is_constant(path):
      return CONSTANT
    inside = any(path[:length] in norms for length in range(len(path)))
    return NORM if inside else WEIGHT

  return jax.tree_util.tree_map_with_path(role, params)


def partition(params: Params, roles: Any) -> tuple[Params, Params]:
  """Returns the tree without constants, and the constants alone, with None in place of the rest."""
  constant = jax.tree.map(lambda role: role == CONSTANT, roles)
  others = jax.tree.map(lambda leaf, known: None if known else leaf, params, constant)
  return others, jax.tree.map(lambda leaf, known: leaf if known else None, params, constant)


def combine(others: Params, constants: Params) -> Params:
  """The inverse of `partition`."""
  pick = lambda a, b: b if a is None else a
  return jax.tree.map(pick, others, constants, is_leaf=lambda leaf: leaf is None)
