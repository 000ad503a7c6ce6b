r"""Compares heads on the same features and the same test episodes.

  python -m experiments.compare_heads --workdir=runs/omniglot_prototypical \
      --head=prototypical --head=simpleshot --head=tim --test_task=omniglot:ways=20
  python -m experiments.compare_heads --task=arrays:path=features.npz --workdir=runs/features \
      --head=prototypical --head=ridge

The features are those of a trained run, embedded once, or (--task) the examples themselves. A head
with parameters is meta-trained on features of training classes, in tasks like the first to test on.
The difference is to the first head, paired by episode. Written are NAME.json and, the accuracies of
each episode, NAME.npz.
"""

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.features import (
  Features,
  chosen_heads,
  define_heads,
  embedded_once,
  features_of_flags,
  make_head,
  make_task,
  ready_params,
)
from experiments.flags import define_common
from experiments.pages import markdown_table
from experiments.results import describe_device, format_estimate, versions, write_text
from experiments.runtime import BAD_INPUT, one_line_errors, run
from experiments.specs import Component
from experiments.wrap_up import command_line, write_episodes
from metakit.data.omniglot_runs import WAYS, omniglot_runs
from metakit.evaluate import compare, estimate, evaluate, judge_queries
from metakit.keys import roots
from metakit.objectives import cross_entropy
from metakit.types import Episode, EpisodeSource, MetaLearner, Objective, Params

FLAGS = flags.FLAGS
NONE = '-'
WARM = 64  # episodes that compile a program


def main() -> None:
  with one_line_errors(*BAD_INPUT):
    if FLAGS.omniglot_runs and FLAGS.split != 'test':
      raise ValueError('--omniglot_runs are of test characters; use --split=test')
    heads, features = chosen_heads(), features_of_flags()
    cells, values = compare_all(heads, features)
    record = {'cells': cells, 'split': FLAGS.split, 'seed': FLAGS.seed, **features.description}
    record |= {'command': command_line(), 'device': describe_device(), 'versions': versions()}
    path = Path(FLAGS.workdir) / FLAGS.name
    write_text(path.with_suffix('.json'), json.dumps(record, indent=2) + '\n')
    write_episodes(path.with_suffix('.npz'), values)


