"""The test of a trained learner, and what the report shows of it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.output.progress import episode_progress
from experiments.output.report import AdaptationPoint
from experiments.runs.setup import Setup
from metakit.estimates import estimate
from metakit.evaluation import (
  Judge,
  calibrate,
  embed_source,
  evaluate,
  judge_beside,
  judge_density,
  judge_gain,
  judge_orders,
  judge_prefixes,
  judge_queries,
)
from metakit.keys import roots
from metakit.sources import EpisodeSource, abstract_episode, complete, on_host
from metakit.tasks import Task, sources_by_shots
from metakit.types import Key, MetaLearner, Params

CURVE_SHOTS = (1, 2, 3, 5, 7, 10)
CURVE_STEPS = (0, 1, 2, 3, 5, 10)
CURVE_EPISODES = 200
# Of --curve=short: an eighth of the time.
SHORT_SHOTS, SHORT_STEPS, SHORT_EPISODES = (1, 5), (0, 1, 5), 50


OnChunk = Callable[[int], None]  # (episodes done) -> None


class Tested(NamedTuple):
  """A learner ready for the episodes of one split.

  Attributes:
    task: the task.
    learner: its learner.
    params: calibrated parameters.
    source: the episodes.
    quick: a (learner, source) with the same predictions; if possible, the table is embedded once.
    split: the split of the episodes.
    root: names the episodes: number i is made from task_key(root, 0, i).
    parallel: how the episodes share devices.
  """

  task: Task
  learner: MetaLearner
  params: Params
  source: EpisodeSource
  quick: tuple[MetaLearner, EpisodeSource]
  split: str
  root: Key
  parallel: str


class Curves(NamedTuple):
  """Test performance against the amount of adaptation.

  Attributes:
    amount: what is counted, such as 'inner steps'.
    episodes: how many were tested.
    learner: the points of the learner.
    reference: the points of the Bayes predictor on the same episodes; empty if none is known.
    difference: the points of the difference of their predictions
      (metakit.evaluation.judge_beside).
    in_nats: whether the difference is in nats, as that of densities is.
  """

  amount: str
  episodes: int
  learner: list[AdaptationPoint]
  reference: Sequence[AdaptationPoint] = ()
  difference: Sequence[AdaptationPoint] = ()
  in_nats: bool = False


def prepare(setup: Setup, params: Params, task: Task, *, split: str, seed: int) -> Tested:
  """Calibrates a learner on training episodes and readies it for a split of `task`."""
  learner, source = setup.learner(task), task.source(split)
  root = roots(setup.specs['seed']).calibration
  params = calibrate(learner, params, setup.task.source('train'), root=root)
  # The embeddings of a table on the host may not fit into memory, or not be worth their time.
  quick = (learner, source) if on_host(source) else embed_source(learner, params, source)
  root = getattr(roots(seed), split)
  return Tested(task, learner, params, source, quick, split, root, setup.parallel)


def per_episode(
  tested: Tested, episodes: int, on_chunk: OnChunk | None = None, *, judge: Judge = judge_queries
) -> dict[str, np.ndarray]:
  """Returns the metrics of each episode; `on_chunk` is told how many are done.

  Args:
    tested: the learner.
    episodes: how many.
    on_chunk: see metakit.evaluation.evaluate.
    judge: measures the metrics, unless the task has a judge for its headline metric.
  """
  judge = judges_of(tested.task).get(tested.task.metric, judge)
  return judged_by(judge, tested, episodes, on_chunk=on_chunk)


def judge_of_test(task: Task) -> Judge:
  """Returns what is measured of the queries in a test, which may take longer than a validation."""
  return judge_queries if task.objective.density is None else judge_density


_JUDGE_ORDERS = judge_orders()  # one value, for which programs are compiled once


def judges_of(task: Task) -> dict[str, Judge]:
  """Returns the metrics of a task that are not metrics of its queries, with their judges."""
  judges: dict[str, Judge] = {'gain': judge_gain} if task.exchangeable else {}
  if task.exchangeable and task.objective.kind == 'density':
    judges |= dict.fromkeys(('joint', 'spread'), _JUDGE_ORDERS)
  return {**judges, **task.judges}


def check_judges(setup: Setup, task: Task) -> None:
  """Raises ValueError if a task's episodes cannot be judged as they will be after training."""
  learner, source = setup.learner(task), task.source('test')
  judges = [judges_of(task).get(task.metric, judge_of_test(task))]
  if draws_prefixes(task, learner):
    judges.append(judge_prefixes)

  def judge_all(key: Key, data: Any) -> Any:
    episode = complete(source, source.plan(key), data)
    params = learner.init(key, episode)
    return [judge(learner, task.objective, params, key, episode) for judge in judges]

  jax.eval_shape(judge_all, jax.random.key(0), source.data)


