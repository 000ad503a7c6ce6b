"""What training leaves for predictions: the learner with its specs, for metakit.load."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from experiments.runs.evaluation import Tested
from experiments.runs.setup import Setup
from metakit.distributed import is_first
from metakit.files import write_text
from metakit.keys import roots
from metakit.tasks import training_classes
from metakit.trained import MadeOf, Trained, save
from metakit.trained.inputs import measure
from metakit.trained.made_of import objective_name
from metakit.trained.stored import NAME, PARTS, header_of

# What a card says of a record.
CARD = (
  *('metric', 'mean', 'ci95', 'episodes', 'protocol', 'task', 'training_task', 'start', 'steps'),
  *('seed', 'train_seconds', 'device', 'versions', 'command'),
)


def write_parts(setup: Setup, workdir: Path) -> None:
  """Writes what makes the learner again, from the first checkpoint on."""
  seed = {'seed': setup.specs['seed']}
  if is_first() and not (workdir / PARTS).exists() and (trained := _trained(setup, None, seed)):
    write_text(workdir / PARTS, header_of(trained) + '\n')


def write_trained(
  setup: Setup, tested: Tested, record: Mapping[str, Any], *, workdir: Path
) -> None:
  """Writes the trained learner with its score; nothing for an objective of a user's own."""
  if not is_first():
    return
  card = {name: record[name] for name in CARD if name in record}
  if trained := _trained(setup, jax.device_get(tested.params), card):
    save(workdir / NAME, trained)


def _trained(setup: Setup, params: Any, card: Mapping[str, Any]) -> Trained | None:
  task, classes = setup.test_task, training_classes(setup.task)
  objective = setup.specs['objective'] or objective_name(task.objective)
  if objective is None:
    return None
  parts = MadeOf(
    setup.specs['learner'],
    setup.specs['network'],
    task.num_outputs,
    objective,
    classes and classes(),
    setup.borders,
  )
  table = setup.task.table
  inputs = measure(
    setup.task.source('train'),
    roots(setup.specs['seed']).calibration,
    table('train').encoding if table else None,
  )
  classifies = task.objective.classifies
  return Trained(parts.make, params, inputs, task.num_outputs, classifies, parts, card)
