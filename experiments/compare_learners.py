r"""Trains several learners on the same tasks; tests them after several numbers of inner steps.

  python -m experiments.compare_learners --flagfile=experiments/presets/sinusoid_learners.flags

Each learner gets a run of experiments.train, with the flags in the file that --training names, and
a run of experiments.evaluate for each number of steps, or one if it takes none. The runs of a
learner are in a folder of its own under --workdir. All are tested on the same episodes. If the
training of one learner diverges, the others go on. The same command again goes on where the last
one stopped, as long as the file of flags is the same.
"""

from experiments.command_line.flags import define_common, define_comparison, options_of_flags
from experiments.command_line.runtime import run
from experiments.runs.compare_learners import Options, compare_learners

if __name__ == '__main__':
  define_common()
  define_comparison()
  run(lambda: compare_learners(options_of_flags(Options)), __doc__)
