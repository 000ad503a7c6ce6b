"""What a meta-gradient of each way to learn from inner steps costs, by their number.

The episodes are those of the suite `learners`. The network is a perceptron of 270,000 parameters.
MAML keeps all inner steps, and `remat` the weights after each. iMAML looks at the last weights
alone, and NIW-Meta at sums over the iterates. Memory comes from XLA's analysis of the compiled
program. A case that does not fit is not run, and has no time.
"""

from collections.abc import Sequence

import jax

from experiments.benchmarks.suite import AT_LEAST, AT_MOST, LARGER, Aim, Suite
from experiments.benchmarks.suites.learners import episodes, make
from experiments.benchmarks.timing import Case, compiled_case
from metakit.networks.mlp import mlp

SPECS = {
  'maml': 'maml:mode=unroll',
  'maml, remat': 'maml:mode=remat',
  'imaml': 'imaml:mode=implicit',
  'niw_meta': 'niw_meta:test_steps=50',
}
LIMIT = 2 * 2**30  # a case with more bytes of temporaries is not run


def cases(*, inner_steps: Sequence[int]) -> list[Case]:
  """Returns a case for every learner and number of inner steps, compared with MAML's.

  Args:
    inner_steps: numbers of inner steps.
  """
  episode = jax.tree.map(lambda leaf: leaf[0], episodes())

  def case(name: str, steps: int) -> Case:
    learner = make(f'{SPECS[name]},inner_steps={steps}', lambda ways: mlp(ways, 256, 2))
    params = learner.init(jax.random.key(0), episode)
    slope = jax.grad(lambda params: learner.loss(jax.random.key(1), params, episode)[0])
    baseline = '' if name == 'maml' else f'maml, {steps} steps'
    return compiled_case(f'{name}, {steps} steps', slope, (params,), limit=LIMIT, baseline=baseline)

  return [case(name, steps) for name in SPECS for steps in inner_steps]


AIMS = (
  Aim('niw_meta, 64 steps', LARGER, 'niw_meta, 1 steps', AT_MOST, 1.05),
  Aim('maml, 64 steps', LARGER, 'maml, 1 steps', AT_LEAST, 10),
)
SUITES = {'learner_memory': Suite(cases, AIMS)}
