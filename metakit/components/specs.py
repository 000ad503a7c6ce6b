"""Component specs: `name:argument=value,argument=value`, checked against a factory's signature.

The arguments of a spec are the factory's parameters that the binary does not supply itself. Values
are converted to the annotated type: 5, 1e-3, true, none, word, and 0.1..5.0 for a pair of numbers.
A value with commas stands in double quotes, in which "" is a quote: path="/a, b". Where a factory
has an argument `path`, that may come first and without its name: folder:/photos,ways=5.
A component of one's own is package.module:factory, with arguments as the others (`own`).
"""

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from metakit.components.own import KINDS, is_module, own_factory, own_name
from metakit.components.ranges import check_argument

Factories = Mapping[str, Callable[..., Any]]
FIRST = 'path'  # the argument that may come first and without its name


class Component(NamedTuple):
  """A component that was asked for.

  Attributes:
    name: its name.
    arguments: all its arguments, defaults filled in.
    factory: makes it.
  """

  name: str
  arguments: dict[str, Any]
  factory: Callable[..., Any]

  def __str__(self) -> str:
    return write_spec(self.name, self.arguments)

  def brief(self) -> str:
    """Returns the spec without the arguments that are at their defaults."""
    usual = inspect.signature(self.factory).parameters
    other = {name: v for name, v in self.arguments.items() if v != usual[name].default}
    return write_spec(self.name, other)


def write_spec(name: str, arguments: Mapping[str, Any]) -> str:
  """Returns the spec string of a component.

  >>> write_spec('conv4', {'width': 64, 'norm': 'batch', 'bias': None, 'range': (0.1, 5.0)})
  'conv4:width=64,norm=batch,bias=none,range=0.1..5.0'
  >>> write_spec('folder', {'path': '/birds, 2024'})
  'folder:path="/birds, 2024"'
  """
  parts = ','.join(f'{key}={_write(value)}' for key, value in arguments.items())
  return f'{name}:{parts}' if parts else name


def _write(value: Any) -> str:
  if isinstance(value, tuple):
    return '..'.join(map(str, value))
  if value is None or isinstance(value, bool):
    return str(value).lower()
  text = str(value)
  plain = text == text.strip() and ',' not in text and not text.startswith('"')
  return text if plain else '"{}"'.format(text.replace('"', '""'))


_QUOTED = r'"(?:[^"]|"")*"'
# An argument: its name and '=', if it has them, and a value that is quoted or holds no comma.
_ARGUMENT = re.compile(rf'\s*(?:(\w+)\s*=\s*)?({_QUOTED}(?=\s*(?:,|\Z))|[^,]*)\s*(?:,|\Z)')


def arguments_in(text: str) -> list[tuple[str | None, str]]:
  """Splits what follows the name of a spec into pairs (argument, value); None for no argument name.

  >>> arguments_in('"/a, b",ways=5')
  [(None, '/a, b'), ('ways', '5')]
  """
  pairs: list[tuple[str | None, str]] = []
  for name, value in _ARGUMENT.findall(text):
    value = value.strip()
    quoted = re.fullmatch(_QUOTED, value)
    if name or value:
      pairs.append((name or None, value[1:-1].replace('""', '"') if quoted else value))
  return pairs


def name_in(spec: str) -> str:
  """Returns the name in a spec, that is what stands before its arguments."""
  return own_name(spec) or spec.partition(':')[0]


def parse(
  kind: str, factories: Factories, spec: str, *, supplied: tuple[str, ...] = ()
) -> Component:
  """Reads a spec.

  Args:
    kind: what it is, for messages ('task', 'learner', ...).
    factories: the known ones by name.
    spec: 'name', 'name:argument=value,...' or 'name:PATH,argument=value,...'.
    supplied: parameters that the binary supplies, which a spec cannot set.

  Raises:
    ValueError: for an unknown name or argument (the accepted ones are listed) or a value of
      another type.

  >>> def network(width: int = 8, dtype: str | None = None): return width, dtype
  >>> [parse('network', {'net': network}, f'net:dtype={d}').arguments for d in ('bf16', 'none')]
  [{'width': 8, 'dtype': 'bf16'}, {'width': 8, 'dtype': None}]
  """
  spec = spec.strip()
  name = max((n for n in factories if f'{spec}:'.startswith(f'{n}:')), key=len, default='')
  imported = None if name or kind not in KINDS else own_name(spec)
  if imported and is_module(imported):
    name, factories = imported, {imported: own_factory(kind, imported, supplied)}
  text = spec[len(name) + 1 :]
  if not name:
    name = spec.partition(':')[0]
    raise ValueError(f'unknown {kind} {name!r}; known: {", ".join(sorted(factories))}')
  accepted = arguments_of(factories[name], supplied)
  arguments = {key: parameter.default for key, parameter in accepted.items()}
  for place, (key, value) in enumerate(arguments_in(text)):
    if key is None and place == 0 and FIRST in accepted:
      key = FIRST
    if key not in accepted:
      defaults = write_spec('', arguments)[1:].replace(',', ', ')
      unknown = value if key is None else key
      raise ValueError(f'{kind} {name} has no argument {unknown!r}; accepted: {defaults or "none"}')
    arguments[key] = _convert(f'{kind} {name}: {key}', value, accepted[key])
  return Component(name, arguments, factories[name])


def build(component: Component, **supplied: Any) -> Any:
  """Makes a component. Its factory gets those of the `supplied` values that it takes.

  Args:
    component: what `parse` returned.
    **supplied: what the binary supplies.
  """
  takes = inspect.signature(component.factory).parameters
  return component.factory(
    **{k: v for k, v in supplied.items() if k in takes}, **component.arguments
  )


def arguments_of(factory: Callable[..., Any], supplied: tuple[str, ...]) -> dict[str, Any]:
  """Returns the parameters that a spec may set.

  Those are not supplied, and have a default that a spec can write: a function, say, is none.
  """
  parameters = inspect.signature(factory, eval_str=True).parameters
  settable = lambda p: p.name not in supplied and _writable(p.default)
  return {name: p for name, p in parameters.items() if settable(p)}


def _writable(default: Any) -> bool:
  pair = isinstance(default, tuple) and len(default) == 2
  return pair or default is None or isinstance(default, bool | int | float | str)


_WORDS = {'true': True, 'false': False, 'none': None}


def _convert(what: str, text: str, parameter: inspect.Parameter) -> Any:
  """Converts `text` to the annotated type of a parameter, or the type of its default."""
  annotation = parameter.annotation
  choices = [annotation]
  if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
    choices = list(typing.get_args(annotation))
  if not any(_known(choice) for choice in choices):
    choices = [type(parameter.default)]
  for choice in sorted(choices, key=lambda choice: choice is str):  # str last: it takes any text
    try:
      value = _read(text, choice)
    except ValueError:
      continue
    check_argument(what, parameter.name, value, default=parameter.default)
    return value
  names = ' or '.join(getattr(choice, '__name__', str(choice)) for choice in choices)
  raise ValueError(f'{what}={text!r} is not of type {names}')


def _known(choice: Any) -> bool:
  return choice in (bool, int, float, str, type(None)) or typing.get_origin(choice) is tuple


def _read(text: str, kind: Any) -> Any:
  if kind in (bool, type(None)):
    value = _WORDS.get(text.lower(), text)
    if type(value) is not kind:
      raise ValueError
    return value
  if typing.get_origin(kind) is tuple or kind is tuple:
    low, dots, high = text.partition('..')
    if not dots:
      raise ValueError
    return float(low), float(high)
  if kind is float or kind is int or kind is str:
    return kind(text)
  raise ValueError
