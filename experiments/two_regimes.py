r"""How many examples naive Bayes and logistic regression need, as the number of features grows.

  python -m experiments.two_regimes --workdir=runs/two_regimes

This is the simulation of Zheng et al. 2023 (arXiv:2302.02334). Classes are Gaussian with means -1,
1, 2, 4, ... on every feature. With n features, half of them have variance n, and half have variance
1. The result is the number of examples at which the error, averaged over --repeats draws, comes
within 0.01 of the least possible error. Bisection finds it. By the paper's theory naive Bayes needs
O(log n) examples, and logistic regression O(n).

After each number two_regimes.json is written. The same command, or one with more classes or
features, goes on from there.
"""

from absl import flags

from experiments.command_line.flags import options_of_flags
from experiments.command_line.runtime import run
from experiments.runs.two_regimes import Options, two_regimes
from metakit.keys import MAX_SEED

if __name__ == '__main__':
  flags.DEFINE_string('workdir', None, 'folder of the results')
  flags.DEFINE_integer('seed', 0, 'names the first draw', lower_bound=0, upper_bound=MAX_SEED)
  flags.DEFINE_list('features', ['100', '200', '400', '1000'], 'numbers of features')
  flags.DEFINE_list('ways', ['2', '3', '5', '7'], 'numbers of classes')
  flags.DEFINE_integer('repeats', 5, 'draws that the error is averaged over', lower_bound=1)
  run(lambda: two_regimes(options_of_flags(Options)), __doc__)
