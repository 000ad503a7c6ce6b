"""Tricks for new classes in sessions, over a frozen network: experiments/tricks.py."""

import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.output.machine import describe_device, versions
from experiments.output.results import read_json, refuse_other, write_results
from experiments.output.tricks import BASELINE, paired, percent
from experiments.runs.features import component_of, task_maker
from experiments.runs.stream import read_network
from experiments.runs.wrap_up import command_line, say_not_finite
from metakit.data.table import ClassTable, select_classes
from metakit.dispatch import make_dispatch, train_until
from metakit.episodes import augment, few_shot
from metakit.episodes.class_incremental import Sessions
from metakit.episodes.image_transforms import shift_image
from metakit.evaluation import calibrate, embed_source, evaluate
from metakit.evaluation.sessions import judge_sessions
from metakit.heads import class_mean_stream
from metakit.incremental import (
  Tricks,
  base_learner,
  base_sessions,
  free_weights,
  training_rows,
  tuned_in_sessions,
)
from metakit.keys import MAX_SEED, roots
from metakit.learners.embedded import embedded
from metakit.lock import lock_file
from metakit.models import Model
from metakit.objectives import cross_entropy
from metakit.sources import EpisodeSource, place
from metakit.tasks import Task, fingerprint_of
from metakit.train import init_state_for
from metakit.types import Examples, MetaLearner, Params

NAMES = 'contrastive', 'prototypes', 'pairs', 'rotations', 'subnetwork'
RECORD = 'tricks.json'
BUDGET_GIB = 2.0


class Options(NamedTuple):
  """The flags of the command, by their names."""

  workdir: str | None
  task: str
  trick: list[str]
  split: str
  network: str
  steps: int
  batch_ways: int
  learning_rate: float
  shift: int
  contrastive: float
  turning: float
  free: float
  session_steps: int
  session_rate: float
  streams: int
  seeds: int
  seed: int
  data_dir: str | None


# Flags that say what is measured, and not how often or where.
DEFINING = (
  *('task', 'split', 'network', 'steps', 'batch_ways', 'learning_rate', 'shift', 'contrastive'),
  *('turning', 'free', 'session_steps', 'session_rate', 'streams'),
)


class Bench(NamedTuple):
  """What all trainings of a seed share.

  Attributes:
    model: the embedding network.
    head: class means of all sessions.
    rows: the rows of the base classes that are trained on.
    train: episodes of them.
    test: streams of sessions.
    seed: the seed.
    kept: params after training, by the tricks that change it.
  """

  model: Model
  head: MetaLearner
  rows: ClassTable
  train: EpisodeSource
  test: EpisodeSource
  seed: int
  kept: dict[tuple[str, ...], Params]


def tricks(options: Options, sizes: Sessions) -> None:
  """Measures what is not in the record yet, and writes it after each training."""
  with one_line_errors(*BAD_INPUT):
    if not options.workdir:
      raise ValueError('--workdir is missing; give the folder of the record')
    if options.seed + options.seeds - 1 > MAX_SEED:
      raise ValueError(f'--seeds={options.seeds} leads beyond the largest seed, {MAX_SEED}')
    sets = [(), *map(read_set, options.trick)]
    task = read_task(options)
    network, model = read_network(options.network)
    path = Path(options.workdir) / RECORD
    setting = {name: getattr(options, name) for name in DEFINING} | {'sizes': sizes._asdict()}
    setting |= {'network': str(network), 'task': str(component_of(options.task))}
    setting['data'] = {part: fingerprint_of(task, part) for part in ('train', options.split)}
    bench = bench_of(task, model, options.seed, options=options, sizes=sizes)
    for chosen in sets:
      learner_of(bench, chosen, options, sizes=sizes)  # numbers that make no sense come first
    path.parent.mkdir(parents=True, exist_ok=True)
    lock_file(path)
    cells = stored_cells(path, setting)
    setting |= {'device': describe_device(), 'versions': versions(), 'command': command_line()}

    def keep(name: str, seed: int, values: dict[str, Any]) -> None:
      cells.setdefault(name, {'tricks': name, 'seeds': {}})['seeds'][str(seed)] = values
      write_results(path, {'cells': [*cells.values()], **setting})
      say(name, seed, values)

    for seed in range(options.seed, options.seed + options.seeds):
      left = {named(each): each for each in sets if not is_known(cells, named(each), seed)}
      if left:
        bench = bench_of(task, model, seed, options=options, sizes=sizes)
      for name, chosen in left.items():
        keep(name, seed, measured(bench, chosen, options, sizes=sizes))
    for name in dict.fromkeys(map(named, sets[1:])):
      print(f'{name}: {effect(cells[name], cells[BASELINE])}')


