"""Compares heads on the same features and the same test episodes: experiments/compare_heads.py."""

import functools
import json
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.output.results import refuse_other
from experiments.output.text import format_estimate
from experiments.runs.comparisons import Comparison, Options, begin, make_head, ready_params
from experiments.runs.features import embedded_once
from experiments.runs.wrap_up import command_line, say_not_finite, write_episodes
from metakit.components.specs import Component, name_in
from metakit.data.files import damaged
from metakit.data.omniglot_runs import WAYS, omniglot_runs
from metakit.estimates import Estimate, compare, estimate
from metakit.evaluation import evaluate, judge_queries
from metakit.files import with_ending, write_text
from metakit.keys import learner_key, roots
from metakit.lock import lock_file
from metakit.objectives import cross_entropy
from metakit.sources import EpisodeSource
from metakit.types import Episode, Key, MetaLearner, Objective, Params
from metakit.workdir import check_same_data

NONE = '-'
RUNS = 'omniglot_runs'
DEFINING = 'split', 'seed', 'episodes', 'head_steps', 'head_tasks_per_step'
DATA = 'data'
WARM = 64  # episodes that are judged before the clock starts, so that programs are compiled


class Judged(NamedTuple):
  """What was measured of a head.

  Attributes:
    accuracies: [episodes].
    protocol: whether the head is 'inductive' or 'transductive'.
    seconds: the time of a thousand episodes, without compilation; None for the official runs, which
      are too few to time.
  """

  accuracies: np.ndarray
  protocol: str
  seconds: float | None


Done = dict[tuple[str, str], Judged]  # by task and head
Choices = list[dict[str, Any]]


def compare_heads(options: Options, official_runs: bool = False, choose: int = 0) -> None:
  """Measures what is not measured yet, and writes all after each measurement.

  Args:
    options: the flags.
    official_runs: whether to test on the official runs of Omniglot too.
    choose: episodes of the validation that chooses among heads of one name; 0 to test all.
  """
  with one_line_errors(*BAD_INPUT):
    if official_runs and options.split != 'test':
      raise ValueError('--omniglot_runs are of test characters; use --split=test')
    choices = None
    if choose:
      if official_runs or options.split != 'test':
        raise ValueError('--choose tests on sampled episodes of test classes; use it alone')
      name = f'{options.name}-validation'
      validation = options._replace(split='validation', episodes=choose, name=name)
      choices = choices_of(measure_all(validation))
    measure_all(options, official_runs, choices)


def measure_all(
  options: Options, official_runs: bool = False, choices: Choices | None = None
) -> Done:
  """Measures and writes; returns what is measured of these heads, or of the chosen ones."""
  begun = begin(options, DEFINING)
  path = begun.path
  setting = begun.setting | {'head_task': str(begun.features.train)}
  done = read_done(path, setting)
  # The file is locked at the first write, so that a refused command leaves no folder.
  locked = functools.cache(lock_file)
  chosen = None if choices is None else {(each['task'], each['head']) for each in choices}
  pairs = [
    each
    for each in measurements(begun, options, official_runs)
    if chosen is None or each[:2] in chosen
  ]
  keys = [each[:2] for each in pairs]
  for task, head, measure in pairs:
    if (task, head) not in done:
      measured = measure()
      locked(path)
      done |= read_done(path, setting) | {(task, head): measured}
      write_done(path, setting, done, keys, choices)
    print_cell(cell(task, head, done, first=first_of(keys, task)))
  locked(path)
  write_done(path, setting, done, keys, choices)
  return {key: done[key] for key in keys}


def choices_of(done: Done) -> Choices:
  """Returns for each task and name of heads the one with the highest accuracy, and all that it had.

  >>> judged = lambda accuracy: Judged(np.full(2, accuracy), 'inductive', 1.0)
  >>> done = {('t', 'ridge:penalty=2'): judged(0.5), ('t', 'ridge'): judged(0.75)}
  >>> [(each['task'], each['head']) for each in choices_of(done)]
  [('t', 'ridge')]
  """
  groups: dict[tuple[str, str], dict[str, Estimate]] = {}
  for (task, head), judged in done.items():
    of_name = groups.setdefault((task, name_in(head)), {})
    of_name[head] = estimate(judged.accuracies)
  return [
    {
      'task': task,
      'head': max(heads, key=lambda head: heads[head].mean),
      'of': {head: each._asdict() for head, each in heads.items()},
    }
    for (task, _), heads in groups.items()
  ]


def first_of(pairs: Sequence[tuple[str, str]], task: str) -> str:
  """Returns the head that others are compared with on a task."""
  return next(head for of, head in pairs if of == task)


def measurements(
  begun: Comparison, options: Options, official_runs: bool
) -> Iterator[tuple[str, str, Callable[[], Judged]]]:
  """Yields task, head, and a function that measures. What several need is made once."""
  heads, features = begun.heads, begun.features
  source = embedded_once(features)
  task = functools.cache(lambda: features.make_task(features.train))
  runs = functools.cache(lambda: runs_of_features(features.embed, options.data_dir))

  @functools.cache
  def ready(i: int) -> Params:
    return ready_params(heads[i], task(), source(features.train, 'train'), options=options)

  def sampled(component: Component, i: int) -> Judged:
    tested, test = features.make_task(component), source(component, options.split)
    head = make_head(heads[i], tested)
    return judge(head, ready(i), tested.objective, test=test, options=options)

  def official(i: int) -> Judged:
    head = make_head(heads[i], task(), WAYS)
    return judge_runs(head, ready(i), runs(), root=roots(options.seed).test)

  for component in features.tests:
    for i, head in enumerate(heads):
      yield component.brief(), head.brief(), partial(sampled, component, i)
  for i, head in enumerate(heads if official_runs else []):
    yield RUNS, head.brief(), partial(official, i)


