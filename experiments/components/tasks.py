"""The tasks that specs name.

A data source of metakit.data is one by its signature (data_sources). For another task, write a
function that returns a Task, and put it into TASKS. Its parameters with defaults are the arguments
of the spec. `--help` and the error messages follow from them. sequence_tasks has examples.
"""

import functools
import re
from collections.abc import Callable
from pathlib import Path

from experiments.components import drawn_tables, process_tasks, sequence_tasks
from experiments.components.cue_tasks import spurious_task
from experiments.components.data_sources import TABLE_TASKS, tfds_task
from experiments.components.domain_tasks import domains_task, writers_task
from experiments.components.passages import passages_parts
from experiments.components.sequence_tasks import (
  FUNCTION_CLASSES,
  each_function_task,
  mixed_functions,
)
from experiments.components.table_tasks import table_task
from metakit.components.specs import parse
from metakit.data.clinc150 import clinc150
from metakit.retrieval import with_passages
from metakit.tasks import Task

TASKS: dict[str, Callable[..., Task]] = {
  **TABLE_TASKS,
  'sinusoid': sequence_tasks.sinusoid_task,
  'projected': sequence_tasks.projected_task,
  'categorical': sequence_tasks.categorical_task,
  'mixed_processes': process_tasks.mixed_processes_task,
  'image_completion': process_tasks.image_completion_task,
  'tables': drawn_tables.tables_task,
  'domains': domains_task,
  'writers': writers_task,
  'spurious': spurious_task,
  'clinc150_passages': table_task(passages_parts, told_by=[clinc150, with_passages]),
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
  component = parse('task', tasks_for(spec), spec, supplied=TASK_SUPPLIED)
  path = component.arguments.get('path')
  return (
    str(Path(path).expanduser().resolve()) if path else re.sub(r':[0-9.]+$', '', component.name)
  )


_tfds = functools.cache(tfds_task)  # equal specs make equal components


DEFAULT_TASK = 'glyphs'
# Prototypical networks are trained with more ways than they are tested with (Snell et al. 2017,
# section 3.1); other learners have an output for each way.
DEFAULT_TRAINING_TASK = {'prototypical': 'glyphs:ways=20,shots=1,queries=3'}
