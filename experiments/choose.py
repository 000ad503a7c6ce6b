r"""Chooses settings on validation tasks, and tests what it has chosen once.

  python -m experiments.choose --training=experiments/presets/sinusoid_maml.flags \
      --candidate='--learner=maml:inner_learning_rate=0.01' \
      --candidate='--learner=maml:inner_learning_rate=0.03' --workdir=runs/chosen

Each candidate is one or more flags of experiments.train, beside those in the file that --training
names. Each is trained, in a folder of its own under --workdir, for as many steps as there or for
--trial_steps. The best by the last validation is then trained to its end and tested. Its record has
the scores of all candidates, and so has choice.json. One whose training diverges is not chosen. The
same command again goes on where the last one stopped.

Heads are chosen by `experiments.compare_heads --choose=EPISODES`.
"""

from absl import flags

from experiments.command_line.flags import define_common, options_of_flags
from experiments.command_line.runtime import run
from experiments.runs.choose import Options, choose

if __name__ == '__main__':
  define_common()
  flags.DEFINE_string('training', None, 'file of flags of experiments.train', required=True)
  flags.DEFINE_multi_string('candidate', None, 'flags to be tried; once for each', required=True)
  flags.DEFINE_integer('trial_steps', None, 'steps of a trial; all by default', lower_bound=1)
  run(lambda: choose(options_of_flags(Options)), __doc__)
