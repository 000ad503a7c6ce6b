"""docs/library.md: tables of samplers, data, networks and learners, by their docstrings."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.tables.pages import markdown_table, replace_between
from metakit import data, episodes, learners, networks
from metakit.components.docstrings import first_sentence, summary
from metakit.sources import EpisodeSource

PAGE = Path('docs') / 'library.md'


def sources_of_episodes() -> Iterator[Callable[..., Any]]:
  """Yields the functions of metakit.episodes that return a source, in order of their modules."""
  for module in pkgutil.iter_modules(episodes.__path__, f'{episodes.__name__}.'):
    for name, function in vars(importlib.import_module(module.name)).items():
      own = inspect.isfunction(function) and function.__module__ == module.name
      if own and name[0] != '_' and inspect.signature(function).return_annotation is EpisodeSource:
        yield function


def public(package: ModuleType) -> Iterator[Callable[..., Any]]:
  """Yields the public functions of a package."""
  yield from filter(inspect.isfunction, map(vars(package).get, package.__all__))


def listing(functions: Iterator[Callable[..., Any]]) -> str:
  """Returns a row for each function: its name, with a link to its file, and what it does."""
  rows = []
  for function in sorted(functions, key=lambda function: function.__name__):
    file = Path('..', *function.__module__.split('.')).with_suffix('.py')
    rows.append([f'[`{function.__name__}`]({file})', first_sentence(summary(function))])
  return markdown_table(['name', 'what'], rows)


def texts(root: Path) -> dict[Path, str]:
  """Returns what the page should say.

  Raises:
    OSError: if the page cannot be read.
    ValueError: if the page lacks the place of a table.
  """
  text = (root / PAGE).read_text(encoding='utf-8')
  text = replace_between(text, listing(sources_of_episodes()), 'samplers')
  for package in (data, networks, learners):
    text = replace_between(text, listing(public(package)), package.__name__.rpartition('.')[2])
  return {PAGE: text}
