"""The report of a test, from what was measured."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.components.class_parts import write_names
from experiments.output.report import Report
from experiments.runs.evaluation import Curves, Pair, Tested, curve_metric
from experiments.runs.picture import picture
from experiments.runs.seen import Seen, answers_of
from experiments.runs.setup import Setup


class Measured(NamedTuple):
  """What a test measured, beside its record.

  Attributes:
    values: [episodes], the headline metric of each.
    curves: performance against the amount of adaptation.
    compared: two quantities that should be equal, or None.
    seen: the first episodes, query by query.
  """

  values: np.ndarray
  curves: Curves
  compared: Pair | None
  seen: Seen


def make_report(
  setup: Setup,
  tested: Tested,
  record: Mapping[str, Any],
  *,
  metrics: Sequence[Mapping[str, Any]],
  measured: Measured,
) -> Report:
  """Returns the report of a test.

  Args:
    setup: the setup of the run.
    tested: the learner.
    record: the record of the test.
    metrics: the metrics of the training.
    measured: what was measured.
  """
  curves, compared = measured.curves, measured.compared
  classes = record.get('classes')
  return Report(
    title=f'{record["learner"].partition(":")[0]} on {record["task"].partition(":")[0]}',
    command=record['command'],
    records=[record],
    metrics=metrics,
    adaptation=curves.learner,
    adaptation_episodes=curves.episodes,
    adaptation_label=curves.amount,
    adaptation_metric=curve_metric(tested.task),
    reference=curves.reference,
    pair=compared and (compared.names, compared.values),
    values=measured.values,
    answers=answers_of(tested, measured.seen),
    episode=picture(setup, tested, measured.seen),
    settings={
      **setup.specs,
      'state size': f'{record["state_size"]:,} numbers',
      **({'classes': write_names(classes)} if classes else {}),
    },
  )
