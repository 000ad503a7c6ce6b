r"""Compares heads on streams of classes: base classes first, then a few new ones at a time.

  python -m experiments.compare_sessions --workdir=runs/omniglot_prototypical \
      --head=class_mean_stream --head=recursive_ridge --base_ways=60 --sessions=8

This is few-shot class-incremental learning (Tao et al. 2020, arXiv:2004.10956) on the features of a
trained run. With --task the examples themselves are the features. Each stream draws new classes
from those of --split. A head that can go on learning (`extend`) sees the examples of a session
once. Any other head sees the examples of all sessions so far again. The result is written to
NAME.json.
"""

from experiments.command_line.flags import (
  define_common,
  define_heads,
  define_sessions,
  options_of_flags,
  sizes_of_flags,
)
from experiments.command_line.runtime import run
from experiments.runs.compare_sessions import compare_sessions
from experiments.runs.comparisons import Options

if __name__ == '__main__':
  define_common()
  define_heads()
  define_sessions()
  run(lambda: compare_sessions(options_of_flags(Options), sizes_of_flags()), __doc__)
