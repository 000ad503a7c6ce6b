"""Which groups of classes help which: experiments/transfer.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.output.machine import describe_device, versions
from experiments.output.results import write_results
from experiments.output.text import format_estimate
from experiments.runs.setup import DEFINING, make_setup
from experiments.runs.wrap_up import command_line
from metakit.data.table import ClassTable, part_of_rows, select_classes
from metakit.difficulty import classification_bits, manifold_of
from metakit.episodes.within_group import of_group, within_group
from metakit.estimates import estimate
from metakit.evaluation import judge_queries
from metakit.files import check_writable
from metakit.keys import Roots, learner_key, roots, task_key
from metakit.sources import abstract_episode, gather_rows
from metakit.tasks import Task
from metakit.train import init_state_for, make_train_step
from metakit.transfer import (
  energy_distances,
  judge_ranking,
  predict_transfer,
  rank_correlation,
  transfer_matrix,
)
from metakit.types import Episode, Features, Key, MetaLearner, Params

HELD_OUT = 3  # one in so many examples of each class is for tests
CALIBRATION = 16  # episodes
ROWS = 512  # that are embedded at once
LIKENESS_ROWS = 100  # of each group, spread evenly
ERROR = 0.05  # that difficulty asks for
BEST = 5  # sources that would be chosen
RESAMPLES = 10_000
# What sources are ranked by: likeness alone, and through pivots with and without it.
PREDICTORS = {'likeness': 0.0, 'pivots and likeness': 0.7}
PIVOTS = 'pivots'


class Options(NamedTuple):
  """The flags of the command, by their names."""

  task: str
  learner: str
  network: str
  sources: int
  steps: int
  tasks_per_step: int
  at_once: int
  episodes: int
  seeds: int
  seed: int
  output: str
  data_dir: str | None
  table_budget_gib: float


class Groups(NamedTuple):
  """The groups of classes, and how episodes of one are drawn.

  Attributes:
    names: of the groups.
    seen, unseen: the tables of the examples for training, and for tests. Classes are the same.
    ways, shots, queries: of an episode.
  """

  names: list[str]
  seen: ClassTable
  unseen: ClassTable
  ways: int
  shots: int
  queries: int

  def plan(self, table: ClassTable) -> Callable[[Key, jax.Array], Episode]:
    """Returns (key, place of a group) -> the plan of an episode."""
    return of_group(table, self.ways, self.shots, queries=self.queries)


def transfer(options: Options) -> None:
  """Measures the matrix for each seed, and writes and prints what it says."""
  with one_line_errors(*BAD_INPUT):
    check_writable([Path(options.output)])
    blank = dict.fromkeys(DEFINING) | {'seed': options.seed, 'steps': options.steps}
    asked = {name: getattr(options, name) for name in ('task', 'learner', 'network')}
    setup = make_setup(blank | asked, options.data_dir, options.table_budget_gib)
    groups, learner = groups_of(setup.task, options.sources), setup.learner(setup.task)
    features_of(learner)
  measure = jax.jit(matrix_of(setup.task, learner, groups, options))
  matrices = []
  for seed in range(options.seed, options.seed + options.seeds):
    data = groups.seen.x, groups.unseen.x
    matrices.append(np.asarray(measure(roots(seed), *data), np.float64))
    print(f'seed {seed}: mean {matrices[-1].mean():.4f}', flush=True)
  likeness = likeness_of(learner, groups, roots(options.seed))
  record = findings(np.array(matrices), likeness, groups)
  record |= {name: setup.specs[name] for name in asked} | {'command': command_line()}
  record |= {'device': describe_device(), 'versions': versions()}
  for name in ('steps', 'tasks_per_step', 'episodes', 'seed', 'seeds'):
    record[name] = getattr(options, name)
  write_results(options.output, record)
  say(record)


def groups_of(task: Task, most: int) -> Groups:
  """Returns the first groups of a task's training classes that have enough of them.

  Raises:
    ValueError: if there are fewer than four such groups, or classes have too few examples.
  """
  if task.table is None or not (task.objective.classifies and task.fixed_shots):
    raise ValueError('the task has no groups of classes; use one such as omniglot or glyphs')
  table, shape = task.table('train'), abstract_episode(task.source('train'))
  shots, queries = (len(part.y) // task.num_outputs for part in shape[:2])
  numbers, sizes = np.unique(table.groups, return_counts=True)
  chosen = numbers[sizes >= task.num_outputs][:most]
  if len(chosen) < 4:
    raise ValueError(
      f'{len(chosen)} groups of {task.num_outputs} classes; there must be four: one that is new, '
      'and three others'
    )
  table = select_classes(table, np.flatnonzero(np.isin(table.groups, chosen)))
  seen, unseen = (part_of_rows(table, HELD_OUT, held_out) for held_out in (False, True))
  for part in (seen, unseen):
    within_group(part, task.num_outputs, shots, queries=queries)  # says what is lacking
  names = [table.group_names[number] for number in chosen]
  return Groups(names, seen, unseen, task.num_outputs, shots, queries)


def matrix_of(
  task: Task, learner: MetaLearner, groups: Groups, options: Options
) -> Callable[[Roots, jax.Array, jax.Array], jax.Array]:
  """Returns (root keys, examples for training, for tests) -> [sources, targets], the scores."""
  optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, options.steps))
  step = make_train_step(learner, optimizer)
  seen, unseen = groups.plan(groups.seen), groups.plan(groups.unseen)
  embed, head = features_of(learner)

  def measure(keys: Roots, x: jax.Array, new: jax.Array) -> jax.Array:
    def train(place: jax.Array) -> tuple[Params, jax.Array]:
      draw = lambda key: gather_rows(seen(key, place), x)
      state = init_state_for(learner, optimizer, keys.init, draw(task_key(keys.train, 0, 0)))

      def one_step(state: Any, number: jax.Array) -> tuple[Any, None]:
        named = lambda root: jax.vmap(lambda i: task_key(root, number, i))(tasks)
        return step(state, named(keys.learner), jax.vmap(draw)(named(keys.train)))[0], None

      tasks = jnp.arange(options.tasks_per_step)
      params = jax.lax.scan(one_step, state, jnp.arange(options.steps))[0].params
      params = calibrated(learner, params, draw, keys)
      return params, jax.lax.map(lambda row: embed(params, row[None])[0], new, batch_size=ROWS)

    def score(learned: tuple[Params, jax.Array], place: jax.Array) -> jax.Array:
      params, features = learned

      def judge(number: jax.Array) -> jax.Array:
        episode = gather_rows(unseen(task_key(keys.test, 0, number), place), features)
        key = learner_key(keys.test, number)
        return judge_queries(head, task.objective, params, key, episode)[task.metric]

      return jax.vmap(judge)(jnp.arange(options.episodes)).mean()

    places = jnp.arange(len(groups.names))
    return transfer_matrix(train, score, places, targets=places, at_once=options.at_once)

  return measure


def features_of(learner: MetaLearner) -> Features:
  """Returns the parts of a learner that embeds examples one by one.

  Raises:
    ValueError: if it does not.
  """
  if learner.features is None:
    raise ValueError('the learner does not embed examples one by one; use one such as prototypical')
  return learner.features


def calibrated(
  learner: MetaLearner, params: Params, draw: Callable[[Key], Episode], keys: Roots
) -> Params:
  """Returns parameters calibrated on episodes, if the learner needs that."""
  if learner.calibrate is None:
    return params
  numbers = jnp.arange(CALIBRATION)
  named = jax.vmap(lambda number: task_key(keys.calibration, 0, number))(numbers)
  return learner.calibrate(params, jax.vmap(draw)(named))


def likeness_of(learner: MetaLearner, groups: Groups, keys: Roots) -> np.ndarray:
  """Returns [groups, groups] how alike the examples for training are to a network at its start."""
  embed, _ = features_of(learner)
  source = within_group(groups.seen, groups.ways, groups.shots, queries=groups.queries)
  draw = lambda key: gather_rows(source.plan(key), jnp.asarray(groups.seen.x))
  params = learner.init(keys.init, draw(keys.calibration))
  params = calibrated(learner, params, draw, keys)
  rows = np.stack(
    [rows_of(groups.seen, number, LIKENESS_ROWS)[0] for number in np.unique(groups.seen.groups)]
  )
  of_set = jax.jit(lambda rows: embed(params, jnp.asarray(groups.seen.x)[rows]))
  return -energy_distances(np.stack([np.asarray(of_set(each)) for each in rows]))


def rows_of(table: ClassTable, group: int, most: int | None = None) -> tuple[Any, Any]:
  """Returns rows of a group, spread evenly over its classes if not all, and their classes."""
  classes = np.flatnonzero(table.groups == group)
  rows = [table.starts[number] + np.arange(table.counts[number]) for number in classes]
  together = np.stack([np.concatenate(rows), np.repeat(classes, table.counts[classes])])
  number = together.shape[1]
  return tuple(together[:, np.linspace(0, number - 1, most or number).round().astype(int)])


def findings(matrices: np.ndarray, likeness: np.ndarray, groups: Groups) -> dict[str, Any]:
  """Returns what the record says.

  Args:
    matrices: [seeds, sources, targets] scores.
    likeness: [sources, targets].
    groups: the groups.
  """
  measured = matrices.mean(0)
  predicted = {n: predict_transfer(measured, likeness, weight) for n, weight in PREDICTORS.items()}
  predicted[PIVOTS] = predict_transfer(measured, np.zeros_like(likeness))
  bits = difficulties(groups)
  others = np.where(np.eye(len(measured), dtype=bool), np.nan, measured)
  by_others = np.nanmean(others, 0)
  record: dict[str, Any] = {
    'groups': groups.names,
    'matrix': measured.round(5),
    'by_seed': matrices.round(5),
    'likeness': likeness.round(5),
    'predictors': {name: judged(each, measured) for name, each in predicted.items()},
    'within': measured.diagonal().round(5),
    'by_others': by_others.round(5),
    'bits': bits,
    'difficulty': with_interval(bits, by_others),
  }
  if len(matrices) > 1:  # what a second measurement would say: the most that can be asked for
    record['predictors']['another seed'] = judged(matrices[1:].mean(0), matrices[0])
  return record


def judged(predicted: np.ndarray, measured: np.ndarray) -> dict[str, list[float]]:
  """Returns mean and 95% interval over targets of each measure of a ranking."""
  rankings = []
  for target in range(len(measured)):
    rest = np.delete(np.arange(len(measured)), target)
    k = min(BEST, len(rest) // 2)
    rankings.append(judge_ranking(predicted[rest, target], measured[rest, target], k))
  fields = rankings[0]._fields
  return {name: list(estimate([getattr(r, name) for r in rankings])[:2]) for name in fields}


def difficulties(groups: Groups) -> list[float]:
  """Returns the bits that episodes of each group ask for (metakit.difficulty)."""
  found = []
  for number in np.unique(groups.seen.groups):
    rows, classes = rows_of(groups.seen, number)
    x = np.asarray(groups.seen.x[rows], np.float64).reshape(len(rows), -1)
    examples = groups.ways * groups.shots
    where = manifold_of(x / np.abs(x).max(), classes)
    found.append(classification_bits(where, examples, classes=groups.ways, error=ERROR))
  return found


def with_interval(one: Any, other: Any) -> dict[str, Any]:
  """Returns Spearman's rank correlation with the 95% interval of resampled tasks."""
  one, other = np.asarray(one), np.asarray(other)
  drawn = np.random.default_rng(0).integers(0, len(one), (RESAMPLES, len(one)))
  again = [rank_correlation(one[each], other[each]) for each in drawn]
  low, high = np.nanpercentile(again, (2.5, 97.5))
  return {'rank_correlation': rank_correlation(one, other), 'low': low, 'high': high}


def say(record: dict[str, Any]) -> None:
  """Prints what the record says, a line for each predictor."""
  for name, measures in record['predictors'].items():
    shown = ', '.join(f'{n} {format_estimate(n, *value)}' for n, value in measures.items())
    print(f'{name}: {shown}')
  found = record['difficulty']
  print(
    f'bits against accuracy: {found["rank_correlation"]:.2f} '
    f'({found["low"]:.2f} to {found["high"]:.2f})'
  )
