r"""Puts the learner of a finished run into metakit/zoo, with its card. For maintainers.

  python -m experiments.publish --workdir=runs/sinusoid_maml --name=sinusoid-maml \
    --data='sines, drawn by metakit' --licence=Apache-2.0
"""

from absl import flags

from experiments.command_line.flags import options_of_flags
from experiments.command_line.runtime import run
from experiments.runs.publish import Options, publish

if __name__ == '__main__':
  flags.DEFINE_string('workdir', None, 'folder of the run', required=True)
  flags.DEFINE_string('name', None, 'name in the zoo, such as omniglot-maml', required=True)
  flags.DEFINE_string('data', None, 'what it was trained on, and where that is from', required=True)
  flags.DEFINE_string('licence', None, 'licence of the data', required=True)
  flags.DEFINE_string(
    'test', '', 'name of a test (experiments.evaluate --name) whose learner and score are published'
  )
  flags.DEFINE_bool('half', False, 'store parameters of float32 as float16')
  run(lambda: publish(options_of_flags(Options)), __doc__)