def is_known(cells: Mapping[str, Any], name: str, seed: int) -> bool:
  return name in cells and str(seed) in cells[name]['seeds']


def read_set(text: str) -> tuple[str, ...]:
  """Reads the names of a set of tricks, and sorts them.

  Raises:
    ValueError: for an unknown name, or one that is there twice.

  >>> read_set('pairs+contrastive')
  ('contrastive', 'pairs')
  """
  names = text.split('+')
  for name in names:
    if name not in NAMES:
      raise ValueError(f'--trick={text}: {name!r} is unknown; use {", ".join(NAMES)}, joined by +')
    if names.count(name) > 1:
      raise ValueError(f'--trick={text} names {name} twice')
  return tuple(name for name in NAMES if name in names)


def named(chosen: Sequence[str]) -> str:
  """Returns the name of a set of tricks in the record."""
  return '+'.join(chosen) or BASELINE


def read_task(options: Options) -> Task:
  """Returns the task.

  Raises:
    ValueError: for one without classes.
  """
  task = task_maker(options.data_dir, BUDGET_GIB)(component_of(options.task))
  if task.table is None or not task.objective.classifies:
    raise ValueError(f'{options.task} has no classes to make sessions of')
  return task


def stored_cells(path: Path, setting: dict[str, Any]) -> dict[str, dict[str, Any]]:
  """Returns the cells of a record, by their names; none if there is no record.

  Raises:
    ValueError: if it is of another setting.
  """
  if not path.exists():
    return {}
  stored = read_json(path)
  refuse_other(path, stored, setting, remedy='--workdir')
  return {cell['tricks']: cell for cell in stored['cells']}


def bench_of(task: Task, model: Model, seed: int, *, options: Options, sizes: Sessions) -> Bench:
  """Draws the base classes of a seed, and makes their episodes.

  Raises:
    ValueError: for too few classes or rows.
  """
  assert task.table is not None
  classes = task.table('train')
  if sizes.base_ways > len(classes.counts):
    raise ValueError(
      f'--base_ways={sizes.base_ways} exceeds the {len(classes.counts)} training classes'
    )
  drawn = np.random.default_rng(seed).permutation(len(classes.counts))[: sizes.base_ways]
  base = select_classes(classes, drawn)
  test = base_sessions(base, task.table(options.split), sizes)
  rows = training_rows(base, sizes.queries)
  episodes = few_shot(rows, min(options.batch_ways, sizes.base_ways), 1, queries=1)
  if options.shift:
    episodes = augment(episodes, shift_image(options.shift))
  return Bench(model, head_of(sizes.total_ways), rows, place(episodes), place(test), seed, {})


def learner_of(
  bench: Bench, chosen: Sequence[str], options: Options, *, sizes: Sessions
) -> MetaLearner:
  """Returns the learner of the base classes.

  Raises:
    ValueError: if a trick does not suit the network or the images.
  """
  added = Tricks(
    contrastive=options.contrastive * ('contrastive' in chosen),
    prototypes=sizes.total_ways * ('prototypes' in chosen),
    pairs='pairs' in chosen,
    turning=options.turning * ('rotations' in chosen),
  )
  learner = base_learner(bench.model, bench.head, sizes.base_ways, tricks=added)
  keys = roots(bench.seed)
  jax.eval_shape(lambda: learner.init(keys.init, bench.train(keys.train)))
  return learner