def read_done(path: Path, setting: Mapping[str, Any]) -> Done:
  """Returns what an earlier run of the same setting has measured.

  Raises:
    ValueError: if the files are of another setting, or damaged.
  """
  if not with_ending(path, '.json').exists():
    return {}
  try:
    return _read_done(path, setting)
  except (zipfile.BadZipFile, EOFError, KeyError, json.JSONDecodeError) as error:
    raise damaged(f'{path}.json or {path}.npz', error) from error


def _read_done(path: Path, setting: Mapping[str, Any]) -> Done:
  record = json.loads(with_ending(path, '.json').read_text(encoding='utf-8'))
  refuse_other(f'{path}.json', record, {**setting, DATA: record.get(DATA)}, remedy='--name')
  check_same_data(path, record.get(DATA, {}), setting[DATA])
  with open(with_ending(path, '.npz'), 'rb') as file, np.load(file) as values:
    of = lambda c: Judged(values[f'{c["task"]}/{c["head"]}'], c['protocol'], c['seconds_per_1000'])
    return {(c['task'], c['head']): of(c) for c in record['cells']}


def _read_before(path: Path) -> dict[str, Any]:
  file = with_ending(path, '.json')
  return json.loads(file.read_text(encoding='utf-8')) if file.exists() else {}


def write_done(
  path: Path,
  setting: Mapping[str, Any],
  done: Done,
  pairs: list[tuple[str, str]],
  choices: Choices | None = None,
) -> None:
  """Writes what is measured: first `pairs` in their order, then what was measured before."""
  order = [key for key in dict.fromkeys([*pairs, *done]) if key in done]
  cells = [cell(task, head, done, first=first_of(order, task)) for task, head in order]
  record = {'cells': cells, **setting, 'command': command_line()}
  before = _read_before(path)
  record[DATA] = before.get(DATA, {}) | setting[DATA]  # also of tasks of earlier commands
  known = before.get('choices', [])
  if choices or known:
    record['choices'] = [*(choices or []), *(each for each in known if each not in (choices or []))]
  values = {'/'.join(key): done[key].accuracies for key in order}
  write_episodes(with_ending(path, '.npz'), values)
  write_text(with_ending(path, '.json'), json.dumps(record, indent=2) + '\n')


def judge(
  learner: MetaLearner,
  params: Params,
  objective: Objective,
  *,
  test: EpisodeSource,
  options: Options,
) -> Judged:
  """Tests a head."""
  root = getattr(roots(options.seed), options.split)
  run = partial(
    evaluate,
    learner,
    objective,
    params,
    source=test,
    root=root,
    parallel=options.parallel,
    warn=False,
  )
  warm = min(WARM * jax.local_device_count(), options.episodes)  # its chunks are those of the test
  run(episodes=warm)
  start = time.perf_counter()
  values = run(episodes=options.episodes)
  seconds = (time.perf_counter() - start) / options.episodes * 1000
  say_not_finite(values)
  return Judged(values['accuracy'], learner.protocol, round(seconds, 3))


def runs_of_features(
  embed: Callable[[EpisodeSource], EpisodeSource], data_dir: str | None
) -> Episode:
  """Returns the 20 official one-shot runs of Omniglot as features, with a leading axis."""
  runs = omniglot_runs(data_dir)
  images = np.concatenate([part.x.reshape(-1, *part.x.shape[2:]) for part in runs[:2]])
  rows = EpisodeSource(lambda key: Episode(*runs[:2]), images)
  halves = jnp.split(embed(rows).data, 2)
  like = lambda part, z: part._replace(x=z.reshape(*part.y.shape, -1))
  return Episode(*(like(part, z) for part, z in zip(runs[:2], halves, strict=True)))


def judge_runs(learner: MetaLearner, params: Params, runs: Episode, *, root: Key) -> Judged:
  """Tests a head on the official runs."""
  keys = jax.vmap(lambda i: learner_key(root, i))(jnp.arange(len(runs.query.y)))
  judged = jax.jit(jax.vmap(partial(judge_queries, learner, cross_entropy, params)))(keys, runs)
  say_not_finite(judged)
  return Judged(np.asarray(judged['accuracy']), learner.protocol, None)


def cell(task: str, head: str, done: Done, *, first: str) -> dict[str, Any]:
  """Returns the record of a head on a task."""
  judged = done[task, head]
  mean, ci95, episodes = estimate(judged.accuracies)
  difference = compare(judged.accuracies, done.get((task, first), judged).accuracies)
  sampled = judged.seconds is not None
  return {
    'task': task,
    'head': head,
    'protocol': judged.protocol,
    'mean': mean,
    'ci95': ci95 if sampled else None,
    'episodes': episodes,
    'difference': [difference.mean, difference.ci95 if sampled else None],
    'seconds_per_1000': judged.seconds,
  }


def print_cell(cell: Mapping[str, Any]) -> None:
  """Says what was measured."""
  said = f'{cell["task"]}: {cell["head"]} ({cell["protocol"]}) {score(cell)}'
  print(f'{said}, {pace(cell)} s per 1,000 episodes')


def score(cell: Mapping[str, Any]) -> str:
  """Returns the accuracy of a cell, and how far it is from the first head's, in percent."""
  mean, ci95 = cell['difference']
  apart = f'{100 * mean:+.2f}' + ('' if ci95 is None else f' ± {100 * ci95:.2f}')
  return f'{format_estimate("accuracy", cell["mean"], cell["ci95"])}, {apart}'


def pace(cell: Mapping[str, Any]) -> str:
  """Returns the seconds of a cell."""
  seconds = cell['seconds_per_1000']
  return NONE if seconds is None else f'{seconds:.2f}'
