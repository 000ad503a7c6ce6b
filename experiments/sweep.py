r"""Trains models of several sizes on several numbers of tasks: when does learning to learn begin?

  python -m experiments.sweep --pools=0,8,16 --widths=16,64 --steps=5000 --workdir=runs/sweep

The phase diagram of Kirsch et al. 2022 (arXiv:2212.04458, figure 2): the within-sequence gain on
tasks of the pool and on unseen ones. All pools of one width are trained side by side under vmap, in
one program. The same command again goes on after the last width that was finished.
"""

import functools
import html
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import report_figures
from experiments.flags import define_common
from experiments.progress import progress
from experiments.report import page
from experiments.results import describe_device, versions, write_text
from experiments.runtime import BAD_INPUT, one_line_errors, run
from experiments.setup import claim_workdir
from experiments.tasks import base_set
from experiments.wrap_up import command_line
from metakit.data.table import ClassTable
from metakit.episodes.few_shot import complete
from metakit.episodes.projected import projected
from metakit.evaluate import estimate, judge_prefixes
from metakit.keys import roots, task_key
from metakit.learners.in_context import in_context
from metakit.networks.transformer import transformer
from metakit.objectives import cross_entropy
from metakit.train import TrainState, init_state, make_dispatch
from metakit.types import EpisodeSource, MetaLearner

FLAGS = flags.FLAGS
DEFINING = [
  *('base', 'pools', 'widths', 'depth', 'heads', 'layout', 'size', 'pixels', 'shots'),
  *('steps', 'tasks_per_step', 'learning_rate', 'seed', 'episodes'),
]
STEPS_PER_DISPATCH = 10
# What is measured: (images of which split, whether the tasks are of another pool than trained on).
EVALUATIONS = {
  'seen tasks': ('train', False),
  'seen tasks, unseen images': ('test', False),
  'unseen tasks': ('test', True),
}


def main() -> None:
  with one_line_errors(*BAD_INPUT):
    if not FLAGS.workdir:
      raise ValueError('--workdir is missing; give the folder of the sweep')
    specs = {name: FLAGS[name].value for name in DEFINING}
    pools = 2 ** np.asarray([int(p) for p in FLAGS.pools])
    if pools.min() < 1 or pools.max() > 2**30:
      raise ValueError(f'pools={FLAGS.pools} are powers of two from 0 to 30; use such')
    workdir = Path(FLAGS.workdir)
    claim_workdir(workdir, specs)
    tables = {
      split: base_set(FLAGS.base, split, FLAGS.data_dir, FLAGS.pixels)
      for split in ('train', 'test')
    }
  cells: list[dict[str, Any]] = []
  for width in (int(w) for w in FLAGS.widths):
    path = workdir / f'width-{width}.json'
    if not path.exists():
      found = train_side_by_side(width, pools, tables)
      write_text(path, json.dumps(found, indent=2) + '\n')
    cells += json.loads(path.read_text())
  record: dict[str, Any] = {'cells': cells, 'command': command_line(), 'device': describe_device()}
  record['versions'] = versions()
  write_text(workdir / 'results.json', json.dumps(record, indent=2) + '\n')
  write_text(workdir / 'report.html', diagram(record))
  print(f'phase diagram: {workdir / "report.html"}')


