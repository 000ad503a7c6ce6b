"""The text of --help: the flags of a command, its own first, and then all components."""

import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from absl import flags

from experiments.components import schedules, sequence_tasks, tasks
from metakit.components import learners
from metakit.components.docstrings import meanings, summary
from metakit.components.head_learners import HEAD_SUPPLIED, HEADS
from metakit.components.objectives import OBJECTIVE_SUPPLIED, OBJECTIVES
from metakit.components.optimizers import OPTIMIZERS
from metakit.components.specs import Factories, arguments_of, write_spec

WIDTH, NAMES = 100, 26  # columns of a line, and of the names on its left
MANY = 4  # if more components share an argument of one meaning, it is explained once for all

# Functions that tasks pass their arguments on to. Their docstrings say what the arguments mean.
PASSED_ON: dict[str, tuple[Callable[..., Any], ...]] = {
  'sinusoid': (sequence_tasks.sinusoid_sampler,),
  'projected': (sequence_tasks.projected,),
  'categorical': (sequence_tasks.categorical_tasks,),
}


class Kind(NamedTuple):
  """A kind of component.

  Attributes:
    title: its name, in the plural.
    of: the flags that take one.
    factories: the components.
    supplied: arguments that a spec cannot set.
  """

  title: str
  of: tuple[str, ...]
  factories: Factories
  supplied: tuple[str, ...]


KINDS = (
  Kind('tasks', ('task', 'test_task'), tasks.TASKS, tasks.TASK_SUPPLIED),
  Kind('learners', ('learner',), learners.LEARNERS, learners.LEARNER_SUPPLIED),
  Kind('heads', ('head',), HEADS, HEAD_SUPPLIED),
  Kind('networks', ('network',), learners.NETWORKS, learners.NETWORK_SUPPLIED),
  Kind('objectives', ('objective',), OBJECTIVES, OBJECTIVE_SUPPLIED),
  Kind('optimizers', ('optimizer',), OPTIMIZERS, ()),
  Kind('schedules', ('schedule',), schedules.SCHEDULES, schedules.SCHEDULE_SUPPLIED),
)


def help_text(doc: str, values: flags.FlagValues, groups: Mapping[str, tuple[str, ...]]) -> str:
  """Returns the whole text.

  Args:
    doc: docstring of the binary.
    values: the flags that it has defined.
    groups: title -> names of flags that commands share, in the order to show them. The flags of the
      command itself come first.
  """
  parts = [doc.strip(), *_flags(values, groups)]
  kinds = [kind for kind in KINDS if any(name in values for name in kind.of)]
  if kinds:
    parts.append('Components are given as name:argument=value,argument=value.')
  of = lambda kind: ', '.join(f'--{name}' for name in kind.of if name in values)
  return '\n\n'.join([*parts, *(f'{kind.title} ({of(kind)}):\n{describe(kind)}' for kind in kinds)])


def _flags(values: flags.FlagValues, groups: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
  """Yields a paragraph for each group of flags."""
  shared = {name for names in groups.values() for name in names}
  modules = values.flags_by_module_dict()
  here = sys.argv[0], 'experiments.', 'launch.'  # other packages define flags too
  ours = {f.name for module in modules if module.startswith(here) for f in modules[module]}
  for title, names in {'Flags': tuple(sorted(ours - shared)), **groups}.items():
    shown = [values[name] for name in names if name in values]
    if shown:
      yield '\n'.join([f'{title}:', *(_entry(f'--{f.name}{_usual(f)}', f.help) for f in shown)])
  yield 'Further flags, such as --flagfile=FILE (flags from a file, one a line): --helpfull.'


def _usual(flag: flags.Flag) -> str:
  if flag.default is None:
    return ''
  usual = flag.default if isinstance(flag.default, list) else [flag.default]
  return '=' + ','.join(str(each).lower() if each in (True, False) else str(each) for each in usual)


def describe(kind: Kind) -> str:
  """Returns the text of a kind: each component with its arguments, their defaults and meanings."""
  said = {name: argument_meanings(name, factory) for name, factory in kind.factories.items()}
  accepted = {n: arguments_of(kind.factories[n], kind.supplied) for n in sorted(kind.factories)}
  pairs = [(a, said[n].get(a, '')) for n, arguments in accepted.items() for a in arguments]
  usual = {pair for pair in dict.fromkeys(pairs) if pairs.count(pair) > MANY}
  lines = [_entry(*pair) for pair in dict.fromkeys(pairs) if pair in usual]
  lines = ['  Arguments of many:', *lines, ''] if lines else []
  for name, arguments in accepted.items():
    lines.append(f'  {write_spec(name, {a: p.default for a, p in arguments.items()})}')
    lines += _wrapped(summary(kind.factories[name]), 4)
    rest = [(a, said[name].get(a, '')) for a in arguments]
    lines += [_entry(*pair) for pair in rest if pair not in usual]
  return '\n'.join(lines)


def argument_meanings(name: str, factory: Callable[..., Any]) -> dict[str, str]:
  """Returns what the arguments of a component mean, by its docstring or what they are passed to."""
  known: dict[str, str] = {}
  for each in PASSED_ON.get(name, ()):
    known |= meanings(each)
  return known | meanings(factory)


def _entry(name: str, said: str | None) -> str:
  """Returns a name and, to its right, what it means."""
  left = f'    {name}'
  lines = _wrapped(said or '', NAMES)
  if lines and len(left) < NAMES:
    lines[0] = left + lines[0][len(left) :]
  else:
    lines.insert(0, left)
  return '\n'.join(lines)


def _wrapped(text: str, indent: int) -> list[str]:
  there = ' ' * indent
  options: dict[str, Any] = {'initial_indent': there, 'subsequent_indent': there}
  return textwrap.wrap(' '.join(text.split()), WIDTH, break_long_words=False, **options)
