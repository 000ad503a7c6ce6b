"""Components of a user's own: package.module:factory in place of a name, in any spec.

The factory's parameters with defaults are the spec's arguments, as for the components known here.
It may take what commands supply (`supplied` below) by naming it.
"""

import functools
import importlib.util
import inspect
import re
from collections.abc import Callable
from typing import Any

KINDS = {  # what each factory has to return
  'task': ('metakit.tasks:Task',),
  'learner': ('metakit.types:MetaLearner',),
  'head': ('metakit.types:MetaLearner',),
  'network': ('metakit.models:Model', 'metakit.models:SequenceModel'),
}
_WORD = r'[^\W\d]\w*'
_OWN = re.compile(rf'({_WORD}(?:\.{_WORD})*:{_WORD})(?=:|\Z)')


def own_name(spec: str) -> str | None:
  """Returns package.module:factory if a spec has the form of one's own component.

  >>> own_name('birds.tasks:calls:ways=5'), own_name('omniglot:ways=5')
  ('birds.tasks:calls', None)
  """
  match = _OWN.match(spec)
  return match[1] if match else None


def is_module(name: str) -> bool:
  """Tells whether package.module:factory may name a module.

  A name with a dot may. A single word must be a module that can be found, since it may be a known
  name with a typing error.
  """
  module = name.partition(':')[0]
  return '.' in module or importlib.util.find_spec(module) is not None


@functools.cache  # equal specs make equal components
def own_factory(kind: str, name: str, supplied: tuple[str, ...] = ()) -> Callable[..., Any]:
  """Imports a factory, and checks what it makes.

  Args:
    kind: the kind of component, a key of KINDS.
    name: package.module:factory.
    supplied: parameters that the command supplies, if the factory has them.

  Raises:
    ValueError: if there is none, it is no factory, or nothing gives one of its parameters.
  """
  module, _, attribute = name.partition(':')
  factory = getattr(_import(kind, name, module), attribute, None)
  if not callable(factory):
    raise ValueError(f'{kind} {name}: module {module} has no function {attribute}')
  for parameter in inspect.signature(factory).parameters.values():
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
      continue
    if parameter.default is parameter.empty and parameter.name not in supplied:
      raise ValueError(
        f'{kind} {name}: nothing gives its parameter {parameter.name!r}; give it a default, which '
        f'a spec can change, or name it as one of {", ".join(supplied) or "none"}'
      )

  @functools.wraps(factory)
  def checked(**arguments: Any) -> Any:
    component = factory(**arguments)
    accepted = tuple(map(_named, KINDS[kind]))
    if not isinstance(component, accepted):
      kinds = ' or '.join(each.__name__ for each in accepted)
      raise ValueError(f'{kind} {name} returned {type(component).__name__}; return a {kinds}')
    return component

  return checked


def _named(name: str) -> type:
  """Imports a type when it is needed: a spec is also read where JAX is not loaded."""
  module, _, attribute = name.partition(':')
  return getattr(importlib.import_module(module), attribute)


def _import(kind: str, name: str, module: str) -> Any:
  try:
    return importlib.import_module(module)
  except ModuleNotFoundError as error:
    if error.name and f'{module}.'.startswith(f'{error.name}.'):
      raise ValueError(
        f'{kind} {name}: there is no module {error.name}; give package.module:factory, as Python '
        'would import it from this folder'
      ) from None
    raise ValueError(f'{kind} {name}: {module} cannot be imported ({error})') from error
  except (ImportError, SyntaxError) as error:
    raise ValueError(f'{kind} {name}: {module} cannot be imported ({error})') from error