def judged_by(
  judge: Judge, tested: Tested, episodes: int, *, on_chunk: OnChunk | None = None
) -> dict[str, np.ndarray]:
  """Returns what a judge gives for each episode."""
  learner, source = tested.quick
  judged = evaluate(
    learner,
    tested.task.objective,
    tested.params,
    source=source,
    root=tested.root,
    episodes=episodes,
    parallel=tested.parallel,
    judge=judge,
    on_chunk=on_chunk,
    warn=False,  # wrap_up says it once, at the end of the test
  )
  return dict(judged)


def curve_metric(task: Task) -> str:
  """Returns the metric that is drawn against the amount of adaptation."""
  classifies = task.objective.classifies and task.metric in ('accuracy', 'gain')
  return 'accuracy' if classifies else 'loss'


def draws_prefixes(task: Task, learner: MetaLearner) -> bool:
  """Whether a curve over prefixes is drawn: where it has a reference, or costs one pass."""
  return task.exchangeable and (learner.prefixes is not None or task.reference is not None)


def prefix_curves(tested: Tested, episodes: int) -> Curves:
  """Returns the accuracy or loss of each example, predicted from those before it.

  If the task knows a Bayes predictor, its curve on the same episodes stands beside it.
  """
  reference = tested.task.reference
  judge: Judge = judge_prefixes
  if reference is not None:
    judge = judge_beside(reference, tested.task.reference_objective)
  with episode_progress(f'adaptation curve: {episodes} episodes', episodes) as on_chunk:
    values = evaluate(
      tested.learner,
      tested.task.objective,
      tested.params,
      source=whole_supports(tested),
      root=tested.root,
      episodes=episodes,
      parallel=tested.parallel,
      judge=judge,
      on_chunk=on_chunk,
      warn=False,
    )

  def curve(name: str) -> list[AdaptationPoint]:
    columns = (estimate(column) for column in values[name].T)
    return [AdaptationPoint(k, e.mean, e.ci95) for k, e in enumerate(columns)]

  metric = curve_metric(tested.task)
  if reference is None:
    return Curves('examples', episodes, curve(metric))
  beside = curve(f'reference/{metric}'), curve('difference')
  in_nats = tested.task.objective.kind == 'density'
  return Curves('examples', episodes, curve(metric), *beside, in_nats)


def whole_supports(tested: Tested) -> EpisodeSource:
  """Returns the episodes; with whole supports where a task leaves out a random number of examples.

  An example that was left out has no loss, which would count as 0.
  """
  support = abstract_episode(tested.source).support
  if support.weight is None:
    return tested.source
  whole = tested.task.source(tested.split, support.y.shape[0])
  return tested.source if abstract_episode(whole).support.weight is not None else whole


class Pair(NamedTuple):
  """Two quantities of each episode that should be equal.

  Attributes:
    names: the names of the two; the second should follow the first.
    values: [2, points].
    slope: slope of the second over the first, by least squares.
    correlation: correlation of the two.
  """

  names: tuple[str, str]
  values: np.ndarray
  slope: float
  correlation: float


# metric: the two quantities that its judge gives.
PAIRS = {'mixture_weight': ('posterior', 'implied'), 'regret': ('weight', 'regret')}


