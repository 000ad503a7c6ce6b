"""Ways to train on families of unequal sizes: experiments/balance.py."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.components.process_tasks import kinds_of_processes, sizes_of_kinds
from experiments.output.machine import describe_device, versions
from experiments.output.results import write_results
from experiments.runs.setup import DEFINING, make_setup
from experiments.runs.wrap_up import command_line
from metakit.balance import (
  Moments,
  cooldown,
  family_shares,
  gradient_moments,
  gradient_variance,
  loss_weights,
  weigh_families,
)
from metakit.episodes import limited, mixture
from metakit.episodes.kernels import KERNELS
from metakit.files import check_writable
from metakit.keys import Roots, learner_key, roots, task_key
from metakit.sources import EpisodeSource, plan_at
from metakit.train import TrainState, init_state_for, make_train_step
from metakit.types import Key, MetaLearner, Params, Sampler

PROCESSES = {'length_scale': 0.25, 'low': -2.0, 'high': 2.0, 'noise': 0.2236}
NAMES = (*KERNELS, 'sawtooth')
TEMPERATURE, WEIGHTS = 'temperature', 'weights'
OF_FAMILY = 10_000  # tasks of each family whose gradients the closed form takes


class Options(NamedTuple):
  """The flags of the command, by their names."""

  learner: str
  tasks: int
  ratio: float
  temperature: float
  shots: int
  queries: int
  steps: int
  tasks_per_step: int
  learning_rate: float
  points: int
  episodes: int
  draws: int
  seeds: int
  seed: int
  output: str


SETTINGS = set(Options._fields) - {'learner', 'output'}


class Way(NamedTuple):
  """A way to train.

  Attributes:
    learner: with its loss.
    source: the training episodes.
  """

  learner: MetaLearner
  source: EpisodeSource


def balance(options: Options) -> None:
  """Trains in each way, and writes and prints what the tests say."""
  with one_line_errors(*BAD_INPUT):
    check_writable([Path(options.output)])
    sizes = [round(size) for size in sizes_of_kinds(options.tasks, options.ratio)]
    if options.steps % options.points:
      raise ValueError(f'points={options.points} does not divide steps={options.steps}')
    learner, specs = learner_of(options)
  new = kinds_of_processes(options.shots, options.queries, **PROCESSES)
  seen = [limited(kind, size) for kind, size in zip(new, sizes, strict=True)]
  ways = ways_to_train(learner, seen, sizes, options)
  curves, params = {}, None
  for name, way in ways.items():
    train = jax.jit(training(way, learner, (new, seen), options))
    found = [train(roots(options.seed + i)) for i in range(options.seeds)]
    curves[name] = np.array([losses for losses, _ in found], np.float64).round(5)
    params = found[0][1] if params is None else params
    print(f'{name}: loss of new tasks {curves[name][:, -1, 0].mean(0).round(3)}', flush=True)
  start = jax.jit(learner.init)(roots(options.seed).init, seen[0](jax.random.key(0)))
  variances = variances_of(learner, ways, seen, sizes, options)
  variance = {'at the start': variances(start), 'after training by size': variances(params)}
  record = {
    'families': dict(zip(NAMES, sizes, strict=True)),
    'curves': curves,
    'variance': variance,
  }
  record |= specs | {name: value for name, value in options._asdict().items() if name in SETTINGS}
  record |= {'command': command_line(), 'device': describe_device(), 'versions': versions()}
  write_results(options.output, record)
  say(variance)


def learner_of(options: Options) -> tuple[MetaLearner, dict[str, Any]]:
  """Returns the learner, and its specs for the record."""
  task = f'mixed_processes:shots={options.shots},queries={options.queries}'
  asked = {'task': task, 'learner': options.learner, 'seed': options.seed, 'steps': options.steps}
  setup = make_setup(dict.fromkeys(DEFINING) | asked, None, 0.0)
  return setup.learner(setup.task), {name: setup.specs[name] for name in ('learner', 'network')}


def say(variances: dict[str, dict[str, list[float]]]) -> None:
  """Prints a line for each state of a training."""
  for place, found in variances.items():
    each = [f'{name} {measured:.4g} ({closed:.4g})' for name, (measured, closed) in found.items()]
    print(f'variance {place}, measured (closed form): {", ".join(each)}')


def ways_to_train(
  learner: MetaLearner, seen: list[EpisodeSource], sizes: list[int], options: Options
) -> dict[str, Way]:
  """Returns each way by its name."""
  by_size, hot = family_shares(sizes), family_shares(sizes, options.temperature)
  weighed = weigh_families(learner, loss_weights(sizes, options.temperature))
  stages = cooldown(sizes, options.steps // 2, hot=options.temperature)
  return {
    'by size': Way(learner, mixture(seen, by_size)),
    TEMPERATURE: Way(learner, mixture(seen, hot)),
    WEIGHTS: Way(weighed, mixture(seen, by_size)),
    'cooldown': Way(learner, mixture(seen, hot, stages=stages)),
  }


def training(
  way: Way, learner: MetaLearner, tested: Sequence[Sequence[Sampler]], options: Options
) -> Callable[[Roots], tuple[jax.Array, Params]]:
  """Returns a function of root keys: losses [points, len(tested), families], and the parameters.

  Args:
    way: how to train.
    learner: whose loss counts in tests.
    tested: samplers of each family; the new tasks, and those of training, say.
    options: sizes.
  """
  optimizer = optax.adam(options.learning_rate)
  step, tasks = make_train_step(way.learner, optimizer), jnp.arange(options.tasks_per_step)

  def train(keys: Roots) -> tuple[jax.Array, Params]:
    def one_step(state: TrainState, _: None) -> tuple[TrainState, None]:
      named = lambda root: jax.vmap(lambda i: task_key(root, state.step, i))(tasks)
      episodes = jax.vmap(plan_at(way.source, state.step))(named(keys.train))
      return step(state, named(keys.learner), episodes)[0], None

    def leg(state: TrainState, _: None) -> tuple[TrainState, jax.Array]:
      state, _ = jax.lax.scan(one_step, state, None, options.steps // options.points)
      losses = [[tested_on(state.params, kind, keys.test) for kind in kinds] for kinds in tested]
      return state, jnp.array(losses)

    def tested_on(params: Params, sampler: Sampler, root: Key) -> jax.Array:
      loss = lambda i: learner.loss(learner_key(root, i), params, sampler(task_key(root, 0, i)))[0]
      return jax.vmap(loss)(jnp.arange(options.episodes)).mean()

    episode = way.source(task_key(keys.train, 0, 0))
    state = init_state_for(way.learner, optimizer, keys.init, episode)
    state, losses = jax.lax.scan(leg, state, None, options.points)
    return losses, state.params

  return train


def variances_of(
  learner: MetaLearner,
  ways: dict[str, Way],
  seen: list[EpisodeSource],
  sizes: list[int],
  options: Options,
) -> Callable[[Params], dict[str, list[float]]]:
  """Returns a function of parameters: the variance of a step, measured and in closed form."""
  tasks, by_size = options.tasks_per_step, family_shares(sizes)
  drawn = family_shares(sizes, options.temperature), 1.0
  weighed = by_size, loss_weights(sizes, options.temperature)
  keys = jax.random.split(jax.random.key(options.seed), len(seen) + 2)

  @jax.jit
  def moments(params: Params) -> tuple[list[Moments], list[Moments]]:
    measure = lambda way, key, draws: gradient_moments(
      way.learner, params, way.source, key=key, draws=draws
    )
    families = [
      measure(Way(learner, family), key, min(options.draws, OF_FAMILY))
      for family, key in zip(seen, keys[2:], strict=True)
    ]
    names = TEMPERATURE, WEIGHTS
    return families, [measure(ways[n], keys[i], options.draws) for i, n in enumerate(names)]

  def variances(params: Params) -> dict[str, list[float]]:
    families, measured = moments(params)
    closed = [gradient_variance(families, p, w, tasks=tasks) for p, w in (drawn, weighed)]
    pairs = [[float(m.variance) / tasks, c] for m, c in zip(measured, closed, strict=True)]
    return dict(zip((TEMPERATURE, WEIGHTS), pairs, strict=True))

  return variances
