"""The tasks that specs name.

To add one, write a function that returns a Task, and put it into TASKS. Its parameters with
defaults are the arguments of the spec. `--help` and the error messages follow from them.
table_tasks and sequence_tasks have examples.
"""

import functools
import re
from collections.abc import Callable
from pathlib import Path

from experiments.components import sequence_tasks, table_tasks
from experiments.components.sequence_tasks import (
  FUNCTION_CLASSES,
  each_function_task,
  mixed_functions,
)
from experiments.components.specs import parse
from metakit.tasks import Task

TASKS: dict[str, Callable[..., Task]] = {
  'glyphs': table_tasks.glyphs_task,
  'omniglot': table_tasks.omniglot_task,
  'mnist': table_tasks.mnist_task,
  'clinc150': table_tasks.clinc150_task,
  'tfds:<name>': functools.partial(table_tasks.tfds_task, '<name>'),
  'arrays': table_tasks.arrays_task,
  'folder': table_tasks.folder_task,
  'table': table_tasks.table_task,
  'sinusoid': sequence_tasks.sinusoid_task,
  'projected': sequence_tasks.projected_task,
  'categorical': sequence_tasks.categorical_task,
  **{name: each_function_task(*each) for name, each in FUNCTION_CLASSES.items()},
  'mixed_functions': each_function_task(mixed_functions, 40),
}
TASK_SUPPLIED = ('budget', 'data_dir', 'name')


def tasks_for(spec: str) -> dict[str, Callable[..., Task]]:
  """Returns TASKS, with the data set that a spec 'tfds:NAME[:VERSION]:...' names."""
  named = re.match(r'tfds:([^:=]+(:[0-9.]+(?=:|$))?)', spec)
  return {**TASKS, f'tfds:{named[1]}': _tfds(named[1])} if named else TASKS


def data_of(spec: str) -> str:
  """Returns what two tasks on the same data have in common: its place, or else their name.

  >>> data_of('tfds:omniglot:3.0.0:ways=3') == data_of('tfds:omniglot:size=28')
  True
  """
  component = parse('task', tasks_for(spec), spec, TASK_SUPPLIED)
  path = component.arguments.get('path')
  return (
    str(Path(path).expanduser().resolve()) if path else re.sub(r':[0-9.]+$', '', component.name)
  )


@functools.cache  # equal specs make equal components
def _tfds(name: str) -> Callable[..., Task]:
  return functools.partial(table_tasks.tfds_task, name)


DEFAULT_TASK = 'glyphs'
