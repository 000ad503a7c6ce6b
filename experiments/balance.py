r"""Compares ways to train on families of tasks of very unequal sizes.

  python -m experiments.balance --tasks=20000 --ratio=5 --output=balance.json

Families are drawn by their sizes, by a temperature, by their sizes with weights that stand for this
temperature, and by a temperature that cools down (Li et al. 2025, arXiv:2410.04579). Each training
is tested on the way, on tasks that it has seen and on new ones of each family. The variance of the
meta-gradient is measured beside its closed form, before and after a training.
"""

from absl import flags

from experiments.command_line.flags import COMMON, options_of_flags
from experiments.command_line.runtime import run
from experiments.runs.balance import Options, balance
from metakit.keys import MAX_SEED

if __name__ == '__main__':
  flags.DEFINE_string('learner', 'cnp:width=64,depth=2,decoder_depth=2', 'learner spec')
  flags.DEFINE_integer('tasks', 20_000, 'training tasks of the largest family', lower_bound=1)
  flags.DEFINE_float('ratio', 5.0, 'how many times as many as of the next', lower_bound=1.0)
  flags.DEFINE_float('temperature', 5.0, 'of draws, or what weights stand for', lower_bound=1.0)
  flags.DEFINE_integer('shots', 10, 'support examples', lower_bound=1)
  flags.DEFINE_integer('queries', 20, 'query examples', lower_bound=1)
  flags.DEFINE_integer('steps', 2000, 'training steps; half of them are hot', lower_bound=2)
  flags.DEFINE_integer('tasks_per_step', 16, 'tasks of a step', lower_bound=1)
  flags.DEFINE_float('learning_rate', 1e-3, 'of Adam', lower_bound=0.0)
  flags.DEFINE_integer('points', 10, 'tests on the way, evenly spread', lower_bound=1)
  flags.DEFINE_integer('episodes', 500, 'test episodes of each family', lower_bound=1)
  flags.DEFINE_integer('draws', 100_000, 'tasks whose gradients are measured', lower_bound=2)
  flags.DEFINE_integer('seeds', 3, 'trainings in each way', lower_bound=2)
  flags.DEFINE_integer('seed', 0, COMMON['seed'], lower_bound=0, upper_bound=MAX_SEED)
  flags.DEFINE_string('output', 'balance.json', 'the record to write')
  run(lambda: balance(options_of_flags(Options)), __doc__)
