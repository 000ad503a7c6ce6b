r"""Compares a learner of tables with those of scikit-learn on small real tables.

  python -m experiments.compare_tables --learner=runs/tabular --output=tables.json

The tables are in experiments/runs/real_tables.py, with the rule by which they were chosen. Each is
split --splits times into rows to learn from, half of all but at most --rows, and up to 1,000 others
to predict. scikit-learn's learners have their default settings. A table on which any learner takes
longer than --most_seconds for a split is left out, and named in the record.

A learner of classes is compared by the area under the ROC curve (of several classes each against
the rest), one of numbers by R². The record goes to --output, and beside it a figure of mean ranks
and their critical difference. It takes a few minutes, and the packages of `metakit[bench]`.
"""

import os

from absl import flags

from experiments.command_line.flags import options_of_flags
from experiments.command_line.runtime import run
from experiments.runs.compare_tables import Options, compare_tables
from metakit.keys import MAX_SEED

if __name__ == '__main__':
  flags.DEFINE_string('learner', 'tabular-classifier', 'a workdir, a file, or a name of the zoo')
  flags.DEFINE_string('output', None, 'the record to write, a .json file', required=True)
  flags.DEFINE_integer('rows', 150, 'the most rows to learn from', lower_bound=10)
  flags.DEFINE_integer('splits', 5, 'splits of each table', lower_bound=2)
  flags.DEFINE_integer('ensemble', 1, 'views that the learner has of a table', lower_bound=1)
  flags.DEFINE_integer(
    'max_columns', 0, 'of a view; 0 for twice as many as in training', lower_bound=0
  )
  flags.DEFINE_float('most_seconds', 20.0, 'the most seconds of a learner for a split')
  flags.DEFINE_integer('most_tables', 1000, 'only the first so many tables', lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'of the splits', lower_bound=0, upper_bound=MAX_SEED)
  flags.DEFINE_string('data_dir', os.environ.get('METAKIT_DATA'), 'folder above uci_regression')
  run(lambda: compare_tables(options_of_flags(Options)), __doc__)
