r"""How many examples naive Bayes and logistic regression need, as the number of features grows.

  python -m experiments.two_regimes --workdir=runs/two_regimes

The simulation of Zheng et al. 2023 (arXiv:2302.02334): classes are Gaussian with means -1, 1, 2, 4,
... on every feature, half of the features with variance n, the number of features, and half with
variance 1. Counted are the examples at which the error, averaged over --repeats draws, comes
within a hundredth of the least that is possible (found by bisection). The paper's theory: naive
Bayes needs O(log n), logistic regression O(n). Written is two_regimes.json, after each number: the
same command, or one with more classes or features, goes on.
"""

from absl import flags

from experiments.command_line.runtime import run
from experiments.runs.two_regimes import main
from metakit.keys import MAX_SEED

if __name__ == '__main__':
  flags.DEFINE_string('workdir', None, 'folder of the results')
  flags.DEFINE_integer('seed', 0, 'names the first draw', lower_bound=0, upper_bound=MAX_SEED)
  flags.DEFINE_list('features', ['100', '200', '400', '1000'], 'numbers of features')
  flags.DEFINE_list('ways', ['2', '3', '5', '7'], 'numbers of classes')
  flags.DEFINE_integer('repeats', 5, 'draws that the error is averaged over', lower_bound=1)
  run(main, __doc__)
