"""Reads the `Args:` sections of docstrings for --help, so that each meaning is written once."""

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any


def meanings(function: Callable[..., Any]) -> dict[str, str]:
  """Returns the meaning of each argument, on one line, from the `Args:` section of a docstring.

  For a NamedTuple it is the section `Attributes:`.

  >>> def halve(rate: float, every: int):
  ...   '''Returns a rate.
  ...
  ...   Args:
  ...     rate: of
  ...       learning.
  ...     every (int): steps.
  ...   '''
  >>> meanings(halve)
  {'rate': 'of learning.', 'every': 'steps.'}
  """
  section = (*re.split(r'\n(?:Args|Attributes):\n', _text(function), maxsplit=1), '')[1]
  section = re.split(r'\n\S', section)[0]  # to the next heading
  indent = re.match(r' *', section)[0]  # type: ignore[index]
  entries = re.split(rf'^{indent}\*{{0,2}}(\w+)(?: \([^)]*\))?:', section, flags=re.MULTILINE)
  return {
    name: ' '.join(said.split()) for name, said in zip(entries[1::2], entries[2::2], strict=True)
  }


def summary(function: Callable[..., Any]) -> str:
  """Returns the first paragraph of a docstring, on one line."""
  return ' '.join(_text(function).partition('\n\n')[0].split())


def first_sentence(text: str) -> str:
  """Returns a text up to its first full stop before a capital letter.

  >>> first_sentence('The rate, e.g. 0.1. See Smith.')
  'The rate, e.g. 0.1.'
  """
  return re.split(r'(?<=\.)\s+(?=[A-Z:`])', text)[0]


def document(function: Any, said: str, arguments: Mapping[str, str]) -> None:
  """Gives a function made from others a docstring that `summary` and `meanings` read."""
  entries = '\n'.join(f'  {name}: {meaning}' for name, meaning in arguments.items())
  function.__doc__ = f'{said}\n\nArgs:\n{entries}\n'


def _text(function: Callable[..., Any]) -> str:
  if isinstance(function, functools.partial):
    function = function.func
  return inspect.getdoc(function) or ''
