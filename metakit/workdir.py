"""The folder of a run: the flags and data that it belongs to, its checkpoints, its lock.

flags.json holds the flags that determine the parameters that the run ends with, and the checksums
of its data (metakit.fingerprint). metakit.checkpoint writes the folder checkpoints/. Commands and
Python use the same lock (metakit.lock). So this is refused while a command trains in the folder:

  own_workdir('runs/mine')  # goes on with a run; a new one is given its flags
  with checkpoints('runs/mine/checkpoints') as saved:
    ...
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from metakit.checkpoint import checkpoints
from metakit.distributed import is_first
from metakit.files import write_text
from metakit.lock import NAME, lock
from metakit.train import TrainState

FLAGS = 'flags.json'
DATA = 'data'  # the key of the checksums of the data; an earlier version wrote none
CHECKPOINTS = 'checkpoints'


class Workdir(NamedTuple):
  """A folder that a run has claimed.

  Attributes:
    folder: where it is.
    flags: the flags that the run was begun with, by name; components as specs.
    data: the checksum of each part of its data; None for a part whose episodes need no data. It is
      empty for a run of an earlier version.
  """

  folder: Path
  flags: dict[str, Any]
  data: dict[str, str | None]

  def check_data(self, checksums: Mapping[str, str | None]) -> None:
    """Raises ValueError if the run's data are not those with these checksums."""
    check_same_data(self.folder, self.data, checksums)

  def restore(self, state: TrainState, best: bool = False) -> tuple[int, TrainState]:
    """Returns the step and state of the newest whole checkpoint, or of the best.

    Args:
      state: the training state or its shapes (jax.eval_shape).
      best: whether to take the checkpoint with the highest validation score.

    Raises:
      ValueError: if there is none, or it is of another learner, network or optimizer.
    """
    with checkpoints(self.folder / CHECKPOINTS, set_aside=False) as saved:
      restored = saved.restore(state, best)
    if restored is None:
      raise ValueError(f'{self.folder} has no checkpoint yet; train first')
    return restored


def open_workdir(folder: str | Path, needed: Iterable[str] = ()) -> Workdir:
  """Opens the folder of a run to read it.

  Args:
    folder: the folder of the run.
    needed: names of flags that it must have.

  Raises:
    ValueError: if the folder is no workdir, or its flags are damaged, or a needed one is missing.
  """
  path = Path(folder)
  flags = read_flags(path)
  missing = [name for name in needed if name not in flags]
  if missing or not flags:
    lacks = f' or lacks {missing[0]}' if missing else ''
    raise ValueError(
      f'{path} is no workdir of a training: its {FLAGS} is missing{lacks}; train first, or check '
      'workdir=FOLDER'
    )
  data = flags.pop(DATA, {})
  return Workdir(path, flags, data)


def own_workdir(
  folder: str | Path,
  flags: Mapping[str, Any] | None = None,
  *,
  complete: Callable[[Mapping[str, Any]], dict[str, Any]] = dict,
  named: Callable[[str], str] = str,
) -> Workdir:
  """Claims a folder for a run and locks it for as long as this process lives.

  Of several processes, the first one checks, locks and writes. The others go on at once.

  Args:
    folder: where the run is, or is to be.
    flags: what determines the parameters that the run ends with, as JSON can hold it; under 'data'
      the checksums of its data. None goes on with the run that is there.
    complete: flags -> flags with the defaults of those that were added since.
    named: name of a flag -> how messages write it.

  Raises:
    ValueError: like `claim_workdir`, and if another process has the folder; nothing is changed.
      Without flags, like `open_workdir`.
    OSError: if it cannot be written.
  """
  path = Path(folder)
  if flags is None:
    opened = open_workdir(path)
    lock(path / NAME)
    return opened
  if is_first():
    # Before the lock is written, since the folder may be something else.
    check_claim(path, flags, complete=complete, named=named)
    lock(path / NAME)
    claim_workdir(path, flags, complete=complete, named=named)
  return Workdir(path, {n: v for n, v in flags.items() if n != DATA}, dict(flags.get(DATA, {})))


def claim_workdir(
  folder: Path,
  flags: Mapping[str, Any],
  *,
  complete: Callable[[Mapping[str, Any]], dict[str, Any]] = dict,
  named: Callable[[str], str] = str,
) -> None:
  """Makes the folder of a run, or checks that it belongs to the same flags. It does not lock.

  Args:
    folder: where the run is, or is to be.
    flags: see `own_workdir`.
    complete: see `own_workdir`.
    named: see `own_workdir`.

  Raises:
    ValueError: if it belongs to other flags, naming those that differ, or holds other files.
    OSError: if it cannot be written.
  """
  check_claim(folder, flags, complete=complete, named=named)
  if not (folder / FLAGS).exists():
    write_text(folder / FLAGS, json.dumps(flags, indent=2) + '\n')


def check_claim(
  folder: Path,
  flags: Mapping[str, Any],
  *,
  complete: Callable[[Mapping[str, Any]], dict[str, Any]] = dict,
  named: Callable[[str], str] = str,
) -> None:
  """Raises ValueError like `claim_workdir`; writes nothing."""
  another = named('workdir')
  if not (folder / FLAGS).exists():
    if folder.exists() and any(path.name != NAME for path in folder.iterdir()):
      raise ValueError(f'{folder} holds files but no {FLAGS}; use an empty or new {another}')
    return
  theirs, ours = complete(read_flags(folder)), complete(flags)
  differ = [
    f'{named(name)} is {theirs.get(name)} there and {ours[name]} here'
    for name in ours
    if name != DATA and theirs.get(name) != ours[name]
  ]
  if differ:
    raise ValueError(f'{folder} belongs to other flags: {"; ".join(differ)}; use another {another}')
  check_same_data(folder, theirs.get(DATA, {}), flags.get(DATA, {}))


def read_flags(workdir: Path) -> dict[str, Any]:
  """Returns the flags of the run that a workdir belongs to; {} if it belongs to none.

  Raises:
    ValueError: if the file that holds them is damaged.
  """
  path = workdir / FLAGS
  if not path.exists():
    return {}
  try:
    return dict(json.loads(path.read_text(encoding='utf-8')))
  except (ValueError, TypeError) as error:
    raise ValueError(
      f'{path} is damaged ({error}); restore it from a copy, or use another folder'
    ) from None


def check_same_data(
  where: Path, there: Mapping[str, str | None], here: Mapping[str, str | None]
) -> None:
  """Raises ValueError if data changed; it names the part, or the spec of the task.

  Args:
    where: the workdir or file that `there` belongs to, for the message.
    there: fingerprints by name.
    here: fingerprints by name.
  """
  for name in here:
    if name in there and there[name] != here[name]:
      raise ValueError(
        f'{where} belongs to other data: the checksum of {name} is {there[name]} there and '
        f'{here[name]} here; bring the data back, or use another place'
      )
