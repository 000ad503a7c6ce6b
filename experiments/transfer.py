r"""Measures which groups of classes, such as alphabets, help which: from each to each.

  python -m experiments.transfer --task=omniglot:ways=5,shots=1,queries=5,rotations=false \
      --learner=prototypical --network=conv4:width=32 --sources=20 --output=transfer.json

A learner is trained anew on each group, and tested on unseen examples of all of them, in one
compiled program for a seed. Then each group is taken to be new once. Which of the others would help
it is predicted from how alike their data is and through pivots (Kim et al. 2023, arXiv:2305.13256),
and compared with what was measured.
"""

import os

from absl import flags

from experiments.command_line.flags import COMMON, options_of_flags
from experiments.command_line.runtime import run
from experiments.runs.transfer import Options, transfer
from metakit.keys import MAX_SEED

if __name__ == '__main__':
  flags.DEFINE_string('task', 'glyphs:queries=5', 'task spec, whose training classes have groups')
  flags.DEFINE_string('learner', 'prototypical', 'learner spec, one that embeds examples')
  flags.DEFINE_string('network', 'conv4:width=32', 'network spec')
  flags.DEFINE_integer('sources', 20, 'groups: the first so many', lower_bound=4)
  flags.DEFINE_integer('steps', 200, 'steps of training on each group', lower_bound=1)
  flags.DEFINE_integer('tasks_per_step', 4, 'tasks of a step', lower_bound=1)
  flags.DEFINE_integer('at_once', 1, 'groups that are trained side by side', lower_bound=1)
  flags.DEFINE_integer('episodes', 100, 'test episodes of each pair', lower_bound=1)
  flags.DEFINE_integer('seeds', 3, 'trainings on each group; the mean counts', lower_bound=1)
  flags.DEFINE_integer('seed', 0, COMMON['seed'], lower_bound=0, upper_bound=MAX_SEED)
  flags.DEFINE_string('output', 'transfer.json', 'the record to write')
  flags.DEFINE_string('data_dir', os.environ.get('METAKIT_DATA'), COMMON['data_dir'])
  flags.DEFINE_float('table_budget_gib', 2.0, 'device memory for a table, GiB')
  run(lambda: transfer(options_of_flags(Options)), __doc__)
