r"""Meta-trains a learner, tests it and writes a report.

  python -m experiments.train
  python -m experiments.train --task=omniglot:ways=5,shots=1 --learner=maml --workdir=runs/maml
  python -m experiments.train --flagfile=experiments/presets/omniglot_prototypical.flags

The same command started again continues where the last one stopped.
"""

from experiments.command_line.flags import (
  define_common,
  define_test,
  define_training,
  options_of_flags,
)
from experiments.command_line.runtime import run
from experiments.runs.train import Options, train

if __name__ == '__main__':
  define_common()
  define_training()
  define_test()
  run(lambda: train(options_of_flags(Options)), __doc__)
