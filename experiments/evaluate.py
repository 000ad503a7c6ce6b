r"""Tests the learner of a workdir again: on more episodes, or on another distribution.

  python -m experiments.evaluate --workdir=runs/proto --episodes=10000
  python -m experiments.evaluate --workdir=runs/proto --task=omniglot:ways=20 --name=20way
  python -m experiments.evaluate --workdir=runs/proto --learner=prototypical:protocol=transductive

The test uses the classes of the test part. Of another data set without parts it uses all classes,
since none was trained on. --split chooses other classes.

Test episode i of a seed is the same for every learner. episodes-NAME.npz holds the metrics of each
episode, and metakit.compare compares two such files episode by episode.
"""

from absl import flags

from experiments.command_line.flags import define_common, define_name, define_test, options_of_flags
from experiments.command_line.runtime import run
from experiments.runs.evaluate import Options, evaluate

if __name__ == '__main__':
  define_common()
  flags.DEFINE_string('learner', None, 'learner spec, to test with other arguments')
  flags.DEFINE_bool(
    'best', False, 'test the checkpoint with the highest validation score, not the newest'
  )
  flags.DEFINE_enum(
    'split',
    None,
    ['train', 'validation', 'test', 'all'],
    'classes to test on; by default test, or all of a data set without parts of its own that the '
    'run has not seen (train: as training shows them, shifted say)',
  )
  define_test()
  define_name('evaluation', 'suffix of the files that are written')
  flags.DEFINE_string(
    'metric',
    None,
    "headline metric, the task's own by default: accuracy (in a classification), loss, gain (the "
    'last example against the first), mixture_weight (gaussian_mixture), regret (categorical), '
    'likeness_to_descent (in_context:layout=pairs), meta_gradient_cosine (maml and its kin), '
    'divergence (mend), nats, crps, squared_error (of densities)',
  )
  run(lambda: evaluate(options_of_flags(Options, no_default=('seed',))), __doc__)
