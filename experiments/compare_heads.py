r"""Compares heads on the same features and the same test episodes.

  python -m experiments.compare_heads --workdir=runs/omniglot_prototypical \
      --head=prototypical --head=simpleshot --head=tim --test_task=omniglot:ways=20
  python -m experiments.compare_heads --task=arrays:path=features.npz --workdir=runs/features \
      --head=prototypical --head=ridge

The features are those of a trained run, computed once. With --task the examples themselves are the
features. A head with parameters is meta-trained on features of the training classes, in tasks like
those of the first test task. Differences are to the first head, paired by episode.

With --choose, several heads of one name, such as ridge:strength=1 and ridge:penalty=10, are tried
on so many episodes of validation classes first. For each task, the best of a name alone is tested,
and the record says of which.

After each head two files are written: NAME.json, and NAME.npz with the accuracy of each episode.
The same command, or one with more heads or tasks, goes on from there.
"""

from absl import flags

from experiments.command_line.flags import define_common, define_heads, options_of_flags
from experiments.command_line.runtime import run
from experiments.runs.compare_heads import compare_heads
from experiments.runs.comparisons import Options

if __name__ == '__main__':
  define_common()
  define_heads()
  flags.DEFINE_bool('omniglot_runs', False, 'test on the 20 official one-shot runs (20-way) too')
  flags.DEFINE_integer('choose', 0, 'episodes that choose among heads of one name', lower_bound=0)
  own = flags.FLAGS
  run(
    lambda: compare_heads(options_of_flags(Options), own.omniglot_runs, own.choose),
    __doc__,
  )
