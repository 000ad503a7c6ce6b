r"""Shows several runs side by side, on one page.

  python -m experiments.compare_workdirs --workdir=runs/maml --workdir=runs/anil --output=page.html

The page has their results, the paired differences of those that were tested on the same episodes,
their learning curves over one another, and the settings in which they differ. --name=NAME takes the
tests of experiments.evaluate of that name in place of those of the trainings. Nothing is computed
anew.
"""

from absl import flags

from experiments.command_line.flags import options_of_flags
from experiments.command_line.runtime import run
from experiments.runs.compare_workdirs import Options, compare_workdirs

if __name__ == '__main__':
  flags.DEFINE_multi_string('workdir', None, 'folder of a run; once for each', required=True)
  flags.DEFINE_string('name', '', 'name of a test of experiments.evaluate')
  flags.DEFINE_string('output', 'comparison.html', 'the page to write')
  run(lambda: compare_workdirs(options_of_flags(Options)), __doc__)
