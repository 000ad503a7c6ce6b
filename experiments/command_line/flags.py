"""The flags of the commands. The same flag means the same in all of them."""

import os
import re
from collections.abc import Callable
from typing import Any, TypeVar

from absl import flags

from metakit.episodes.class_incremental import Sessions
from metakit.keys import MAX_SEED
from metakit.learners.in_context import LAYOUTS

T = TypeVar('T')

COMMON = {
  'task': 'task spec, the training distribution, glyphs by default (evaluate: to evaluate on; '
  'sweep: projected or a class of functions)',
  'seed': 'names the initial parameters, the training tasks and the test episodes (evaluate: the '
  "test episodes alone, the run's own by default)",
  'workdir': 'folder of the run; of a training by default one under runs/ named after its flags',
  'episodes': 'test episodes',
  'data_dir': 'where real data lies: the folder of one data set or the folder above it',
}


# The flags that commands share, in the groups of --help.
GROUPS = {
  'Components (see below)': (
    'task',
    'test_task',
    'learner',
    'head',
    'network',
    'objective',
    'optimizer',
    'schedule',
  ),
  'Training': (
    'start',
    'teacher',
    'steps',
    'tasks_per_step',
    'tasks_at_once',
    'clip_norm',
    'steps_per_dispatch',
    'head_steps',
    'head_tasks_per_step',
    'validate_every',
    'validation_episodes',
    'save_every',
    'save_minutes',
  ),
  'Test': ('test', 'episodes', 'split', 'seed', 'curve'),
  'Files': ('workdir', 'name', 'data_dir', 'table_budget_gib'),
  'Devices and processes': (
    'parallel',
    'cpu_devices',
    'coordinator',
    'num_processes',
    'process_id',
    'meeting_seconds',
  ),
}

# flag -> field of Sessions, help
SIZES = {
  'base_ways': ('base_ways', 'base classes'),
  'base_shots': ('base_shots', 'examples of each base class'),
  'session_ways': ('ways', 'new classes of a session'),
  'session_shots': ('shots', 'examples of each new class'),
  'sessions': ('number', 'sessions after the base classes'),
  'session_queries': ('queries', 'queries of every class, after each session'),
}


def options_of_flags(kind: Callable[..., T], no_default: tuple[str, ...] = ()) -> T:
  """Returns a NamedTuple. Each field is the value of the flag of its name.

  Args:
    kind: the NamedTuple.
    no_default: names of flags without a default here: their field is None unless they were set.
  """
  names: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]
  known = {name: flags.FLAGS[name] for name in names}
  counts = lambda flag: flag.present or flag.name not in no_default
  return kind(**{name: flag.value if counts(flag) else None for name, flag in known.items()})


def sizes_of_flags() -> Sessions:
  """Returns the sizes of a stream of sessions."""
  sizes: dict[str, Any] = {field: flags.FLAGS[name].value for name, (field, _) in SIZES.items()}
  return Sessions(**sizes)


def read_flagfile(path: str) -> dict[str, str]:
  """Returns the flags in a file, by their names.

  Raises:
    ValueError: if there is no such file.
  """
  try:
    lines = flags.FlagValues().read_flags_from_files([f'--flagfile={path}'])
  except flags.Error as error:
    raise ValueError(str(error).removeprefix('ERROR:: ')) from None
  parts = [text.lstrip('-').partition('=') for text in lines]
  return {name: value for name, _, value in parts}


def define_common() -> None:
  """Defines the flags that every command has."""
  flags.DEFINE_string('task', None, COMMON['task'])
  flags.DEFINE_integer('seed', 0, COMMON['seed'], lower_bound=0, upper_bound=MAX_SEED)
  flags.DEFINE_string('workdir', None, COMMON['workdir'])
  flags.DEFINE_integer('episodes', 1000, COMMON['episodes'], lower_bound=1)
  flags.DEFINE_enum('parallel', 'none', ['none', 'pmap', 'shard_map'], 'how tasks share devices')
  flags.DEFINE_string('data_dir', os.environ.get('METAKIT_DATA'), COMMON['data_dir'])
  flags.DEFINE_float(
    'table_budget_gib',
    2.0,
    'GiB of the largest table that is kept in device memory; larger ones stay on the host',
    lower_bound=0.0,
  )


def define_test() -> None:
  """Defines the flags of a test with its report."""
  flags.DEFINE_enum(
    'curve',
    'full',
    ['full', 'short', 'none'],
    'adaptation curve of the report: with all points, with few points and episodes, or none',
  )