def measured(
  bench: Bench, chosen: Sequence[str], options: Options, *, sizes: Sessions
) -> dict[str, Any]:
  """Returns the means over streams of what is known after each session, and what it took."""
  began = time.process_time()
  params = trained(bench, chosen, options, sizes=sizes)
  if 'subnetwork' in chosen:
    learner, params = tuned(bench, params, options)
    source, chunk = bench.test, 1  # a stream has a network of its own, slow side by side
  else:
    learner, chunk = bench.head, None
    source = embed_source(frozen(bench.model, bench.head), params, bench.test)[1]
    params = params['head']
  values = evaluate(
    learner,
    cross_entropy,
    params,
    source=source,
    root=roots(bench.seed).test,
    episodes=options.streams,
    judge=judge_of(sizes),
    chunk=chunk,
    warn=False,
  )
  say_not_finite(values)
  means = {name: value.mean(0).tolist() for name, value in values.items() if name != 'loss'}
  return means | {'processor_seconds': time.process_time() - began}


# One of each, so that the trainings share the programs of their tests.
head_of = functools.lru_cache(maxsize=1)(lambda ways: class_mean_stream(ways, 'cosine'))
judge_of = functools.lru_cache(maxsize=1)(judge_sessions)
frozen = functools.lru_cache(maxsize=1)(embedded)
tuner = functools.lru_cache(maxsize=1)(tuned_in_sessions)


def tuned(bench: Bench, params: Params, options: Options) -> tuple[MetaLearner, Params]:
  """Returns the learner whose sessions tune the sub-network, and its params."""
  steps, rate = options.session_steps, options.session_rate
  learner = tuner(bench.model, bench.head, steps=steps, rate=rate)
  params = {name: params[name] for name in ('body', 'head')}
  labels = np.repeat(np.arange(len(bench.rows.counts), dtype=np.int32), bench.rows.counts)
  base = Examples(np.asarray(bench.rows.x), labels)
  free = free_weights(bench.model, bench.head, params, base=base, share=options.free)
  return learner, {**params, 'free': free}


def trained(bench: Bench, chosen: Sequence[str], options: Options, *, sizes: Sessions) -> Params:
  """Returns the params after training on the base, calibrated."""
  of_base = tuple(name for name in chosen if name != 'subnetwork')
  if of_base in bench.kept:
    return bench.kept[of_base]
  learner, keys = learner_of(bench, chosen, options, sizes=sizes), roots(bench.seed)
  optimizer = optax.adam(optax.cosine_decay_schedule(options.learning_rate, options.steps))
  params = train_until(
    make_dispatch(learner, optimizer, bench.train, keys, tasks_per_step=1),
    init_state_for(learner, optimizer, keys.init, bench.train(keys.train)),
    bench.train,
    first=0,
    stop=options.steps,
    steps_per_dispatch=min(options.steps, 50),
    on_metrics=lambda *_: None,
  ).params
  bench.kept[of_base] = calibrate(learner, params, bench.train, root=keys.calibration)
  return bench.kept[of_base]


def say(name: str, seed: int, values: Mapping[str, Any]) -> None:
  """Prints what is known at the end."""
  known = ', '.join(f'{n} {percent(values[n][-1])}' for n in ('base', 'novel', 'harmonic'))
  print(f'{name}, seed {seed}: {known}, forgetting {percent(values["forgetting"])}', flush=True)


def effect(cell: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
  """Says what a set of tricks changes at the end, with intervals over seeds."""
  names = 'base', 'novel', 'harmonic', 'forgetting'
  return ', '.join(f'{name} {paired(cell, baseline, name).text}' for name in names)
