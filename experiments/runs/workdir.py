"""The workdir of a command: its name, its flags with their defaults, and the data it belongs to."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.runs.setup import DEFINING, OPTIONAL, Setup, brief_specs, with_defaults
from metakit import workdir
from metakit.fingerprint import fingerprint_of_params
from metakit.tasks import Task, fingerprint_of

FLAG = '--{}'.format  # name of a flag -> how the messages of commands write it


def own_workdir(folder: Path, specs: Mapping[str, Any]) -> None:
  """Claims and locks a workdir; see metakit.workdir.own_workdir."""
  workdir.own_workdir(folder, specs, complete=with_defaults, named=FLAG)


def claim_workdir(folder: Path, specs: Mapping[str, Any]) -> None:
  """Claims a workdir without a lock; see metakit.workdir.claim_workdir."""
  workdir.claim_workdir(folder, specs, complete=with_defaults, named=FLAG)


def checksums_of(setup: Setup) -> dict[str, str | None]:
  """Returns the fingerprints of the data that a run is trained, validated and tested on.

  A teacher is among them, so that a run goes on with the same one alone.
  """
  tested = {split: fingerprint_of(setup.test_task, split) for split in ('validation', 'test')}
  taught = {} if setup.teacher is None else {'teacher': fingerprint_of_params(setup.teacher)}
  return {'train': fingerprint_of(setup.task, 'train'), **tested, **taught}


def read_specs(folder: Path) -> dict[str, Any]:
  """Returns the DEFINING flags that a run was started with.

  Raises:
    ValueError: if the folder is no workdir of experiments.train, or its flags are damaged.
  """
  flags = workdir.open_workdir(folder, [name for name in DEFINING if name not in OPTIONAL]).flags
  return {name: flags.get(name) for name in DEFINING}


def default_workdir(specs: Mapping[str, Any]) -> Path:
  """Returns a folder under runs/ whose name is a function of the flags, so that no two clash.

  Arguments at their defaults are left out, so the name stays when a component gains an argument.
  """
  name = lambda key: specs[key].partition(':')[0]
  # Without flags that an earlier version did not have, so that its runs are found again.
  brief = {k: v for k, v in brief_specs(specs).items() if k not in OPTIONAL or v is not None}
  digest = hashlib.sha256(json.dumps(brief, sort_keys=True).encode()).hexdigest()[:8]
  return Path('runs') / f'{name("task")}-{name("learner")}-{digest}'


def check_former_split(spec: str, task: Task) -> None:
  """Raises ValueError if a run of an earlier version had other classes in its parts.

  The earlier version had no argument `split`. It drew classes without regard to their groups and to
  the names of folders.

  Args:
    spec: the spec of the task in the flags of the run.
    task: the task that this version makes of it.
  """
  if task.parted() not in ('given', 'groups') or re.search(r'[:,]split=', spec):
    return
  raise ValueError(
    f'this run began when classes were drawn one by one, and now there are {task.said()}: classes '
    'that it was trained on would be tested; train again in another --workdir'
  )