def pair(metric: str, values: Mapping[str, np.ndarray]) -> Pair | None:
  """Returns the two quantities that a metric compares; None for other metrics."""
  if metric not in PAIRS:
    return None
  both = np.stack([np.ravel(values[name]) for name in PAIRS[metric]])
  (variance, covariance), (_, other) = np.cov(both)
  correlation = covariance / max(variance * other, 1e-12) ** 0.5
  return Pair(PAIRS[metric], both, covariance / max(variance, 1e-12), correlation)


TOLD_APART = 0.01  # no ratio if the Bayes predictor's error falls below this share of its first


class Closeness(NamedTuple):
  """How far a learner is at most from the Bayes predictor, over all numbers of examples.

  Attributes:
    ratio: the ratio of their errors; None if the Bayes predictor has hardly any (TOLD_APART).
    ratio_after: the number of examples at which the ratio is largest.
    difference: the difference of their predictions (metakit.evaluation.judge_beside). Its unit is
      the Bayes predictor's error before any example, which in a regression is the variance of y.
    difference_after: the number of examples at which the difference is largest.
    unit: 'nats' if the difference is of the logarithms of densities; there is no ratio then.
  """

  ratio: float | None
  ratio_after: int | None
  difference: float
  difference_after: int
  unit: str | None = None


def closeness(curves: Curves) -> Closeness:
  """Returns how close a learner is to its reference."""
  if curves.in_nats:
    most = max((point.mean, int(point.amount)) for point in curves.difference)
    return Closeness(None, None, *most, unit='nats')
  prior = curves.reference[0].mean
  both = list(zip(curves.learner, curves.reference, strict=True))
  differences = [(point.mean / prior, int(point.amount)) for point in curves.difference]
  if min(best.mean for _, best in both) < TOLD_APART * prior:
    return Closeness(None, None, *max(differences))
  ratios = [(point.mean / best.mean, int(point.amount)) for point, best in both]
  return Closeness(*max(ratios), *max(differences))


def adaptation_curves(
  setup: Setup, tested: Tested, episodes: int, *, curve: str = 'full'
) -> Curves:
  """Returns the metric against inner steps, or else against support examples (of each class).

  If one pass gives the whole curve, and the reference is not slow, all `episodes` count.

  Args:
    setup: the setup of the run.
    tested: the learner.
    episodes: test episodes.
    curve: 'full', 'short' (fewer points and episodes), or 'none', which has no points.
  """
  if curve == 'none':
    return Curves('examples', 0, [])
  short = curve == 'short'
  learner, source = tested.quick
  if draws_prefixes(tested.task, tested.learner):
    few = tested.task.reference_episodes if learner.prefixes else CURVE_EPISODES
    return prefix_curves(tested, min(episodes, SHORT_EPISODES if short else few or episodes))
  if 'test_steps=' in setup.specs['learner']:
    steps = SHORT_STEPS if short else CURVE_STEPS
    learners = {n: setup.learner(tested.task, test_steps=n) for n in steps}
    if learner is not tested.learner:  # the source gives features
      learners = {n: each.features.head for n, each in learners.items() if each.features}
    amount, points = 'inner steps', {n: (each, source) for n, each in learners.items()}
  else:
    sources = sources_by_shots(tested.task, SHORT_SHOTS if short else CURVE_SHOTS)
    amount = 'support examples a class'
    points = {n: (learner, source.replace(plan=each.plan)) for n, each in sources.items()}
  each = SHORT_EPISODES if short else CURVE_EPISODES
  return Curves(amount, each, points_of(tested, points, each))


def points_of(
  tested: Tested, points: Mapping[int, tuple[MetaLearner, EpisodeSource]], episodes: int
) -> list[AdaptationPoint]:
  """Tests each (learner, source) on the same number of episodes."""
  curve: list[AdaptationPoint] = []
  if not points:
    return curve
  said = f'adaptation curve: {len(points)} points x {episodes} episodes'
  with episode_progress(said, len(points) * episodes) as on_chunk:
    for number, (amount, quick) in enumerate(points.items()):
      done = partial(lambda before, now: on_chunk(before + now), number * episodes)
      values = judged_by(judge_queries, tested._replace(quick=quick), episodes, on_chunk=done)
      mean, ci95, _ = estimate(values[curve_metric(tested.task)])
      curve.append(AdaptationPoint(amount, mean, ci95))
  return curve