def train_side_by_side(
  width: int, pools: np.ndarray, tables: dict[str, ClassTable]
) -> list[dict[str, Any]]:
  """Trains one model of a width for each pool; returns what each reached."""
  ways = len(tables['train'].counts)
  network = transformer(ways, width, FLAGS.depth, FLAGS.heads)
  learner, optimizer = in_context(network, ways, FLAGS.layout), optax.adam(FLAGS.learning_rate)
  data, begun = jnp.asarray(tables['train'].x), time.monotonic()
  make = functools.partial(source_of, tables['train'])
  keys = roots(FLAGS.seed)

  @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
  def advance(steps: int, states: TrainState, data: Any) -> Any:
    def one(state: TrainState, tasks: jax.Array) -> Any:
      dispatch = make_dispatch(learner, optimizer, make(tasks), keys, FLAGS.tasks_per_step)
      return dispatch.sampled(steps, state, data)

    return jax.vmap(one)(states, jnp.asarray(pools))

  episode = jax.eval_shape(lambda key: complete(make(1), make(1).plan(key), data), keys.init)
  zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), episode)
  state = init_state(learner, optimizer, keys.init, lambda key: zeros)
  states = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], len(pools), axis=0), state)
  with progress(FLAGS.steps, FLAGS.tasks_per_step * len(pools), 0) as bar:
    for start in range(0, FLAGS.steps, STEPS_PER_DISPATCH):
      count = min(STEPS_PER_DISPATCH, FLAGS.steps - start)
      states, metrics = advance(count, states, data)
      bar.update(start + count, {name: float(metrics[name].mean()) for name in ('loss', 'gain')})
  seconds = time.monotonic() - begun
  size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  judged = {
    name: curves_of(learner, states.params, pools, tables[split], held_out)
    for name, (split, held_out) in EVALUATIONS.items()
  }
  return [
    {'width': width, 'parameters': size, 'tasks': int(tasks), 'seconds': round(seconds, 1)}
    | {name: summary(curves[i]) for name, curves in judged.items()}
    for i, tasks in enumerate(pools)
  ]


def summary(curves: np.ndarray) -> dict[str, Any]:
  """Returns the within-sequence gain with its interval, and the accuracy at both ends."""
  gain = estimate(curves[:, -1] - curves[:, 0])
  return gain._asdict() | {'first': float(curves[:, 0].mean()), 'last': float(curves[:, -1].mean())}


def source_of(table: ClassTable, tasks: Any, held_out: bool = False) -> EpisodeSource:
  """Returns the episodes of one pool."""
  return projected(table, FLAGS.size, FLAGS.shots, 1, tasks, held_out)


def curves_of(
  learner: MetaLearner, params: Any, pools: np.ndarray, table: ClassTable, held_out: bool
) -> np.ndarray:
  """Returns each model's accuracy after 0, 1, ... examples: [models, episodes, examples]."""
  root, data = roots(FLAGS.seed).test, jnp.asarray(table.x)

  @jax.jit
  def judge(params: Any, data: Any, index: jax.Array) -> jax.Array:
    def one(params: Any, tasks: jax.Array) -> jax.Array:
      source, key = source_of(table, tasks, held_out), task_key(root, 0, index)
      episode = complete(source, source.plan(key), data)
      return judge_prefixes(learner, cross_entropy, params, key, episode)['accuracy']

    return jax.vmap(one)(params, jnp.asarray(pools))

  each = [judge(params, data, jnp.int32(i)) for i in range(FLAGS.episodes)]
  return np.stack(jax.device_get(each), axis=1)


def diagram(record: dict[str, Any]) -> str:
  """Returns the phase diagrams as an HTML page."""
  body = '<h1>Within-sequence gain</h1>'
  for name in EVALUATIONS:
    drawn = report_figures.phase_diagram(record['cells'], name)
    body += f'<h2>{name}</h2><figure>{drawn}</figure>'
  return page('Within-sequence gain', f'{body}<pre>{html.escape(record["command"])}</pre>')


if __name__ == '__main__':
  define_common()
  flags.DEFINE_string('base', 'mnist', 'base set: mnist, glyphs or omniglot')
  flags.DEFINE_list('pools', ['0', '4', '8', '12', '16'], 'log2 of the numbers of tasks')
  flags.DEFINE_list('widths', ['16', '32', '64'], 'widths of the transformers')
  flags.DEFINE_integer('depth', 2, 'blocks', lower_bound=1)
  flags.DEFINE_integer('heads', 4, 'attention heads', lower_bound=1)
  flags.DEFINE_string('layout', 'pairs', 'how examples become tokens')
  flags.DEFINE_integer('pixels', 14, 'height and width of the images', lower_bound=1)
  flags.DEFINE_integer('size', 64, 'outputs of the projection', lower_bound=1)
  flags.DEFINE_integer('shots', 49, 'support examples', lower_bound=1)
  flags.DEFINE_float('learning_rate', 1e-3, 'of Adam')
  flags.DEFINE_integer('steps', 2000, 'meta-training steps of each model', lower_bound=1)
  flags.DEFINE_integer('tasks_per_step', 16, 'tasks in each meta-gradient', lower_bound=1)
  run(main, __doc__)
