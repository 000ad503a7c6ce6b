r"""Splits what an episodic learner gains over ordinary training into two parts.

  python -m experiments.split_gain --ordinary=runs/writers_erm --episodic=runs/writers_maml \
      --output=gain.json

The first part is the gain of episodic training before any adaptation, that of the learner of
--episodic after 0 inner steps. The second one is the gain of adaptation, that of its inner steps.
All are tested on the same episodes. Intervals are over domains, such as the writers of the task
writers, where episodes say of which they are.
"""

from absl import flags

from experiments.command_line.flags import options_of_flags
from experiments.command_line.runtime import run
from experiments.runs.split_gain import Options, split_gain

if __name__ == '__main__':
  flags.DEFINE_string('ordinary', None, 'folder of a run of ordinary training', required=True)
  flags.DEFINE_string('episodic', None, 'folder of a run of a learner by descent', required=True)
  flags.DEFINE_integer('episodes', 2000, 'test episodes', lower_bound=2)
  flags.DEFINE_string('output', 'gain.json', 'the record to write')
  flags.DEFINE_string('data_dir', None, 'folder of real data; see experiments.train')
  flags.DEFINE_float('table_budget_gib', 2.0, 'device memory for a table, GiB')
  run(lambda: split_gain(options_of_flags(Options)), __doc__)
