"""Every optax optimizer that takes a learning rate, as a component: outer and inner ones."""

import inspect
from collections.abc import Callable
from typing import Any

import optax


def _optimizers() -> dict[str, Callable[..., optax.GradientTransformation]]:
  """Every optax optimizer that takes a learning rate, which is 1e-3 unless the spec says more."""
  takes_rate = lambda f: 'learning_rate' in inspect.signature(f).parameters
  usable = lambda name: not name.startswith(('_', 'scale_')) and name != 'lbfgs'  # needs values
  made = {n: f for n, f in vars(optax).items() if usable(n) and inspect.isfunction(f)}
  return {n: _with_default_rate(f) for n, f in made.items() if takes_rate(f)}


def _with_default_rate(make: Callable[..., Any]) -> Callable[..., Any]:
  """Gives the learning rate a default and leaves the arguments that a spec can write."""
  writable = lambda default: default is None or isinstance(default, bool | int | float)
  parameters = [inspect.Parameter('learning_rate', inspect.Parameter.KEYWORD_ONLY, default=1e-3)]
  for parameter in inspect.signature(make).parameters.values():
    if parameter.name != 'learning_rate' and writable(parameter.default):
      kind = float | None if parameter.default is None else type(parameter.default)
      keyword = inspect.Parameter.KEYWORD_ONLY
      parameters.append(parameter.replace(kind=keyword, annotation=kind))

  def optimizer(**arguments: Any) -> Any:
    return make(**arguments)

  optimizer.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
  return optimizer


OPTIMIZERS = _optimizers()
