"""Trains models of several sizes on several numbers of tasks: experiments/sweep.py."""

import functools
import html
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.output import report_figures
from experiments.output.machine import describe_device, versions
from experiments.output.page import page
from experiments.output.progress import progress
from experiments.output.results import read_json
from experiments.runs.families import Family, Measure, family
from experiments.runs.workdir import own_workdir
from experiments.runs.wrap_up import command_line
from metakit.components.specs import build, parse
from metakit.dispatch import make_dispatch
from metakit.divergence import NonFiniteLoss
from metakit.estimates import estimate
from metakit.files import write_text
from metakit.keys import learner_key, roots, task_key
from metakit.learners.in_context import in_context
from metakit.networks.transformer import transformer
from metakit.sources import abstract_episode, complete
from metakit.train import TrainState, init_state_for
from metakit.types import Key, MetaLearner

DEFINING = [
  *('task', 'pools', 'widths', 'network', 'layout'),
  *('steps', 'tasks_per_step', 'learning_rate', 'seed', 'episodes'),
]
DEFAULT_TASK = 'projected:shots=49'
STEPS_PER_DISPATCH = 10


class Options(NamedTuple):
  """The flags of the command, by their names."""

  task: str | None
  pools: list[str]
  widths: list[str]
  network: str
  layout: str
  steps: int
  tasks_per_step: int
  learning_rate: float
  seed: int
  episodes: int
  workdir: str | None
  data_dir: str | None
  parallel: str


def sweep(options: Options) -> None:
  """Trains and judges the models of each width; then writes a record and a report of all."""
  with one_line_errors(*BAD_INPUT):
    if not options.workdir:
      raise ValueError('--workdir is missing; give the folder of the sweep')
    if options.parallel != 'none':
      raise ValueError(f'--parallel={options.parallel}: a sweep uses one device; leave it out')
    pools = 2 ** np.array(integers('pools', options.pools, least=0, most=30))
    spec = options.task or DEFAULT_TASK
    varied = family(spec, options.data_dir, int(pools.max()))
    widths = integers('widths', options.widths, least=1, most=2**16)
    learners = {width: make_learner(width, varied, options) for width in widths}
    for learner in learners.values():  # loads the data, or says what is missing
      check_learner(learner, varied, int(pools.max()), network=options.network)
    workdir = Path(options.workdir)
    own_workdir(workdir, {name: getattr(options, name) for name in DEFINING})
  cells: list[dict[str, Any]] = []
  for width, learner in learners.items():
    path = workdir / f'width-{width}.json'
    with one_line_errors(NonFiniteLoss, *BAD_INPUT):
      if not path.exists():
        reached = train_side_by_side(learner, pools, varied, width=width, options=options)
        write_text(path, json.dumps(reached, indent=2) + '\n')
      cells += read_json(path)
  record: dict[str, Any] = {'cells': cells, 'command': command_line(), 'device': describe_device()}
  record |= {'versions': versions(), 'metric': varied.metric, 'task': spec}
  write_text(workdir / 'results.json', json.dumps(record, indent=2) + '\n')
  write_text(workdir / 'report.html', diagram(record, list(varied.measures)))
  print(f'phase diagram: {workdir / "report.html"}')


def integers(flag: str, texts: list[str], *, least: int, most: int) -> list[int]:
  """Returns the values of a list flag.

  Raises:
    ValueError: unless there is at least one, and all are different integers from least to most.
  """
  values = [int(text) for text in texts if text.strip().isdigit()]
  inside = values and least <= min(values) and max(values) <= most
  if len(values) < len(texts) or len(set(values)) < len(values) or not inside:
    raise ValueError(
      f'--{flag}={",".join(texts)} is no list of different integers from {least} to {most}'
    )
  return values


def make_learner(width: int, varied: Family, options: Options) -> MetaLearner:
  """Returns the learner of a width."""
  known, supplied = {'transformer': transformer}, ('num_outputs', 'width')
  network = parse('network of a sweep', known, options.network, supplied=supplied)
  model = build(network, num_outputs=varied.num_outputs, width=width)
  return in_context(model, varied.num_outputs, options.layout, objective=varied.objective)


