"""Tables of a prior as a task."""

import functools

from metakit import objectives
from metakit.components.docstrings import document, meanings, summary
from metakit.episodes.tables import tables
from metakit.evaluation import judge_roc_auc
from metakit.sources import EpisodeSource
from metakit.tasks import Task


def tables_task(
  *,
  kind: str = 'classification',
  rows: int = 150,
  columns: int = 5,
  queries: int = 50,
  classes: int = 10,
  least_rows: int = 20,
  missing: float = 0.2,
  direct: float = 0.0,
  tasks: int = 0,
) -> Task:
  """Tables of a prior: structural causal models at random, whose nodes are columns.

  Validation and test are on new tables.

  Args:
    tasks: tables of training, drawn once and for all; 0 for new ones in each episode.
  """
  draw = functools.partial(
    tables,
    kind,
    rows,
    columns,
    queries=queries,
    classes=classes,
    least_rows=least_rows,
    missing=missing,
    direct=direct,
  )

  def source(split: str, other_shots: int | None = None) -> EpisodeSource:
    del other_shots  # a table has rows, and not so many of a class
    return draw(tasks=tasks or None) if split == 'train' else draw()

  if kind == 'regression':
    return Task(source, objectives.squared_error, 1, 'loss', False, True)
  judges = {'roc_auc': judge_roc_auc}
  return Task(source, objectives.cross_entropy, classes, 'accuracy', False, True, judges=judges)


document(tables_task, summary(tables_task), meanings(tables) | meanings(tables_task))
