r"""Adds tricks to learning in sessions, each alone, and says what each of them changes.

  python -m experiments.tricks --workdir=runs/tricks --task=omniglot:split=original,rotations=false

A network is trained on base classes; then it is frozen, and new classes come in sessions, known by
their means (the baseline). Each --trick is a set of names joined by +, and is compared with the
baseline on the same streams, seed by seed: contrastive, prototypes, pairs, rotations, subnetwork
(metakit.incremental; A Bag of Tricks, Roy et al. 2024, arXiv:2403.14392). By default each is alone,
and then all are together. The base classes are drawn from training classes, those of sessions from
--split. Accuracies of base and new classes, their harmonic mean and what was forgotten after each
session are written to tricks.json after each training. The same command goes on from there, and a
larger --seeds or more tricks add to it.
"""

import os

from absl import flags

from experiments.command_line.flags import (
  COMMON,
  define_sessions,
  options_of_flags,
  sizes_of_flags,
)
from experiments.command_line.runtime import run
from experiments.runs.tricks import NAMES, Options, tricks
from metakit.keys import MAX_SEED

if __name__ == '__main__':
  flags.DEFINE_string('workdir', None, 'folder of the record')
  flags.DEFINE_string('task', 'glyphs', 'task spec: a classification of images')
  flags.DEFINE_multi_string('trick', [*NAMES, '+'.join(NAMES)], 'names joined by +; once a set')
  flags.DEFINE_enum('split', 'test', ['validation', 'test'], 'which classes come in sessions')
  flags.DEFINE_string('network', 'conv4:width=32,depth=3', 'network spec of the embedding')
  flags.DEFINE_integer('steps', 400, 'training steps on the base', lower_bound=1)
  flags.DEFINE_integer('batch_ways', 32, 'base classes of a step, two examples each', lower_bound=2)
  flags.DEFINE_float('learning_rate', 3e-3, 'highest rate of Adam', lower_bound=0)
  flags.DEFINE_integer('shift', 1, 'most pixels that training images are shifted by', lower_bound=0)
  flags.DEFINE_float('contrastive', 1.0, 'weight of the contrastive loss', lower_bound=0)
  flags.DEFINE_float('turning', 1.0, 'weight of telling quarter turns apart', lower_bound=0)
  flags.DEFINE_float('free', 0.1, 'share of the weights that sessions tune', 0, 1)
  flags.DEFINE_integer('session_steps', 5, 'gradient steps of a session', lower_bound=0)
  flags.DEFINE_float('session_rate', 0.001, 'rate of these steps')
  flags.DEFINE_integer('streams', 6, 'streams of sessions for each training', lower_bound=1)
  flags.DEFINE_integer('seeds', 3, 'trainings of each set of tricks', lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'the first of them', lower_bound=0, upper_bound=MAX_SEED)
  flags.DEFINE_string('data_dir', os.environ.get('METAKIT_DATA'), COMMON['data_dir'])
  define_sessions()
  run(lambda: tricks(options_of_flags(Options), sizes_of_flags()), __doc__)
