r"""Trains several learners on the same tasks; tests them after several numbers of inner steps.

  python -m experiments.compare_learners --flagfile=experiments/presets/sinusoid_learners.flags

Each is a run of experiments.train (--training names a file of its flags) and one of
experiments.evaluate for each number of steps, in a folder of its own under --workdir, on the same
test episodes. The same command again goes on where the last one stopped, as long as the file holds
the same flags; a learner whose training diverges leaves the others alone.
"""

from experiments.command_line.flags import define_common, define_comparison
from experiments.command_line.runtime import run
from experiments.runs.compare_learners import main

if __name__ == '__main__':
  define_common()
  define_comparison()
  run(main, __doc__)
