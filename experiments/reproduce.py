r"""Measures a stored result again: trains, tests, and compares with the record and its interval.

  python -m experiments.reproduce --list
  python -m experiments.reproduce sinusoid_10shot_maml_01_step
  python -m experiments.reproduce sinusoid_10shot_maml_01_step --steps=500   # a try

The argument is the name of a file in experiments/results. The commands are those of the record. The
same command started again continues where the last one stopped, and does nothing twice.

The last line says whether the result is reproduced: whether the 95% intervals of the two means
overlap. The exit status is 0 only then. An interval tells how much a mean depends on the test
episodes. On another device rounding differs, so the training takes another course, and its score
may differ by more.
"""

import os

from absl import flags

from experiments.command_line.flags import COMMON, options_of_flags
from experiments.command_line.runtime import run
from experiments.runs.reproduce import Options, reproduce

if __name__ == '__main__':
  flags.DEFINE_bool('list', False, 'list the stored results: name, score, time, device, commands')
  flags.DEFINE_string('root', 'runs/reproduced', 'folder of the workdirs')
  flags.DEFINE_integer(
    'steps', None, 'other meta-training steps, for a try: then nothing is reproduced', lower_bound=1
  )
  flags.DEFINE_integer(
    'episodes', None, 'other test episodes, for a try: then nothing is reproduced', lower_bound=1
  )
  flags.DEFINE_string('data_dir', os.environ.get('METAKIT_DATA'), COMMON['data_dir'])
  run(lambda row=None: reproduce(row, options_of_flags(Options)), __doc__, takes='a result')