def define_name(usual: str, said: str, values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines --name. It becomes part of file names, and cannot lead to another folder."""
  flags.DEFINE_string('name', usual, said, flag_values=values)
  flags.register_validator(
    'name',
    lambda name: re.fullmatch(r'\w[\w.+=,@ -]{0,99}', name) is not None,
    'is part of file names: use letters, digits, and any of ._-+=,@ after the first',
    flag_values=values,
  )


def define_training() -> None:
  """Defines the flags of a training run."""
  flags.DEFINE_string(
    'test_task', None, 'task spec for validation and test; --task by default, or glyphs'
  )
  flags.DEFINE_string('learner', 'prototypical', 'learner spec')
  flags.DEFINE_string('network', None, "network spec; the learner's usual one by default")
  flags.DEFINE_string(
    'objective',
    None,
    'objective spec: the density that is predicted of the targets of a regression; by default what '
    'the learner usually predicts',
  )
  flags.DEFINE_string('optimizer', 'adam', 'outer optimizer spec: any of optax')
  flags.DEFINE_string('schedule', 'cosine', 'schedule spec of the outer learning rate')
  flags.DEFINE_float('clip_norm', 0.0, 'gradients are clipped to this global norm; 0: not at all')
  flags.DEFINE_string(
    'start', None, 'the run, file or name of the zoo whose parameters training begins with'
  )
  flags.DEFINE_string(
    'teacher',
    None,
    'the run, file or name of the zoo from whose answers --learner=pretrained learns too; it has '
    'the same network and classes',
  )
  flags.DEFINE_integer('steps', 800, 'meta-training steps', lower_bound=1)
  flags.DEFINE_integer('tasks_per_step', 1, 'tasks in each meta-gradient', lower_bound=1)
  flags.DEFINE_integer(
    'tasks_at_once',
    0,
    'tasks that a device computes side by side; 0: all of them, or one if they are images on a CPU',
    lower_bound=0,
  )
  flags.DEFINE_integer('steps_per_dispatch', 10, 'steps in one call to the devices', lower_bound=1)
  flags.DEFINE_integer('save_every', 500, 'steps between checkpoints', lower_bound=1)
  flags.DEFINE_float(
    'save_minutes',
    10.0,
    'minutes between checkpoints, if that is more often; 0: never',
    lower_bound=0.0,
  )
  flags.DEFINE_integer('validate_every', 500, 'steps between validations', lower_bound=1)
  flags.DEFINE_integer('validation_episodes', 200, 'episodes of a validation', lower_bound=1)
  flags.DEFINE_bool('test', True, 'whether to test at the end')


def define_heads() -> None:
  """Defines the flags of commands that compare heads, beside the common ones."""
  flags.DEFINE_multi_string('head', None, 'a head spec; once for each', required=True)
  flags.DEFINE_multi_string('test_task', None, 'a task spec to test on; once for each')
  flags.DEFINE_enum('split', 'test', ['validation', 'test'], 'which classes test episodes are of')
  define_name('heads', 'name of the files that are written')
  flags.DEFINE_integer('head_steps', 2000, 'meta-training steps of a head', lower_bound=1)
  flags.DEFINE_integer('head_tasks_per_step', 4, 'tasks in each of these steps', lower_bound=1)


def define_sessions() -> None:
  """Defines the flags for the sizes of a stream of sessions."""
  usual = Sessions()
  for name, (field, said) in SIZES.items():
    flags.DEFINE_integer(name, getattr(usual, field), said, lower_bound=1)


def define_comparison() -> None:
  """Defines the flags of a comparison of learners, beside the common ones."""
  flags.DEFINE_string('training', None, 'file of flags of experiments.train', required=True)
  flags.DEFINE_multi_string('learner', None, 'a learner spec; once for each', required=True)
  flags.DEFINE_list('inner_steps', ['1', '5', '10'], 'numbers of inner steps at test time')


def define_sweep() -> None:
  """Defines the flags of a sweep beside the common ones."""
  flags.DEFINE_list('pools', ['0', '4', '8', '12', '16'], 'log2 of the numbers of tasks')
  flags.DEFINE_list('widths', ['16', '32', '64'], 'widths of the transformers')
  flags.DEFINE_string('network', 'transformer:depth=2', 'transformer spec without width')
  flags.DEFINE_enum('layout', 'pairs', list(LAYOUTS), 'how examples become tokens')
  flags.DEFINE_float('learning_rate', 1e-3, 'highest learning rate of Adam')
  flags.DEFINE_integer('steps', 2000, 'meta-training steps of each model', lower_bound=1)
  flags.DEFINE_integer('tasks_per_step', 16, 'tasks in each meta-gradient', lower_bound=1)
