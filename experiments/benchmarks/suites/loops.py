"""Whole loops: training beside a hand-written loop, evaluation, and heads."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.suite import AT_LEAST, AT_MOST, FASTER, LONGER, Aim, Suite
from experiments.benchmarks.timing import Case
from experiments.output.metrics_log import metrics_log
from metakit import heads
from metakit.data.table import class_table
from metakit.dispatch import Dispatch, make_dispatch, train_until
from metakit.episodes.few_shot import few_shot
from metakit.episodes.sinusoid import sinusoid
from metakit.evaluation import evaluate
from metakit.keys import roots, task_key
from metakit.learners.descent import Descent
from metakit.learners.maml import maml
from metakit.meta_gradient import unroll
from metakit.networks.mlp import mlp
from metakit.objectives import cross_entropy, squared_error
from metakit.sources import EpisodeSource, place
from metakit.train import TrainState, init_state
from metakit.types import MetaLearner

STEPS, STEPS_PER_DISPATCH, TASKS, WIDTH, INNER_STEPS, RATE = 2000, 100, 4, 40, 5, 0.01
BY_HAND, LOSS_ALONE = 'by hand: one scan', 'by hand, the loss alone'
FEATURES, CLASSES, ROWS = 64, 423, 20
EVALUATED, JUDGED = 10_000, 1000  # episodes of `evaluation` and of `transductive`
TRANSDUCTIVE = (
  'soft_kmeans', 'slk', 'laplacian_shot', 'bd_cspn', 'tim', 'alpha_tim', 'pt_map', 'paddle',
  'transductive_tuning',
)  # fmt: skip
ONE_BY_ONE = 'pt_map, one episode after the other'


def training() -> list[Case]:
  """Returns MAML on sinusoids: a hand-written loop, the library's, and the binary's with its logs.

  The steps are so short that what comes between them shows.
  """
  keys, optimizer, sampler = roots(0), optax.adam(1e-3), sinusoid()
  learner = _sinusoid_maml()
  state = init_state(learner, optimizer, keys.init, sampler)
  dispatch = make_dispatch(learner, optimizer, sampler, keys, tasks_per_step=TASKS)
  by_hand = _fused(sampler, optimizer, keys.train, with_norms=True)
  check_same(by_hand, dispatch, state)

  def hand_written(run: Callable[..., Any] = by_hand) -> Any:
    now = jax.tree.map(jnp.copy, state)
    for _ in range(STEPS // STEPS_PER_DISPATCH):
      now, metrics = run(STEPS_PER_DISPATCH, now)
    return now, metrics

  def library(on_metrics: Callable[..., None] = lambda *_: None) -> Any:
    now = jax.tree.map(jnp.copy, state)
    return train_until(
      dispatch,
      now,
      sampler,
      first=0,
      stop=STEPS,
      steps_per_dispatch=STEPS_PER_DISPATCH,
      on_metrics=on_metrics,
    )

  def binary() -> Any:
    with tempfile.TemporaryDirectory() as folder, metrics_log(Path(folder) / 'run', 0) as written:
      means = lambda metrics: {name: float(each.mean()) for name, each in metrics.items()}
      return library(lambda start, metrics: written.write(start, means(metrics)))

  case = lambda name, call: Case(name, call, STEPS, baseline=BY_HAND, unit='steps')
  hand = Case(BY_HAND, hand_written, STEPS, unit='steps', peer=True)
  less = partial(hand_written, _fused(sampler, optimizer, keys.train, with_norms=False))
  cases = [hand, case('metakit.train_until', library), case('with logs, as the binary', binary)]
  return [*cases, case(LOSS_ALONE, less)._replace(peer=True)]


def _sinusoid_maml() -> MetaLearner:
  """MAML with its inner steps written out, as they are by hand."""
  model, mode = mlp(1, WIDTH, 2), unroll(unrolled=True)
  return maml(model, Descent(optax.sgd(RATE), INNER_STEPS, mode=mode), objective=squared_error)


def _fused(sampler: Any, optimizer: Any, root: jax.Array, with_norms: bool) -> Callable[..., Any]:
  """MAML as one would write it for one network and one task: nothing but JAX and optax.

  Args:
    sampler: the training tasks.
    optimizer: the outer one.
    root: key of the training tasks.
    with_norms: True also reports the norms of the meta-gradient and of the adaptation, as the
      library does; with such a small network their cost is visible.
  """

  def network(params: Any, x: jax.Array) -> jax.Array:
    layers = [params['params'][name] for name in sorted(params['params'])]
    for layer in layers[:-1]:
      x = jax.nn.relu(x @ layer['kernel'] + layer['bias'])
    return x @ layers[-1]['kernel'] + layers[-1]['bias']

  def error(params: Any, examples: Any) -> jax.Array:
    return jnp.square(network(params, examples.x) - examples.y).mean()

  def task_loss(params: Any, episode: Any) -> tuple[jax.Array, Any]:
    adapted = params
    for _ in range(INNER_STEPS):
      slope = jax.grad(error)(adapted, episode.support)
      adapted = jax.tree.map(lambda p, g: p - RATE * g, adapted, slope)
    moved = jax.tree.map(lambda a, p: jax.lax.stop_gradient(a - p), adapted, params)
    return error(adapted, episode.query), optax.tree.norm(moved) if with_norms else None

  def step(state: TrainState, _: None) -> tuple[TrainState, Any]:
    keys = jax.vmap(lambda i: task_key(root, state.step, i))(jnp.arange(TASKS))
    episodes = jax.vmap(sampler)(keys)
    mean = lambda params: _means(jax.vmap(task_loss, (None, 0))(params, episodes))
    (loss, moved), slope = jax.value_and_grad(mean, has_aux=True)(state.params)
    norms = (optax.tree.norm(slope), moved) if with_norms else ()
    updates, opt_state = optimizer.update(slope, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state), (loss, *norms)

  def run(steps: int, state: TrainState) -> tuple[TrainState, Any]:
    return jax.lax.scan(step, state, None, length=steps)

  return jax.jit(run, static_argnums=0, donate_argnums=1)


def _means(of_tasks: Any) -> Any:
  return jax.tree.map(jnp.mean, of_tasks)


def check_same(by_hand: Callable[..., Any], dispatch: Dispatch, state: TrainState) -> None:
  """Raises an AssertionError unless both loops end with the same parameters after 20 steps."""
  ends = (
    by_hand(20, jax.tree.map(jnp.copy, state))[0].params,
    dispatch(20, jax.tree.map(jnp.copy, state))[0].params,
  )
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *ends)


def embedded(ways: int, shots: int, queries: int) -> EpisodeSource:
  """Returns episodes of features [64]: clusters that overlap a little."""
  rng = np.random.default_rng(0)
  centres = np.repeat(rng.normal(size=(CLASSES, FEATURES)), ROWS, axis=0)
  x = (centres + rng.normal(size=centres.shape)).astype(np.float32)
  table = class_table(x, np.repeat(np.arange(CLASSES), ROWS))
  return place(few_shot(table, ways, shots, queries=queries))


def evaluation() -> list[Case]:
  """Returns the evaluation of class means on features, by metakit and NumPy, in two sizes."""
  number, root, cases = EVALUATED, roots(0).test, []
  name_of = lambda ways, shots: f'{ways}-way {shots}-shot'
  for ways, shots in ((5, 1), (20, 5)):
    source, learner = embedded(ways, shots, 15), heads.prototypes(ways)

    def judge(source: EpisodeSource = source, learner: MetaLearner = learner) -> Any:
      return evaluate(learner, cross_entropy, {}, source=source, root=root, episodes=number)

    numpy = _judged_by_numpy(source, ways, root, number)
    for metric, values in numpy().items():  # accuracies may differ by a tie
      np.testing.assert_allclose(judge()[metric].mean(), values.mean(), rtol=1e-4)
    name = name_of(ways, shots)
    cases.append(Case(f'{name}, NumPy', numpy, number, unit='episodes', peer=True))
    cases.append(Case(name, judge, number, baseline=cases[-1].name, unit='episodes'))
  return cases


def _judged_by_numpy(
  source: EpisodeSource, ways: int, root: jax.Array, number: int
) -> Callable[[], dict[str, np.ndarray]]:
  """Returns a function that judges nearest class means with NumPy, on the same episodes.

  It takes one episode after the other, and returns their losses and accuracies.
  """
  plan = jax.jit(jax.vmap(lambda i: source.plan(task_key(root, 0, i))))
  planned, data = jax.device_get(plan(jnp.arange(number))), np.asarray(source.data)

  def judge(support: np.ndarray, query: np.ndarray) -> tuple[float, float]:
    means = data[support].reshape(ways, -1, FEATURES).mean(1)
    x, rows = data[query], np.arange(len(query))
    logits = 2 * x @ means.T - (x**2).sum(1)[:, None] - (means**2).sum(1)
    labels, top = rows // (len(x) // ways), logits.max(1)
    losses = np.log(np.exp(logits - top[:, None]).sum(1)) + top - logits[rows, labels]
    return losses.mean(), (logits.argmax(1) == labels).mean()

  pairs = planned.support.x, planned.query.x
  names = 'loss', 'accuracy'
  return lambda: dict(
    zip(names, np.array([judge(*each) for each in zip(*pairs, strict=True)]).T, strict=True)
  )


def transductive() -> list[Case]:
  """Returns episodes of each transductive head, and of one of them one by one."""
  ways, number, root = 5, JUDGED, roots(0).test
  source = embedded(ways, 5, 15)
  judged = {name: getattr(heads, name)(ways) for name in TRANSDUCTIVE}

  def judge(learner: MetaLearner, chunk: int | None = None) -> Any:
    return evaluate(
      learner, cross_entropy, {}, source=source, root=root, episodes=number, chunk=chunk
    )['accuracy']

  calls: dict[str, Callable[[], Any]] = {
    name: partial(judge, each) for name, each in judged.items()
  }
  calls[ONE_BY_ONE] = partial(judge, judged['pt_map'], chunk=1)
  np.testing.assert_allclose(calls['pt_map'](), calls[ONE_BY_ONE](), atol=1e-6)
  baseline = {'pt_map': ONE_BY_ONE}
  return [
    Case(name, call, number, baseline=baseline.get(name, ''), unit='episodes')
    for name, call in calls.items()
  ]


def _in_ten_seconds(head: str) -> Aim:
  return Aim(head, 'milliseconds', '', AT_MOST, 10_000)


SUITES = {
  'train': Suite(training, (Aim('metakit.train_until', LONGER, BY_HAND, AT_MOST, 1.03),)),
  'evaluate': Suite(
    evaluation, (Aim('20-way 5-shot', FASTER, '20-way 5-shot, NumPy', AT_LEAST, 3),)
  ),
  'heads': Suite(transductive, (_in_ten_seconds('pt_map'), _in_ten_seconds('tim'))),
}
