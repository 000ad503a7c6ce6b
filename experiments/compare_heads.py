r"""Compares heads on the same features and the same test episodes.

  python -m experiments.compare_heads --workdir=runs/omniglot_prototypical \
      --head=prototypical --head=simpleshot --head=tim --test_task=omniglot:ways=20
  python -m experiments.compare_heads --task=arrays:path=features.npz --workdir=runs/features \
      --head=prototypical --head=ridge

The features are those of a trained run, embedded once, or (--task) the examples themselves. A head
with parameters is meta-trained on features of training classes, in tasks like the first to test on.
The difference is to the first head, paired by episode. Written are NAME.json and, the accuracies of
each episode, NAME.npz, after each head: the same command, or one with more heads or tasks, goes on.
"""

from absl import flags

from experiments.command_line.flags import define_common, define_heads
from experiments.command_line.runtime import run
from experiments.runs.compare_heads import main

if __name__ == '__main__':
  define_common()
  define_heads()
  flags.DEFINE_bool('omniglot_runs', False, 'also the 20 official one-shot runs (20-way)')
  run(main, __doc__)
