"""Every optax optimizer that takes a learning rate as a component, outer and inner, and SGDW."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from optax import contrib

from metakit.components.docstrings import document, first_sentence, meanings, summary

NOT_WRITTEN = 'mask', 'dtype', 'key', 'seed'  # what is none by default and no number otherwise


def _optimizers() -> dict[str, Callable[..., optax.GradientTransformation]]:
  """Every optax optimizer that takes a learning rate, which is 1e-3 unless the spec says more."""
  takes_rate = lambda f: 'learning_rate' in inspect.signature(f).parameters
  usable = lambda name: not name.startswith(('_', 'scale_')) and name != 'lbfgs'  # needs values
  factories = {n: f for n, f in vars(optax).items() if usable(n) and inspect.isfunction(f)}
  return {n: _with_default_rate(f) for n, f in factories.items() if takes_rate(f)}


def _with_default_rate(make: Callable[..., Any]) -> Callable[..., Any]:
  """Gives the learning rate a default and leaves the arguments that a spec can write."""
  writable = lambda default: default is None or isinstance(default, bool | int | float)
  kind_of = lambda parameter: float | None if parameter.default is None else type(parameter.default)
  parameters = [inspect.Parameter('learning_rate', inspect.Parameter.KEYWORD_ONLY, default=1e-3)]
  for parameter in inspect.signature(make).parameters.values():
    if parameter.name != 'learning_rate' and writable(parameter.default):
      number = parameter.default is not None or not parameter.name.endswith(NOT_WRITTEN)
      kind = kind_of(parameter) if number else type(None)
      keyword = inspect.Parameter.KEYWORD_ONLY
      parameters.append(parameter.replace(kind=keyword, annotation=kind))

  def optimizer(**arguments: Any) -> Any:
    return make(**arguments)

  optimizer.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
  said = {name: first_sentence(text) for name, text in meanings(make).items()}
  document(optimizer, summary(make), said)
  return optimizer


def sgdw(
  learning_rate: Any = 1e-3, momentum: float = 0.0, weight_decay: float = 1e-4
) -> optax.GradientTransformation:
  """SGD with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 1).

  Args:
    learning_rate: a number, or a schedule.
    momentum: decay rate of the momentum; 0 for none.
    weight_decay: strength of the decay, times the learning rate.
  """
  return optax.chain(
    optax.trace(momentum),
    optax.add_decayed_weights(weight_decay),
    optax.scale_by_learning_rate(learning_rate),
  )


def muon(
  learning_rate: Any = 1e-3,
  momentum: float = 0.95,
  weight_decay: float = 1e-4,
  *,
  steps: int = 5,
) -> optax.GradientTransformation:
  """Momentum made orthogonal for matrices (Muon, Jordan et al. 2024), AdamW for what is none.

  An array of more than two axes is the matrix nearest to a square among those that cut its axes in
  two, so the heads of attention are columns together, and a convolution has its outputs as columns.
  Updates have the size of AdamW's (0.2 times the root of the longer side, Liu et al. 2025,
  arXiv:2502.16982), so rates and decays of adamw will do.

  Args:
    learning_rate: a number, or a schedule.
    momentum: decay rate of the momentum.
    weight_decay: strength of the decay, times the learning rate.
    steps: iterations of Newton and Schulz that make the momentum orthogonal.
  """
  return contrib.muon(
    learning_rate,
    ns_steps=steps,
    beta=momentum,
    weight_decay=weight_decay,
    adam_weight_decay=weight_decay,
    muon_weight_dimension_numbers=lambda params: jax.tree.map_with_path(_as_matrix, params),
    consistent_rms=0.2,
  )


def _as_matrix(path: Any, array: Any) -> contrib.MuonDimensionNumbers | None:
  """Returns which axes of an array are rows, and which columns; None if it is no matrix."""
  if array.ndim < 2 or 'bias' in jax.tree_util.keystr(path[-1:]):  # a bias of heads has two axes
    return None
  sides = [(np.prod(array.shape[:cut]), np.prod(array.shape[cut:])) for cut in range(1, array.ndim)]
  cut = 1 + int(np.argmin([max(side) / min(side) for side in sides]))
  return contrib.MuonDimensionNumbers(tuple(range(cut)), tuple(range(cut, array.ndim)))


OPTIMIZERS = {
  **_optimizers(),
  'sgdw': _with_default_rate(sgdw),
  'muon': _with_default_rate(muon),
}
