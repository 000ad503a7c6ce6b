"""What is predicted of the targets of a regression: numbers, or densities."""

from typing import NamedTuple

from metakit.components.learners import USUAL_OBJECTIVE
from metakit.components.objectives import make_objective, parse_objective, takes_borders
from metakit.densities import borders_of
from metakit.objectives import squared_error
from metakit.tasks import Task
from metakit.types import MetaLearner, Objective


class Predicted(NamedTuple):
  """What a learner predicts, if it is not what the task asks for.

  Attributes:
    objective: judges the predictions; None for the objective of the task.
    borders: of the buckets of the objective, if it has buckets.
  """

  objective: Objective | None
  borders: tuple[float, ...] | None = None


def predicted_by(learner: str, spec: str | None, task: Task) -> Predicted:
  """Returns what a learner predicts.

  Args:
    learner: its name. What it usually predicts is the default of its argument `objective`.
    spec: of the objective that was asked for, or None.
    task: the training task, whose targets fill the buckets.

  Raises:
    ValueError: for a density of classes, and for targets that have none.
  """
  if spec is None:
    return Predicted(USUAL_OBJECTIVE.get(learner) if task.objective is squared_error else None)
  spec = str(parse_objective(spec))
  check_numbers(task, spec)
  buckets = takes_borders(spec)
  borders = None if buckets is None else borders_of(task.source('train'), buckets)
  return Predicted(make_objective(spec, borders), borders)


def check_numbers(task: Task, objective: str) -> None:
  """Raises ValueError if a task is a classification."""
  if task.objective.classifies:
    raise ValueError(
      f'objective {objective.partition(":")[0]} is a density of numbers, and this task classifies; '
      'leave --objective out'
    )


def with_objective(task: Task, predicted: Predicted) -> Task:
  """Returns the task with what is predicted, and with the reference that predicts this too.

  The reference of densities is the exact posterior of the targets, where it is known. That of
  quantiles is none, since their loss is not in nats.
  """
  if predicted.objective is None or task.objective is not squared_error:
    return task
  density = predicted.objective.density
  in_nats = density is not None and density.name != 'quantile'
  reference, of_reference = task.posterior if task.posterior and in_nats else (None, None)
  return task._replace(
    objective=predicted.objective, reference=reference, reference_objective=of_reference
  )


def outputs_of(task: Task) -> int:
  """Returns how many outputs a network for a task has."""
  return task.num_outputs * task.objective.outputs_per_target


def check_together(learner: MetaLearner, objective: Objective) -> None:
  """Raises ValueError for a density of all queries together, and predictions one by one."""
  together = objective.density is not None and objective.density.name == 'joint'
  if together and learner.prefixes is not None:
    raise ValueError(
      'objective joint judges all queries together, and this learner predicts each example from '
      'those before it; use --objective=gaussian, or --network=transformer:attention=set'
    )
