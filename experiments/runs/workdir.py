"""The folder of a run: which flags and data it belongs to, and which process has it."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.output.results import write_text
from experiments.runs.lock import NAME as LOCK
from experiments.runs.lock import lock
from experiments.runs.setup import DEFINING, Setup, brief_specs, with_defaults
from metakit import workdir as opened
from metakit.tasks import Task, fingerprint_of
from metakit.workdir import DATA, FLAGS, check_same_data, read_flags


def own_workdir(workdir: Path, specs: Mapping[str, Any]) -> None:
  """Claims a workdir for a run and locks it for as long as this process lives.

  Raises:
    ValueError: like `claim_workdir`, and if another process has the workdir; nothing is changed.
    OSError: if it cannot be written.
  """
  check_claim(workdir, specs)  # before the lock is written, since the folder may be something else
  lock(workdir / LOCK)
  claim_workdir(workdir, specs)


def claim_workdir(workdir: Path, specs: Mapping[str, Any]) -> None:
  """Makes the folder of a run, or checks that it belongs to the same flags.

  Raises:
    ValueError: if it belongs to other flags, naming those that differ, or holds other files.
  """
  check_claim(workdir, specs)
  if not (workdir / FLAGS).exists():
    write_text(workdir / FLAGS, json.dumps(specs, indent=2) + '\n')


def check_claim(workdir: Path, specs: Mapping[str, Any]) -> None:
  """Raises ValueError like `claim_workdir`; writes nothing."""
  if not (workdir / FLAGS).exists():
    if workdir.exists() and any(path.name != LOCK for path in workdir.iterdir()):
      raise ValueError(f'{workdir} holds files but no {FLAGS}; use an empty or new --workdir')
    return
  theirs, ours = with_defaults(read_flags(workdir)), with_defaults(specs)
  differ = [
    f'--{name} is {theirs.get(name)} there and {ours[name]} here'
    for name in ours
    if name != DATA and theirs.get(name) != ours[name]
  ]
  if differ:
    raise ValueError(
      f'{workdir} belongs to other flags: {"; ".join(differ)}; use another --workdir'
    )
  check_same_data(workdir, theirs.get(DATA, {}), specs.get(DATA, {}))


def checksums_of(setup: Setup) -> dict[str, str | None]:
  """Returns the fingerprints of the data that a run is trained, validated and tested on."""
  tested = {split: fingerprint_of(setup.test_task, split) for split in ('validation', 'test')}
  return {'train': fingerprint_of(setup.task, 'train'), **tested}


def read_specs(workdir: Path) -> dict[str, Any]:
  """Returns the DEFINING flags that a run was started with.

  Raises:
    ValueError: if the folder is no workdir of experiments.train, or its flags are damaged.
  """
  flags = opened.open_workdir(workdir, DEFINING).flags
  return {name: flags[name] for name in DEFINING}


def default_workdir(specs: Mapping[str, Any]) -> Path:
  """Returns a folder under runs/ whose name is a function of the flags, so that no two clash.

  Arguments at their defaults are left out, so the name stays when a component gains an argument.
  """
  name = lambda key: specs[key].partition(':')[0]
  digest = hashlib.sha256(json.dumps(brief_specs(specs), sort_keys=True).encode()).hexdigest()[:8]
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
