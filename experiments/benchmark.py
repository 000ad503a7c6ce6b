r"""Measures how fast metakit is on this machine, beside PyTorch, NumPy and JAX written by hand.

  python -m experiments.benchmark --suite=plans --output=plans.json
  python -m experiments.benchmark --suite=plans --against=plans.json  # later: what became slower?
  python -m experiments.benchmark --suite=memory --depth=5 --examples=64 --tasks=8 \
    --repeats=3 --output=memory.json
  python -m experiments.benchmark --suite=meta_step  # PyTorch beside, if it is installed
  python -m experiments.benchmark --suite=peers  # heads of EasyFSL and scikit-learn beside ours

experiments/benchmarks/packages.py says how one gets what is compared with. What is missing is named
and left out. Each round times every case once, and cases are compared within a round. Nothing else
should run on the machine meanwhile.
"""

from absl import flags

from experiments.benchmarks.running import SUITES, Options, benchmark
from experiments.command_line.flags import options_of_flags
from experiments.command_line.runtime import run

if __name__ == '__main__':
  flags.DEFINE_enum('suite', 'in_context', list(SUITES), 'what is measured')
  flags.DEFINE_integer('repeats', 20, 'times that each case is timed', lower_bound=3)
  flags.DEFINE_string('output', None, 'JSON file to write')
  flags.DEFINE_string('against', None, 'earlier JSON file; fail if a case is slower by a tenth')
  flags.DEFINE_integer('tasks', 16, 'sequences in a training step', lower_bound=1)
  flags.DEFINE_integer('examples', 100, 'examples of a sequence', lower_bound=2)
  flags.DEFINE_integer('features', 196, 'numbers in an input', lower_bound=1)
  flags.DEFINE_integer('width', 128, 'width of the networks', lower_bound=1)
  flags.DEFINE_integer('depth', 4, 'depth of the networks', lower_bound=1)
  flags.DEFINE_list('inner_steps', ['1', '2', '4', '8', '16', '32', '64'], 'numbers of inner steps')
  flags.DEFINE_string('dtype', None, "type of the transformers' arithmetic, such as bfloat16")
  run(lambda: benchmark(options_of_flags(Options)), __doc__)