def check_learner(learner: MetaLearner, varied: Family, largest: int, *, network: str) -> None:
  """Raises ValueError if a learner cannot be judged as it will be after training."""
  if learner.prefixes is None:
    raise ValueError(f'--network={network}: a sweep needs a causal network; use softmax')
  for measure in varied.measures.values():
    source, judge = measure.source(1), measure.judge(largest)

    def judged(key: Key, data: Any, source=source, judge=judge) -> Any:
      episode = complete(source, source.plan(key), data)
      return judge(learner, varied.objective, learner.init(key, episode), key, episode)

    jax.eval_shape(judged, roots(0).init, source.data)


def train_side_by_side(
  learner: MetaLearner, pools: np.ndarray, varied: Family, *, width: int, options: Options
) -> list[dict[str, Any]]:
  """Trains one model of a width for each pool; returns what each reached.

  Raises:
    NonFiniteLoss: if a loss is not finite.
  """
  steps, highest = options.steps, options.learning_rate
  rate = optax.warmup_cosine_decay_schedule(0, highest, steps // 20, steps)
  optimizer, keys, begun = optax.adam(rate), roots(options.seed), time.monotonic()
  any_pool = varied.train(1)
  data = jax.tree.map(jnp.asarray, any_pool.data)

  @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
  def advance(steps: int, states: TrainState, data: Any) -> Any:
    def one(state: TrainState, tasks: jax.Array) -> Any:
      dispatch = make_dispatch(
        learner, optimizer, varied.train(tasks), keys, tasks_per_step=options.tasks_per_step
      )
      return dispatch.sampled(steps, state, data)

    return jax.vmap(one)(states, jnp.asarray(pools))

  zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract_episode(any_pool))
  state = init_state_for(learner, optimizer, keys.init, zeros)
  states = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], len(pools), axis=0), state)
  with progress(steps, options.tasks_per_step * len(pools), 0) as bar:
    for start in range(0, steps, STEPS_PER_DISPATCH):
      count = min(STEPS_PER_DISPATCH, steps - start)
      states, metrics = advance(count, states, data)
      means = {name: float(metrics[name].mean()) for name in ('loss', 'gain')}
      if not np.isfinite(means['loss']):
        raise NonFiniteLoss(
          f'a loss of width {width} is not finite by step {start + count}; lower --learning_rate'
        )
      bar.update(start + count, means)
  seconds = time.monotonic() - begun
  size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  judged = {
    name: judge_all(learner, states.params, pools, varied, measure=measure, options=options)
    for name, measure in varied.measures.items()
  }
  return [
    {'width': width, 'parameters': size, 'tasks': int(tasks), 'seconds': round(seconds, 1)}
    | {name: estimate(values[i])._asdict() for name, values in judged.items()}
    for i, tasks in enumerate(pools)
  ]


def judge_all(
  learner: MetaLearner,
  params: Any,
  pools: np.ndarray,
  varied: Family,
  *,
  measure: Measure,
  options: Options,
) -> np.ndarray:
  """Returns a measure of each model on the same episodes: [models, episodes]."""
  root, data = roots(options.seed).test, jax.tree.map(jnp.asarray, measure.source(1).data)

  @jax.jit
  def judge(params: Any, data: Any, index: jax.Array) -> jax.Array:
    def one(params: Any, tasks: jax.Array) -> jax.Array:
      source, key = measure.source(tasks), task_key(root, 0, index)
      episode = complete(source, source.plan(key), data)
      inputs = learner, varied.objective, params, learner_key(root, index), episode
      judged = measure.judge(tasks)(*inputs)
      return judged[varied.metric]

    return jax.vmap(one)(params, jnp.asarray(pools))

  each = [judge(params, data, jnp.int32(i)) for i in range(options.episodes)]
  return np.stack(jax.device_get(each), axis=1)


def diagram(record: dict[str, Any], names: list[str]) -> str:
  """Returns the figures as an HTML page: a phase diagram of a gain, curves of a difference."""
  cells, metric = record['cells'], record['metric']
  if metric == 'gain':
    drawn = [report_figures.phase_diagram(cells, name) for name in names]
  else:
    drawn = [report_figures.crossover(cells, names[:2]), report_figures.crossover(cells, names[2:])]
  body = f'<h1>{metric} against the number of tasks</h1>'
  body += ''.join(f'<figure>{each}</figure>' for each in drawn)
  return page(metric, f'{body}<pre>{html.escape(record["command"])}</pre>')
