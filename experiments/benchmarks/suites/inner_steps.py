"""What a meta-gradient through an inner loop costs, by its mode and the number of inner steps.

The inner model is a causal transformer of a million parameters. By SGD it learns to predict the
next vector of 8 sequences of a task. The meta-gradient is the derivative of the loss on other
sequences with respect to the initial weights. Memory comes from XLA's analysis of the compiled
program. A case that does not fit is not run, and has no time.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.suite import AT_LEAST, AT_MOST, LARGER, Aim, Suite
from experiments.benchmarks.suites.meta_step import check_gradient
from experiments.benchmarks.timing import Case, compiled_case
from metakit import meta_gradient
from metakit.networks.transformer import transformer

ROOTS = 'mixed, one in 6 kept'
MODES: dict[str, Callable[[], meta_gradient.Mode]] = {
  'unroll': meta_gradient.unroll,
  'remat': meta_gradient.remat,
  'mixed': meta_gradient.mixed,
  ROOTS: lambda: meta_gradient.mixed(every=6),
  'truncated to 4': lambda: meta_gradient.truncated(4),
  'first_order': meta_gradient.first_order,
  'implicit': meta_gradient.implicit,
  'evolution': lambda: meta_gradient.evolution(pairs=4),
}
EXACT = 'unroll', 'remat', 'mixed', ROOTS
PROXIMAL = 1.0  # the mode implicit needs it, so all modes have it
FEATURES = 8
LIMIT = 2 * 2**30  # a case with more bytes of temporaries is not run


def cases(
  *, inner_steps: Sequence[int], width: int, depth: int, examples: int, tasks: int
) -> list[Case]:
  """Returns a case for every mode and number of inner steps.

  Args:
    inner_steps: numbers of inner steps.
    width: width of the transformer.
    depth: depth of the transformer.
    examples: tokens of a sequence.
    tasks: number of support sequences, and of query sequences.
  """
  model = transformer(FEATURES, width, depth, heads=4)
  rng = np.random.default_rng(0)
  draw = lambda: jnp.asarray(rng.normal(size=(tasks, examples, FEATURES)), jnp.float32)
  support, query = draw(), draw()
  params = model.init(jax.random.key(0), support[0])

  def loss(fast: Any, slow: Any, data: jax.Array, step: Any) -> jax.Array:
    return jax.vmap(lambda x: next_error(model, fast, x))(data).mean()

  cases = []
  for name, mode in MODES.items():
    solve = mode()(meta_gradient.by_optax(loss, optax.sgd(0.01), proximal=PROXIMAL))
    for number in inner_steps:

      def outer(params: Any, solve: Any = solve, number: int = number) -> jax.Array:
        end = solve(jax.random.key(1), params, {}, support, number).fast
        return loss(end, {}, query, None)

      text = f'{name}, {number} steps'
      baseline = f'unroll, {number} steps' if name != 'unroll' else ''
      cases.append(compiled_case(text, jax.grad(outer), (params,), limit=LIMIT, baseline=baseline))
  check_same(cases)
  return cases


def check_same(cases: Sequence[Case]) -> None:
  """Raises an AssertionError if exact modes differ in the gradient after some number of steps."""
  gradients: dict[str, list[np.ndarray]] = {}
  for case in cases:
    mode, _, steps = case.name.rpartition(', ')
    if mode in EXACT and case.call is not None:
      gradient = list(map(np.asarray, jax.tree.leaves(case.call())))
      check_gradient(case.name, gradient, gradients.setdefault(steps, gradient))


def next_error(model: Any, params: Any, x: jax.Array) -> jax.Array:
  """The mean squared error of every vector of a sequence, predicted from those before it."""
  nothing = x[:0], jnp.zeros(0, jnp.int32)
  return jnp.square(model.apply(params, x[:-1], *nothing).outputs - x[1:]).mean()


def figure(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
  """Draws memory and time against the number of inner steps, a line for each mode."""
  import matplotlib

  matplotlib.use('svg')
  from matplotlib import pyplot

  drawn, panels = pyplot.subplots(1, 2, figsize=(9, 3.6), layout='constrained')
  for name in MODES:
    shown = [row for row in rows if row['name'].rpartition(', ')[0] == name]
    steps = [int(row['name'].rpartition(', ')[2].split()[0]) for row in shown]
    panels[0].plot(steps, [row['temporary_mib'] for row in shown], 'o-', label=name, markersize=3)
    times = [row['milliseconds'][0] if row['milliseconds'] else np.nan for row in shown]
    panels[1].plot(steps, times, 'o-', label=name, markersize=3)
  for panel, title in zip(panels, ('temporary memory, MiB', 'time, ms'), strict=True):
    panel.set(xscale='log', yscale='log', xlabel='inner steps', title=title)
  panels[0].axhline(LIMIT / 2**20, color='grey', linewidth=0.8)
  panels[0].legend(fontsize=7)
  drawn.savefig(path, metadata={'Date': None})
  pyplot.close(drawn)


AIMS = (
  Aim(f'{ROOTS}, 32 steps', LARGER, f'{ROOTS}, 4 steps', AT_MOST, 1.5),
  Aim('unroll, 32 steps', LARGER, f'{ROOTS}, 32 steps', AT_LEAST, 10),
)
SUITES = {'memory': Suite(cases, AIMS, lambda rows, path, title: figure(rows, path))}