def compare_all(
  heads: list[Component], features: Features
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
  """Returns the cells of all heads and tasks, and the accuracies of each episode."""
  sources = embedded_once(features.embed)
  train, task = sources(features.tests[0], 'train'), make_task(features.tests[0])
  ready = [(head, ready_params(head, task, train)) for head in heads]
  cells: list[dict[str, Any]] = []
  values: dict[str, np.ndarray] = {}
  for component in features.tests:
    tested, test = make_task(component), sources(component, FLAGS.split)
    found: dict[str, Judged] = {}
    for head, params in ready:
      found[head.brief()] = own = judge(make_head(head, tested), params, tested.objective, test)
      values[f'{component.brief()}/{head.brief()}'] = own.accuracies
      cells.append(cell(component.brief(), found, head.brief()))
  if FLAGS.omniglot_runs:
    runs = runs_of_features(features.embed)
    found = {h.brief(): judge_runs(make_head(h, task, WAYS), params, runs) for h, params in ready}
    cells += [cell('omniglot_runs', found, name) for name in found]
    values |= {f'omniglot_runs/{name}': own.accuracies for name, own in found.items()}
  return cells, values


class Judged(NamedTuple):
  """What was measured of a head.

  Attributes:
    accuracies: [episodes].
    protocol: of the head.
    seconds: of a thousand episodes, compiled before; None for official runs, which are no sample.
  """

  accuracies: np.ndarray
  protocol: str
  seconds: float | None


def judge(
  learner: MetaLearner, params: Params, objective: Objective, test: EpisodeSource
) -> Judged:
  """Tests a head."""
  given = learner, objective, params, test, getattr(roots(FLAGS.seed), FLAGS.split)
  warm = min(WARM * jax.local_device_count(), FLAGS.episodes)  # the same chunks, compiled
  evaluate(*given, warm, parallel=FLAGS.parallel)
  start = time.perf_counter()
  values = evaluate(*given, FLAGS.episodes, parallel=FLAGS.parallel)['accuracy']
  seconds = (time.perf_counter() - start) / FLAGS.episodes * 1000
  return Judged(values, learner.protocol, round(seconds, 3))


def runs_of_features(embed: Callable[[EpisodeSource], EpisodeSource]) -> Episode:
  """Returns the 20 official one-shot runs of Omniglot as features, with a leading axis."""
  runs = omniglot_runs(FLAGS.data_dir)
  images = np.concatenate([part.x.reshape(-1, *part.x.shape[2:]) for part in runs[:2]])
  rows = EpisodeSource(lambda key: Episode(*runs[:2]), images)
  halves = jnp.split(embed(rows).data, 2)
  like = lambda part, z: part._replace(x=z.reshape(*part.y.shape, -1))
  return Episode(*(like(part, z) for part, z in zip(runs[:2], halves, strict=True)))


def judge_runs(learner: MetaLearner, params: Params, runs: Episode) -> Judged:
  """Tests a head on given episodes."""
  given = partial(judge_queries, learner, cross_entropy, params, roots(FLAGS.seed).test)
  return Judged(np.asarray(jax.jit(jax.vmap(given))(runs)['accuracy']), learner.protocol, None)


def cell(task: str, found: dict[str, Judged], head: str) -> dict[str, Any]:
  """Returns the record of a head on a task, and prints it."""
  first, own = next(iter(found.values())), found[head]
  mean, ci95, episodes = estimate(own.accuracies)
  difference = compare(own.accuracies, first.accuracies)
  known = {
    'task': task,
    'head': head,
    'protocol': own.protocol,
    'mean': mean,
    'ci95': None if own.seconds is None else ci95,
    'episodes': episodes,
    'difference': [difference.mean, None if own.seconds is None else difference.ci95],
    'seconds_per_1000': own.seconds,
  }
  print(f'{task}: {head} ({own.protocol}) {score(known)}, {own.seconds} s per 1,000 episodes')
  return known


def score(cell: Mapping[str, Any]) -> str:
  """Returns the accuracy of a cell and its difference to the first head, in percent."""
  mean, ci95 = cell['difference']
  apart = f'{100 * mean:+.2f}' + ('' if ci95 is None else f' ± {100 * ci95:.2f}')
  return f'{format_estimate("accuracy", cell["mean"], cell["ci95"])}, {apart}'


def table(record: Mapping[str, Any]) -> str:
  """Returns a record of this binary as Markdown: accuracies, then seconds; a row a head."""
  cells = {(each['head'], each['task']): each for each in record['cells']}
  names, tested = ([*dict.fromkeys(key[i] for key in cells)] for i in (0, 1))

  def rows(show: Callable[[Mapping[str, Any]], str]) -> list[list[str]]:
    shown = lambda name: (cells.get((name, task)) for task in tested)
    return [[f'`{name}`', *(show(c) if c else NONE for c in shown(name))] for name in names]

  episodes = max(each['episodes'] for each in record['cells'])
  columns = ['head', *(f'`{task}`' for task in tested)]
  return (
    f'## {record["row"]}\n\n{episodes:,} {record["split"]} episodes each, on {record["device"]}; '
    f'after the comma is the difference to `{names[0]}`, paired by episode; omniglot_runs are the '
    f'20 official ones.\n`{record["command"]}`\n\n{markdown_table(columns, rows(score))}\n\n'
    f'Seconds per 1,000 episodes, after compilation:\n\n{markdown_table(columns, rows(pace))}\n'
  )


def pace(cell: Mapping[str, Any]) -> str:
  """Returns the seconds of a cell."""
  seconds = cell['seconds_per_1000']
  return NONE if seconds is None else f'{seconds:.2f}'


if __name__ == '__main__':
  define_common()
  define_heads()
  flags.DEFINE_bool('omniglot_runs', False, 'also the 20 official one-shot runs (20-way)')
  run(main, __doc__)
