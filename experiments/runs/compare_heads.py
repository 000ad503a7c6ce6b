"""Compares heads on the same features and the same test episodes: experiments/compare_heads.py."""

import functools
import json
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
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
from metakit.components.specs import Component
from metakit.data.files import damaged
from metakit.data.omniglot_runs import WAYS, omniglot_runs
from metakit.estimates import compare, estimate
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


def compare_heads(options: Options, official_runs: bool = False) -> None:
  """Measures what is not measured yet, and writes all after each measurement.

  Args:
    options: the flags.
    official_runs: whether to test on the official runs of Omniglot too.
  """
  with one_line_errors(*BAD_INPUT):
    if official_runs and options.split != 'test':
      raise ValueError('--omniglot_runs are of test characters; use --split=test')
    begun = begin(options, DEFINING)
    heads, path = begun.heads, begun.path
    setting = begun.setting | {'head_task': str(begun.features.train)}
    done = read_done(path, setting)
    # The file is locked at the first write, so that a refused command leaves no folder.
    locked = functools.cache(lock_file)
    pairs = list(measurements(begun, options, official_runs))
    for task, head, measure in pairs:
      if (task, head) not in done:
        measured = measure()
        locked(path)
        done |= read_done(path, setting) | {(task, head): measured}
        write_done(path, setting, done, [each[:2] for each in pairs])
      print_cell(cell(task, head, done, first=heads[0].brief()))
    locked(path)
    write_done(path, setting, done, [each[:2] for each in pairs])


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


def _checksums_before(path: Path) -> dict[str, str | None]:
  file = path.with_suffix('.json')
  return json.loads(file.read_text(encoding='utf-8')).get(DATA, {}) if file.exists() else {}


def write_done(
  path: Path, setting: Mapping[str, Any], done: Done, pairs: list[tuple[str, str]]
) -> None:
  """Writes what is measured: first `pairs` in their order, then what was measured before."""
  order = [key for key in dict.fromkeys([*pairs, *done]) if key in done]
  cells = [cell(task, head, done, first=pairs[0][1]) for task, head in order]
  record = {'cells': cells, **setting, 'command': command_line()}
  record[DATA] = _checksums_before(path) | setting[DATA]  # also of tasks of earlier commands
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
