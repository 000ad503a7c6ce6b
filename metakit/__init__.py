"""metakit: meta-learning in JAX.

A task is a pure function of a key. A learner is a tuple of pure functions. Everything else
(batching, devices, checkpoints, evaluation) is written once, and works with both.

`import metakit` reaches all that is public, such as `metakit.episodes.few_shot`. Each name is
imported when it is first used. metakit/__init__.pyi lists the names and their modules.
"""

import ast
import importlib
from pathlib import Path
from typing import Any

from metakit.compiler import turn_off_wrong_fusions, used_a_cpu

__version__ = '0.1.0'


def _origins(stub: Path) -> dict[str, str]:
  """Returns the module that each public name is imported from."""
  nodes = ast.parse(stub.read_text(encoding='utf-8')).body
  imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
  return {each.name: str(node.module) for node in imports for each in node.names}


_ORIGINS = _origins(Path(__file__).with_suffix('.pyi'))
_OF_EXTRAS = {
  'estimators'
}  # is reached by its name, not by `import *` or help, which need no extra
__all__ = sorted(_ORIGINS.keys() - _OF_EXTRAS)


def __getattr__(name: str) -> Any:
  if name not in _ORIGINS:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = _ORIGINS[name]
  if module == __name__:
    return importlib.import_module(f'{module}.{name}')  # which Python makes an attribute
  globals()[name] = value = getattr(importlib.import_module(module), name)
  return value


def __dir__() -> list[str]:
  return sorted({*(name for name in globals() if name.startswith('__')), *__all__})


turn_off_wrong_fusions(late=used_a_cpu())  # before anything asks for a device
